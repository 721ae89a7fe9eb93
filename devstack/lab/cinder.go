package lab

import (
	"context"
	"crypto/md5" //nolint:gosec // os-brick's naming, no secret
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cinderConf is what an operator must set; all else is Cinder's default.
const cinderConf = `[DEFAULT]
my_ip = %[1]s
host = lab
state_path = %[2]s
transport_url = %[3]s
auth_strategy = keystone
api_paste_config = %[2]s/api-paste.ini
resource_query_filters_file = %[2]s/resource_filters.json
rootwrap_config = /etc/cinder/rootwrap.conf
glance_api_servers = %[4]s
enabled_backends = nfs
[nfs]
volume_driver = cinder.volume.drivers.nfs.NfsDriver
volume_backend_name = nfs
nfs_shares_config = %[2]s/nfs_shares
nfs_mount_point_base = %[2]s/mnt
[coordination]
backend_url = file://%[2]s
[database]
connection = %[5]s
max_pool_size = 5
max_overflow = 20
[keystone_authtoken]
www_authenticate_uri = %[6]s
memcached_servers = 127.0.0.1:%[7]d
service_token_roles = service
service_token_roles_required = true
%[8]s
[service_user]
send_service_user_token = true
%[8]s
[oslo_concurrency]
lock_path = %[2]s/lock
[oslo_messaging_rabbit]
# What the broker's own setting asks for; with a longer time it hangs up now and then.
heartbeat_timeout_threshold = 10
`

const serviceUser = `auth_type = password
auth_url = %s
region_name = %s
project_domain_name = Default
user_domain_name = Default
project_name = service
username = cinder
password = %s`

const (
	cinderShare = HostAddress + ":/volumes"
	// cinderVolume and cinderScheduler are the processes beside the API, whose name is the service's.
	cinderVolume    = "cinder-volume"
	cinderScheduler = "cinder-scheduler"
)

func (l *Lab) cinderDir() string { return filepath.Join(l.dir, "cinder") }

// CinderStore is the host directory with the real Cinder's volumes: sparse raw files
// named volume-ID.
func (l *Lab) CinderStore() string {
	// os-brick mounts a share on a directory named by its MD5 sum.
	sum := md5.Sum([]byte(cinderShare)) //nolint:gosec // see above
	return filepath.Join(l.cinderDir(), "mnt", hex.EncodeToString(sum[:]))
}

// CinderURL is the real Cinder's API, for PointCatalog; it holds %(project_id)s.
func (l *Lab) CinderURL() string { return "http://" + hostPort(PortCinder) + "/v3/%(project_id)s" }

func (l *Lab) cinderConfPath() string { return filepath.Join(l.cinderDir(), "cinder.conf") }

func (l *Lab) writeCinderConf() error {
	d := l.cinderDir()
	for _, s := range []string{filepath.Join(d, "bin"), filepath.Join(d, "lock"), l.CinderStore()} {
		if err := os.MkdirAll(s, 0o755); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{
		"/usr/share/cinder-common/api-paste.ini": "api-paste.ini",
		"/etc/cinder/resource_filters.json":      "resource_filters.json",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("%w; run devstack/packages.sh peer", err)
		}
		if err := os.WriteFile(filepath.Join(d, to), b, 0o644); err != nil { //nolint:gosec // Debian's own text
			return err
		}
	}
	for name, program := range map[string]string{
		"sudo":      "/usr/bin/env",   // Cinder's way to root, which it is here
		"mount.nfs": "/usr/bin/false", // the driver wants that there is one
	} {
		if err := os.Symlink(program, filepath.Join(d, "bin", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	user := fmt.Sprintf(serviceUser, l.KeystoneURL(), Region, Password)
	text := fmt.Sprintf(cinderConf, HostAddress, d, l.TransportURL(), l.GlanceURL(), sqlalchemyURL("cinder"), l.KeystoneURL(), PortMemcached, user)
	if err := os.WriteFile(l.cinderConfPath(), []byte(text), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d, "nfs_shares"), []byte(cinderShare+"\n"), 0o644) //nolint:gosec // no secret
}

// initCinder makes the real Cinder's configuration, and its database unless it is there.
func (l *Lab) initCinder(ctx context.Context) error {
	if err := l.writeCinderConf(); err != nil {
		return err
	}
	have, err := l.hasDatabase(ctx, "cinder")
	if err != nil || have {
		return err
	}
	l.progress("cinder: making its database")
	if err := l.CreateDatabase(ctx, "cinder"); err != nil {
		return err
	}
	return l.python(ctx, "cinder-manage", "/usr/bin/cinder-manage", "--config-file", l.cinderConfPath(), "db", "sync")
}

// startCinder starts the real Cinder: API, scheduler, and cinder-volume with its NFS
// driver. There is no NFS: the driver takes a share for mounted when its directory is a
// mount point already, and in cinder-volume's own mount table it is, bound to itself.
func (l *Lab) startCinder(ctx context.Context) error {
	if err := l.initCinder(ctx); err != nil {
		return err
	}
	env := cleanEnv(filepath.Join(l.dir, "home"), "PYTHONWARNINGS=ignore",
		"PATH="+filepath.Join(l.cinderDir(), "bin")+":/usr/sbin:/usr/bin:/sbin:/bin")
	daemon := func(name, bind string) (procID, error) {
		// Debian's launchers are in packages that want systemd, LVM and more; they do no more than this.
		main := fmt.Sprintf("import sys; sys.argv[0] = %q; from cinder.cmd.%s import main; sys.exit(main())", name, strings.TrimPrefix(name, "cinder-"))
		return l.startProc(spec{
			name: name, argv: []string{"/usr/bin/python3", "-c", main, "--config-file", l.cinderConfPath()},
			dir: "/", env: env, log: l.LogPath(name), bind: bind,
		})
	}
	if _, err := daemon(cinderScheduler, ""); err != nil {
		return err
	}
	var told int64 // by earlier runs
	if st, err := os.Stat(l.LogPath(cinderVolume)); err == nil {
		told = st.Size()
	}
	volume, err := daemon(cinderVolume, l.CinderStore())
	if err != nil {
		return err
	}
	err = l.startUWSGI(ctx, Cinder, PortCinder, "/usr/bin/cinder-wsgi", "/", "UWSGI_PYARGV=--config-file "+l.cinderConfPath())
	if err != nil {
		return err
	}
	err = waitLine(ctx, l.LogPath(cinderVolume), told, volume, func(line string) (bool, error) {
		return strings.Contains(line, "Driver post RPC initialization completed successfully"), nil
	})
	if err == nil {
		err = l.waitPool(ctx, volume)
	}
	if err != nil {
		return fmt.Errorf("no storage pool: %w%s", err, tail(l.LogPath(cinderVolume)))
	}
	return nil
}

// waitPool waits until the scheduler, asked through the API, knows a pool that it can place
// volumes in: then cinder-volume's report has reached it.
func (l *Lab) waitPool(ctx context.Context, volume procID) error {
	token, err := l.Token(ctx, "admin", "admin")
	if err != nil {
		return err
	}
	// Without a project in its path, as API version 3.67 and later have it.
	c := &identityClient{http: l.HTTPClient(), url: "http://" + hostPort(PortCinder) + "/v3", token: token}
	return ready(ctx, volume, func(ctx context.Context) error {
		var answer struct {
			Pools []struct{ Name string }
		}
		if _, err := c.do(ctx, http.MethodGet, "/scheduler-stats/get_pools", nil, &answer); err != nil {
			return err
		}
		if len(answer.Pools) == 0 {
			return errors.New("the scheduler knows of none")
		}
		return nil
	})
}

// cinderVersion names the package that makes the database; empty if it is not installed.
func cinderVersion(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Version}", "python3-cinder")
	cmd.Env = cleanEnv("/root")
	out, _ := cmd.Output() // what is missing is told by the start
	return string(out)
}
