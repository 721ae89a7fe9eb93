//go:build lab

package clients

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// The nodes that QEMU runs in.
const (
	virt1 = "virt1"
	virt2 = "virt2"
)

func virtSpecs() []lab.NodeSpec {
	return []lab.NodeSpec{{Name: virt1, Memory: 1408}, {Name: virt2, Memory: 1408}}
}

// newVirt boots the nodes, which only this test wants, and starts on them what a compute host
// runs: agent, libvirtd, nova-compute. Afterwards Nova forgets the hosts.
func newVirt(t *testing.T) *virt {
	t.Helper()
	v := &virt{nova: newNova(t, "admin")}
	v.shell = newShell(t, v.lab)
	ctx := limit(t, 8*time.Minute)
	for _, s := range virtSpecs() {
		if _, err := v.lab.Node(s.Name); err == nil { // of an earlier run, with its agent
			continue
		}
		if _, err := v.lab.AddNode(ctx, s); err != nil {
			t.Fatal(err)
		}
		if err := v.c.StartAgent(ctx, s.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.c.WaitNodes(ctx, len(v.lab.Nodes())); err != nil {
		t.Fatal(err)
	}
	g, gctx := errgroup.WithContext(ctx)
	start := time.Now()
	for _, s := range virtSpecs() {
		n := v.node(s.Name)
		t.Cleanup(func() {
			if err := v.lab.StopCompute(limit(t, 2*time.Minute), n); err != nil {
				t.Error(err)
			}
		})
		g.Go(func() error { return v.lab.StartCompute(gctx, n) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("hosts are up after %.0f s", time.Since(start).Seconds())
	return v
}

func (v *virt) node(name string) *lab.Node {
	v.t.Helper()
	n, err := v.lab.Node(name)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

// openstack runs the command and returns what it prints.
func (v *virt) openstack(args ...string) string {
	v.t.Helper()
	r := v.shell.run(args...)
	if r.Code != 0 {
		v.t.Fatalf("openstack %s: %d: %s", strings.Join(args, " "), r.Code, r.Err)
	}
	return r.Out
}

// serial is what the guest has printed since a host has it. It is read from the node's file,
// as each look through Nova takes time from the guest.
func (v *virt) serial(host string) string {
	v.t.Helper()
	text, err := v.node(host).ReadFile(limit(v.t, time.Minute), lab.ServerConsole(v.server))
	if err != nil {
		v.t.Fatal(err)
	}
	return text
}

// says waits until the guest has printed a line that match likes, and returns it. A guest that
// finds its disk damaged says BOOTFAILED. Before each look the prods are done.
func (v *virt) says(host string, match func(line string) bool, prods ...func()) (said string) {
	v.t.Helper()
	v.wait("the guest on "+host, func() (bool, error) {
		for _, prod := range prods {
			prod()
		}
		text := v.serial(host)
		if strings.Contains(text, "BOOTFAILED") {
			return false, fmt.Errorf("the guest on %s: %s", host, text)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); match(line) {
				said = line
				return true, nil
			}
		}
		return false, nil
	})
	return said
}

// booted waits until the guest has printed that it runs, having compared its files' checksums,
// and how many boots it counts on its disk. Nova shows that, too.
func (v *virt) booted(host string, count int) {
	v.t.Helper()
	want := fmt.Sprint(" ", count)
	line := v.says(host, func(line string) bool { return strings.HasPrefix(line, "BOOTED ") && strings.HasSuffix(line, want) })
	v.t.Logf("%s: %s", host, line)
	if out := v.openstack("console", "log", "show", v.server); !strings.Contains(out, line) {
		v.t.Errorf("console log show: %s", out)
	}
}

// alive waits until the guest's kernel prints what it prints on SysRq: it goes on, on a host
// that it never booted on. The keys are pressed again and again: those that are pressed just when it has come
// may be lost.
func (v *virt) alive(host string) {
	v.t.Helper()
	var pressed time.Time
	times := 0
	line := v.says(host, func(line string) bool { return strings.Contains(line, "HELP") }, func() {
		if time.Since(pressed) > 10*time.Second {
			v.script(host, `virsh -c qemu:///system send-key "$1" KEY_LEFTALT KEY_SYSRQ KEY_H`, v.domain(host))
			pressed = time.Now()
			times++
		}
	})
	v.t.Logf("%s, pressed %d times: %s", host, times, line)
	if text := v.serial(host); strings.Contains(text, "BOOTED") {
		v.t.Errorf("the guest has booted again: %s", text)
	}
}

// migrate moves the server while it runs.
func (v *virt) migrate(from, to string) {
	v.t.Helper()
	v.openstack("server", "migrate", "--live-migration", "--host", to, v.server)
	v.wait("server to move", func() (bool, error) {
		s := v.nova.server(v.server)
		if s.Status == "ERROR" {
			return false, fmt.Errorf("server is in error: %s\n%s", s.Fault.Message, s.Fault.Details)
		}
		m := v.openstack("server", "migration", "list", "--server", v.server, "-f", "value", "-c", "Status")
		if f, _, _ := strings.Cut(m, "\n"); f == "error" || f == "failed" {
			return false, fmt.Errorf("the migration has ended in %s", f)
		}
		return s.Status == "ACTIVE" && s.Host == to && strings.HasPrefix(m, "completed"), nil
	})
	if d := v.domain(from); d != "" {
		v.t.Errorf("%s has the guest yet: %s", from, d)
	}
	v.alive(to)
}

// domain is libvirt's name of the only guest that runs on a node; "" without one.
func (v *virt) domain(node string) string {
	v.t.Helper()
	return strings.TrimSpace(v.script(node, `virsh -c qemu:///system list --name --state-running`))
}

// disks are the devices of the guest's disks in order. It fails the test unless they are
// as given.
func (v *virt) disks(host string, want ...string) []string {
	v.t.Helper()
	out := strings.Fields(v.script(host, `virsh -c qemu:///system domblklist "$1" | awk 'NR > 2 && NF == 2 {print $2}'`, v.domain(host)))
	if len(want) > 0 && fmt.Sprint(out) != fmt.Sprint(want) {
		v.t.Errorf("the guest's disks on %s are %q, want %q", host, out, want)
	}
	return out
}

// pattern is what write writes at a place, in units of 64 KiB.
func pattern(at int) int { return 0x51 + at }

// write has QEMU write 64 KiB into the guest's second disk, by the way the guest writes.
func (v *virt) write(host string, at int) {
	v.t.Helper()
	v.script(host, `virsh -c qemu:///system qemu-monitor-command "$1" --hmp "$2"`, v.domain(host),
		fmt.Sprintf(`qemu-io -d /machine/peripheral/virtio-disk1/virtio-backend "write -P 0x%x %dk 64k"`, pattern(at), at*64))
}

// holds fails the test unless the second volume's device, at its home, has what was written at
// a place.
func (v *virt) holds(at int) {
	v.t.Helper()
	same := strings.TrimSpace(v.script(virt1, fmt.Sprintf(
		`dd if=/dev/mapper/vmthunder-volume-$1 bs=65536 skip=%d count=1 iflag=direct 2>/dev/null | tr -cd '\%03o' | wc -c`, at, pattern(at)), v.data))
	if same != "65536" {
		v.t.Errorf("at %d KiB %s of 65536 bytes are 0x%x", at*64, same, pattern(at))
	}
}

// lookAtGuests prints what libvirt, QEMU and the kernel of a host tell of its guests, and the
// end of a guest's console log. virtlogd shows whether that is the file that is written to.
const lookAtGuests = `
virsh() { timeout 10 virsh -c qemu:///system "$@"; }
virsh list --all
for d in $(virsh list --all --name); do
  virsh domstate --reason "$d"
  virsh domblkerror "$d"
  virsh qemu-monitor-command "$d" --hmp 'info status'
  for i in 1 2 3; do # whether it runs, and where
    virsh qemu-monitor-command "$d" --hmp 'info registers' | grep -E '^(RIP|EIP)'
    cat /proc/$(pidof qemu-system-x86_64)/stat | cut -d' ' -f14,15
  done
  virsh qemu-monitor-command "$d" --hmp 'info pic'
  tail -n 5 "/var/log/libvirt/qemu/$d.log"
done
ls -l /proc/$(pidof virtlogd)/fd | grep -F console
ls -l "$1"; tail -c 2000 "$1"
dmesg | tail -n 20`

// explain logs the ends of the hosts' logs, and how their guests are.
func (v *virt) explain(t *testing.T) {
	for _, h := range []string{virt1, virt2} {
		n, err := v.lab.Node(h)
		if err != nil {
			continue
		}
		out, err := n.Run(limit(t, 2*time.Minute), "sh", "-c", "exec 2>&1; "+lookAtGuests, "look", lab.ServerConsole(v.server))
		t.Logf("guests of %s: %s (%v)", h, out, err)
		for _, name := range []string{"nova-compute", "libvirtd"} {
			b, err := os.ReadFile(n.LogPath(name))
			if err != nil {
				t.Log(err)
				continue
			}
			var bad []string
			for line := range strings.Lines(string(b)) {
				if strings.Contains(line, "ERROR") || strings.Contains(line, "error :") {
					bad = append(bad, line)
				}
			}
			t.Logf("%s of %s:\n%s", name, h, strings.Join(bad[max(0, len(bad)-30):], ""))
		}
	}
}
