package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab/nodeinit"
)

// libvirtFiles is what libvirtd wants of a node. It comes from package libvirt-daemon alone:
// libvirt-daemon-system brings units, accounts and polkit, which nobody looks after here.
// QEMU runs as root without a security label, a mount namespace or control groups, none of
// which the node's kernel or its /dev would let it have; the other node's libvirtd migrates
// guests to it over plain TCP, which is why the node's UUID must not be the host's, which
// dmidecode would tell every node.
var libvirtFiles = map[string]string{
	"/etc/libvirt/qemu.conf": `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
migration_address = "{address}"
`,
	"/etc/libvirt/libvirtd.conf": `listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "{uuid}"
`,
	"/etc/libvirt/virtlogd.conf": "",
}

// libvirtPrepare makes the directories and the accounts that Debian's libvirt is built with.
const libvirtPrepare = `set -e
mkdir -p /var/log/libvirt/qemu /var/lib/libvirt/qemu /var/cache/libvirt/qemu /run/libvirt /etc/libvirt/qemu
account() { grep -q "^$2:" /etc/$1 || echo "$3" >>/etc/$1; }
account passwd libvirt-qemu libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin
account group libvirt-qemu libvirt-qemu:x:64055:
account group libvirt libvirt:x:64056:
account group kvm kvm:x:64057:`

// The names under which StartLibvirt and StartCompute start programs in a node.
const (
	procVirtlogd = "virtlogd"
	procLibvirtd = "libvirtd"
	procCompute  = "nova-compute"
)

// hostUUID is a UUID of the node's own, the same after each boot.
func hostUUID(host int) string { return fmt.Sprintf("a4d0c1f2-7a0f-4c52-9f8e-0277000000%02x", host) }

// StartLibvirt starts virtlogd and libvirtd in the node and waits until libvirtd answers.
// It takes about 20 s: libvirtd asks QEMU what it can do. The node wants 1.4 GiB of memory
// for a virtual machine of 128 MiB, nova-compute and an agent, and the packages of
// `devstack/packages.sh libvirt`.
func (n *Node) StartLibvirt(ctx context.Context) error {
	if _, err := os.Stat("/usr/sbin/libvirtd"); err != nil {
		return fmt.Errorf("libvirt of node %s: %w; run devstack/packages.sh libvirt", n.Name(), err)
	}
	if _, err := n.Run(ctx, "sh", "-c", libvirtPrepare); err != nil {
		return fmt.Errorf("libvirt of node %s: %w", n.Name(), err)
	}
	own := strings.NewReplacer("{address}", n.IP(), "{uuid}", hostUUID(n.st.Host))
	for path, text := range libvirtFiles {
		if err := n.WriteFile(ctx, path, 0o644, own.Replace(text)); err != nil {
			return fmt.Errorf("libvirt of node %s: %w", n.Name(), err)
		}
	}
	for _, p := range []struct{ name, path string }{{procVirtlogd, "/usr/sbin/virtlogd"}, {procLibvirtd, "/usr/sbin/libvirtd"}} {
		argv := []string{p.path}
		if p.name == procLibvirtd {
			argv = append(argv, "--listen")
		}
		if _, err := n.Start(ctx, p.name, Command{Argv: argv}); err != nil {
			return err
		}
	}
	return n.answers(ctx, procLibvirtd, func(ctx context.Context) error {
		_, err := n.Run(ctx, "virsh", "-c", "qemu:///system", "version")
		return err
	})
}

// answers polls until a program of the node does what is asked of it.
func (n *Node) answers(ctx context.Context, name string, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of node %s does not answer: %w%s", name, n.Name(), err, tail(n.LogPath(name)))
		case <-t.C:
		}
	}
}

