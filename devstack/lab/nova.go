package lab

import (
	"context"
	_ "embed" // the driver below
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// novaConf is shared by all of Nova's programs. Without networks there is nothing to wait
// for. Nova sends a service token along, as is needed to detach volumes.
// A host whose processor emulates a guest's may be too busy to report for a minute.
const novaConf = `[DEFAULT]
my_ip = %[1]s
host = controller
state_path = %[2]s
transport_url = %[3]s
heal_instance_info_cache_interval = -1
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
block_device_allocate_retries = 120
block_device_allocate_retries_interval = 1
instance_usage_audit = false
service_down_time = 300
[api]
auth_strategy = keystone
[api_database]
connection = %[4]s
max_pool_size = 5
max_overflow = 20
[database]
connection = %[5]s
max_pool_size = 5
max_overflow = 20
[keystone_authtoken]
www_authenticate_uri = %[6]s
memcached_servers = 127.0.0.1:%[7]d
service_token_roles = service
service_token_roles_required = true
%[8]s[service_user]
send_service_user_token = true
%[8]s[placement]
%[9]s[glance]
api_servers = %[10]s
[cinder]
catalog_info = volumev3::publicURL
os_region_name = %[11]s
%[8]s[neutron]
endpoint_override = %[12]s
%[8]s[cache]
enabled = true
backend = dogpile.cache.pymemcache
memcache_servers = 127.0.0.1:%[7]d
[conductor]
workers = 1
[scheduler]
workers = 1
[quota]
instances = 1000
cores = -1
ram = -1
[oslo_concurrency]
lock_path = %[2]s/lock
[vnc]
enabled = false
`

// computeConf comes on top of novaConf in the compute service of one host.
const computeConf = `[DEFAULT]
host = %[1]s
my_ip = %[2]s
state_path = %[3]s
instances_path = %[3]s/instances
compute_driver = vmthunder_lab.Driver
[oslo_concurrency]
lock_path = %[3]s/lock
`

// novaDriver is the virt driver: Nova's own fake, whose connector is that of a host.
//
//go:embed nova_driver.py
var novaDriver []byte

// NovaURL is the compute API, http://10.77.0.1:28774/v2.1.
func (l *Lab) NovaURL() string {
	return "http://" + HostAddress + ":" + strconv.Itoa(PortNova) + "/v2.1"
}

// Computes are the hosts that Nova has a compute service for.
func (l *Lab) Computes() []string { return slices.Clone(l.st.Computes) }

func (l *Lab) novaDir() string  { return filepath.Join(l.dir, "nova") }
func (l *Lab) novaConf() string { return filepath.Join(l.novaDir(), "nova.conf") }

// ComputeProcess is the name of the process and the log of a host's nova-compute.
func ComputeProcess(host string) string { return "nova-compute-" + host }

func (l *Lab) novaProcesses() []string {
	out := []string{"nova-conductor", "nova-scheduler"}
	for _, h := range l.st.Computes {
		out = append(out, ComputeProcess(h))
	}
	return out
}

func (l *Lab) writeNovaConf() error {
	d := l.novaDir()
	files := map[string][]byte{
		"nova.conf": fmt.Appendf(nil, novaConf, HostAddress, d, l.TransportURL(), sqlalchemyURL("nova_api"), sqlalchemyURL("nova"),
			l.KeystoneURL(), PortMemcached, l.passwordAuth("nova"), l.passwordAuth("placement"), l.GlanceURL(), Region, l.NeutronURL()),
		"driver/vmthunder_lab.py": novaDriver,
	}
	for _, h := range l.st.Computes {
		address := HostAddress
		if n, err := l.Node(h); err == nil {
			address = n.IP()
		}
		files["compute-"+h+".conf"] = fmt.Appendf(nil, computeConf, h, address, filepath.Join(d, h))
	}
	const paste = "api-paste.ini"
	b, err := os.ReadFile(filepath.Join("/usr/share/nova-common", paste))
	if err != nil {
		return fmt.Errorf("%w; run devstack/packages.sh nova", err)
	}
	files[paste] = b
	for name, text := range files {
		path := filepath.Join(d, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) novaManage(ctx context.Context, args ...string) error {
	return l.python(ctx, "nova-manage", append([]string{"/usr/bin/nova-manage", "--config-file", l.novaConf()}, args...)...)
}

// initNova makes the three databases, unless they are there: of the API, of the cell for
// servers that never found a host, and of the one real cell.
func (l *Lab) initNova(ctx context.Context) error {
	if err := l.writeNovaConf(); err != nil {
		return err
	}
	have, err := l.hasDatabase(ctx, "nova")
	if err != nil || have {
		return err
	}
	l.progress("nova: making its databases")
	for _, d := range []string{"nova_api", "nova_cell0", "nova"} {
		if err := l.CreateDatabase(ctx, d); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"api_db", "sync"},
		{"cell_v2", "map_cell0", "--database_connection", sqlalchemyURL("nova_cell0")},
		{"cell_v2", "create_cell", "--name", "cell1"},
		{"db", "sync"},
	} {
		if err := l.novaManage(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startNova(ctx context.Context) error {
	if err := l.initNova(ctx); err != nil {
		return err
	}
	c := &identityClient{http: l.HTTPClient(), url: l.KeystoneURL()}
	if err := c.login(ctx, "admin", "admin"); err != nil {
		return err
	}
	if err := c.setupCatalog(ctx, []catalogEntry{{"compute", "nova", l.NovaURL()}, {"placement", "placement", l.PlacementURL()}}); err != nil {
		return err
	}
	for _, name := range l.novaProcesses() {
		if err := l.startNovaProc(name); err != nil {
			return err
		}
	}
	err := l.startUWSGI(ctx, Nova, PortNova, "/usr/bin/nova-api-wsgi", "/", "OS_NOVA_CONFIG_DIR="+l.novaDir())
	if err != nil {
		return err
	}
	if err := l.ensureFlavors(ctx, c.token); err != nil {
		return err
	}
	return l.discoverComputes(ctx)
}

// startNovaProc starts one of Nova's daemons. Debian's launchers are in packages that want
// systemd, libvirt and more; they do no more than this.
func (l *Lab) startNovaProc(name string) error {
	module, conf, before := strings.TrimPrefix(name, "nova-"), []string{"--config-file", l.novaConf()}, ""
	if host, ok := strings.CutPrefix(name, ComputeProcess("")); ok {
		module = "compute"
		conf = append(conf, "--config-file", filepath.Join(l.novaDir(), "compute-"+host+".conf"))
		if err := os.MkdirAll(filepath.Join(l.novaDir(), host, "instances"), 0o755); err != nil {
			return err
		}
		// Drivers are looked for in package nova.virt only, so it is made to reach further.
		before = fmt.Sprintf("import nova.virt; nova.virt.__path__.append(%q); ", filepath.Join(l.novaDir(), "driver"))
	}
	code := fmt.Sprintf("import sys; sys.argv[0] = 'nova-%[1]s'; from nova.cmd.%[1]s import main; %[2]ssys.exit(main())", module, before)
	_, err := l.startProc(spec{
		name: name, argv: append([]string{"/usr/bin/python3", "-c", code}, conf...), dir: "/", log: l.LogPath(name),
		env: cleanEnv(filepath.Join(l.dir, "home"), "PYTHONWARNINGS=ignore"),
	})
	return err
}

// discoverComputes waits until every compute service has told Placement what it has, and
// takes the new ones into the cell.
func (l *Lab) discoverComputes(ctx context.Context) error {
	for _, h := range l.st.Computes {
		p, ok := l.procOf(ComputeProcess(h))
		if !ok {
			return fmt.Errorf("nova-compute of %s has ended%s", h, tail(l.LogPath(ComputeProcess(h))))
		}
		err := ready(ctx, p, func(ctx context.Context) error {
			n, err := l.count(ctx, "placement", `SELECT count(*) FROM resource_providers p JOIN inventories i ON i.resource_provider_id = p.id WHERE p.name = $1`, h)
			if err == nil && n == 0 {
				err = errors.New("no inventory in Placement")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("nova-compute of %s: %w%s", h, err, tail(l.LogPath(ComputeProcess(h))))
		}
	}
	mapped, err := l.count(ctx, "nova_api", `SELECT count(*) FROM host_mappings`)
	if err != nil || mapped >= len(l.st.Computes) {
		return err
	}
	return l.mapHosts(ctx)
}

// mapHosts takes new compute hosts into the cell. Two of these at once stumble over each other
// ("Duplicate host mapping was encountered").
func (l *Lab) mapHosts(ctx context.Context) error {
	l.mapping.Lock()
	defer l.mapping.Unlock()
	return l.novaManage(ctx, "cell_v2", "discover_hosts")
}

// count runs a query for one number in a service's database.
func (l *Lab) count(ctx context.Context, database, query string, args ...any) (n int, err error) {
	db, err := l.openDatabase(database)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// ensureFlavors makes m1.nano (64 MiB of memory) and m1.micro (128 MiB), which are also
// their ids, with 1 GiB of disk each.
func (l *Lab) ensureFlavors(ctx context.Context, token string) error {
	c := &identityClient{http: l.HTTPClient(), url: l.NovaURL(), token: token}
	for name, ram := range map[string]int{"m1.nano": 64, "m1.micro": 128} {
		if _, err := c.do(ctx, http.MethodGet, "/flavors/"+name, nil, nil); err == nil {
			continue
		}
		body := object{"flavor": object{"id": name, "name": name, "ram": ram, "disk": 1, "vcpus": 1}}
		if _, err := c.do(ctx, http.MethodPost, "/flavors", body, nil); err != nil {
			return fmt.Errorf("flavor %s: %w", name, err)
		}
	}
	return nil
}
