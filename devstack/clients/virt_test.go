//go:build lab

package clients

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Nova's libvirt driver and QEMU, by the openstack command: a server boots on its volume, gets
// another, moves to another host and back while it runs, and goes. Each step needs those
// before it.
func TestLibvirt(t *testing.T) {
	if testing.Short() {
		t.Skip("short: QEMU's emulation takes eight minutes")
	}
	line := Line{Client: "Nova 26 with libvirt", Note: "QEMU's emulation in two nodes"}
	defer func() { table.Add(line) }()
	steps := []struct {
		name string
		f    func(*virt)
	}{
		{"Hosts", virtHosts},
		{"Boot", virtBoot},
		{"AttachDetach", virtAttachDetach},
		{"LiveMigrate", virtLiveMigrate},
		{"Reboot", virtReboot},
		{"LiveMigrateBack", virtLiveMigrateBack},
		{"Delete", virtDelete},
	}
	v := newVirt(t)
	for i, c := range steps {
		start := time.Now()
		ok := t.Run(c.name, func(t *testing.T) {
			x := *v.nova
			x.t, v.nova, v.shell.t = t, &x, t
			c.f(v)
			t.Logf("took %.0f s", time.Since(start).Seconds())
		})
		if !ok {
			line.Failed += len(steps) - i
			line.Failures = append(line.Failures, c.name+" and what comes after it: see its output")
			v.explain(t)
			return
		}
		line.Passed++
	}
}

// virtHosts: Nova knows the two hosts by the names of their agents.
func virtHosts(v *virt) {
	out := v.openstack("compute", "service", "list", "--service", "nova-compute", "-f", "value", "-c", "Host", "-c", "State")
	for _, h := range []string{virt1, virt2} {
		if !slices.Contains(strings.Split(out, "\n"), h+" up") {
			v.t.Errorf("%s is not up:\n%s", h, out)
		}
	}
}

// virtBoot: a server from an image, whose disk Nova has a volume made for; it says on its
// serial port that it runs and that its disk is as the image was.
func virtBoot(v *virt) {
	v.server = strings.TrimSpace(v.openstack("server", "create", "--flavor", "m1.micro", "--nic", "none", "--host", virt1,
		"--image", lab.ImageRaw, "--boot-from-volume", "1", "-f", "value", "-c", "id", "vm"))
	s := v.become(v.server, "ACTIVE")
	if s.Host != virt1 || len(s.Volumes) != 1 {
		v.t.Fatalf("%+v", s)
	}
	v.root = s.Volumes[0].ID
	v.openstack("server", "volume", "update", "--delete-on-termination", v.server, v.root) // the command has no option to create it so
	v.used(v.root, s)
	v.booted(virt1, 1)
	v.disks(virt1, "/dev/mapper/vmthunder-volume-"+v.root)
}

// virtAttachDetach: a second volume comes, goes, and comes again while the guest runs. What is
// written through the guest's own disk is what the host's device holds.
func virtAttachDetach(v *virt) {
	v.data = v.newVolume("data", "")
	root, data := "/dev/mapper/vmthunder-volume-"+v.root, "/dev/mapper/vmthunder-volume-"+v.data
	v.openstack("server", "add", "volume", v.server, v.data)
	v.waitStatus(v.data, "in-use")
	v.used(v.data, v.nova.server(v.server))
	v.disks(virt1, root, data)
	v.write(virt1, 0)
	v.holds(0)

	v.openstack("server", "remove", "volume", v.server, v.data)
	v.waitStatus(v.data, "available")
	v.free(v.data)
	v.disks(virt1, root)

	v.openstack("server", "add", "volume", v.server, v.data)
	v.waitStatus(v.data, "in-use")
	v.disks(virt1, root, data)
	v.holds(0)
	v.write(virt1, 1)
}

// virtLiveMigrate: the guest goes on on the other host, which reaches both volumes at their
// home.
func virtLiveMigrate(v *virt) {
	v.migrate(virt1, virt2)
	s := v.nova.server(v.server)
	for _, volume := range []string{v.root, v.data} {
		v.at(volume, virt1, s)
	}
	if d := strings.Join(v.disks(virt2), " "); !regexp.MustCompile(`^/dev/sd[a-z]+ /dev/sd[a-z]+$`).MatchString(d) {
		v.t.Errorf("the guest's disks are %s", d)
	}
	v.write(virt2, 2)
	for at := range 3 {
		v.holds(at)
	}
}

// virtReboot: the guest boots over iSCSI, and counts on from what it wrote at home.
func virtReboot(v *virt) {
	v.openstack("server", "reboot", "--hard", v.server)
	v.become(v.server, "ACTIVE")
	v.booted(virt2, 2)
	for _, volume := range []string{v.root, v.data} {
		v.at(volume, virt1, v.nova.server(v.server))
	}
}

// virtLiveMigrateBack: at home the volumes are local again, and nothing is exported.
func virtLiveMigrateBack(v *virt) {
	v.migrate(virt2, virt1)
	s := v.nova.server(v.server)
	for _, volume := range []string{v.root, v.data} {
		v.used(volume, s)
	}
	v.disks(virt1, "/dev/mapper/vmthunder-volume-"+v.root, "/dev/mapper/vmthunder-volume-"+v.data)
	v.write(virt1, 3)
	for at := range 4 {
		v.holds(at)
	}
}

// virtDelete: nothing is left.
func virtDelete(v *virt) {
	v.openstack("server", "delete", "--wait", v.server)
	v.gone(v.root)
	v.free(v.data)
	v.drop(v.data)
	v.empty()
	for _, n := range v.lab.Nodes() {
		const left = `
{ dmsetup ls; ls /dev/mapper /sys/kernel/config/target/iscsi 2>/dev/null; } | grep -E "$1|$2"
cat /sys/class/iscsi_session/*/targetname 2>/dev/null | grep -E "$1|$2"
true`
		if out := v.script(n.Name(), left, v.root, v.data); out != "" {
			v.t.Errorf("left on %s: %s", n.Name(), out)
		}
	}
	for _, h := range []string{virt1, virt2} {
		if d := v.domain(h); d != "" {
			v.t.Errorf("%s has a guest yet: %s", h, d)
		}
	}
}

// virt is a server of Nova's with libvirt and QEMU, on volumes.
type virt struct {
	*nova
	shell      *shell
	server     string
	root, data string // its volumes
}