// libvirtConf comes on top of novaConf in a node where nova-compute drives libvirt. Nothing
// is shared between such nodes. Without a heartbeat the broker does not close the connection
// while the node's one processor emulates.
const libvirtConf = `[DEFAULT]
host = %[1]s
my_ip = %[2]s
state_path = %[3]s
instances_path = %[3]s/instances
compute_driver = libvirt.LibvirtDriver
reserved_host_memory_mb = 0
debug = true
[libvirt]
virt_type = qemu
cpu_mode = none
live_migration_inbound_addr = %[2]s
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 0
[cache]
enabled = false
[oslo_concurrency]
lock_path = %[3]s/lock
`

// databaseRE finds the databases in novaConf.
var databaseRE = regexp.MustCompile(`(?m)^connection = .*\n`)

// computeMain is nova-compute of a machine where it is root and needs nobody to be root for
// it: a privsep daemon for each of Nova and os-brick would only cost memory.
const computeMain = `import sys; sys.argv[0] = 'nova-compute'
from nova.cmd.compute import main
import nova.privsep, os_brick.privileged
for context in (nova.privsep.sys_admin_pctxt, os_brick.privileged.default):
    context.set_client_mode(False)
sys.exit(main())`

// StartCompute starts libvirt and a nova-compute that drives it in a node, and returns when
// Nova may put servers there. Nova must run. The host is called like the node, as the
// project's agent is. The servers' console logs and state are in /var/lib/vmthunder/nova.
func (l *Lab) StartCompute(ctx context.Context, n *Node) error {
	if err := n.StartLibvirt(ctx); err != nil {
		return err
	}
	const dir, etc = nodeinit.StateDir + "/nova", "/etc/vmthunder-nova"
	if _, err := n.Run(ctx, "mkdir", "-p", dir+"/instances", dir+"/lock", etc); err != nil {
		return err
	}
	conf, err := os.ReadFile(l.novaConf())
	if err != nil {
		return err
	}
	// Copies, as a node's kernel does not notice a change of the host's files. A compute host
	// has no business with the databases.
	for name, text := range map[string]string{
		"nova.conf":    databaseRE.ReplaceAllString(string(conf), ""),
		"compute.conf": fmt.Sprintf(libvirtConf, n.Name(), n.IP(), dir),
	} {
		if err := n.WriteFile(ctx, etc+"/"+name, 0o600, text); err != nil {
			return err
		}
	}
	argv := []string{"/usr/bin/python3", "-c", computeMain, "--config-file", etc + "/nova.conf", "--config-file", etc + "/compute.conf"}
	if _, err := n.Start(ctx, procCompute, Command{Argv: argv, Env: []string{"PYTHONWARNINGS=ignore"}}); err != nil {
		return err
	}
	err = n.answers(ctx, procCompute, func(ctx context.Context) error {
		c, err := l.count(ctx, "placement", `SELECT count(*) FROM resource_providers p JOIN inventories i ON i.resource_provider_id = p.id WHERE p.name = $1`, n.Name())
		if err == nil && c == 0 {
			err = errors.New("no inventory in Placement")
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.mapHosts(ctx)
}

// StopCompute ends what StartCompute has started, and takes the host from Nova.
func (l *Lab) StopCompute(ctx context.Context, n *Node) error {
	var errs []error
	for _, p := range []string{procCompute, procLibvirtd, procVirtlogd} {
		_, err := n.Stop(ctx, p, 20*time.Second)
		errs = append(errs, err)
	}
	c := &identityClient{http: l.HTTPClient(), url: l.KeystoneURL()}
	if err := c.login(ctx, "admin", "admin"); err != nil {
		return errors.Join(append(errs, err)...)
	}
	c.url = l.NovaURL()
	var out struct {
		Services []struct{ ID any }
	}
	_, err := c.do(ctx, http.MethodGet, "/os-services?binary=nova-compute&host="+n.Name(), nil, &out)
	errs = append(errs, err)
	for _, s := range out.Services {
		_, err := c.do(ctx, http.MethodDelete, fmt.Sprint("/os-services/", s.ID), nil, nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ServerConsole is the path, in its node, of what a server has printed on its serial port.
func ServerConsole(server string) string {
	return filepath.Join(nodeinit.StateDir, "nova", "instances", strings.TrimSpace(server), "console.log")
}
