//go:build lab

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Where an image's stack stands already, a volume comes and goes without a single external
// command: the agent's log, in which each is told, has none, and the kernel has seen no child
// of it end.
func TestDataWarmAttachExecutesNothing(t *testing.T) {
	s := current(t)
	img := s.image(t, 16*mib)
	n := s.node(t, n1)
	log := func(from int) string {
		t.Helper()
		b, err := os.ReadFile(n.LogPath("vmthunder-node"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b[from:])
	}
	executed := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "msg=executed") {
				lines = append(lines, line)
			}
		}
		return lines
	}

	begin := len(log(0))
	first := s.newAttached(t, img.id, n1)
	if cold := executed(log(begin)); !strings.Contains(strings.Join(cold, ""), "iscsiadm") {
		t.Fatalf("the log does not tell of the login that the first attach took: %v", cold)
	}
	s.same(t, n1, first.device, 0, img.bytes)

	begin, children := len(log(0)), s.children(t, n)
	for range 3 {
		x := s.newAttached(t, img.id, n1)
		s.same(t, n1, x.device, 0, img.bytes[:mib])
		s.detach(t, x)
		until(t, 10*time.Second, "the log of the detach", func() (bool, error) {
			return strings.Contains(log(begin), "deactivate thin vmthunder-volume-"+x.volume), nil
		})
		s.remove(t, x.volume)
	}
	if warm := executed(log(begin)); len(warm) > 0 {
		t.Errorf("executed in warm attaches and detaches: %v", warm)
	}
	if now := s.children(t, n); now != children {
		t.Errorf("children of the agent have ended: their page faults are %s, were %s", now, children)
	}
	s.drop(t, first)
}

// children is how many page faults the ended children of a node's agent have had (cminflt of
// proc_pid_stat(5)).
func (s *site) children(t *testing.T, n *lab.Node) string {
	t.Helper()
	ctx := limit(t, time.Minute)
	ps, err := n.Processes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Name != "vmthunder-node" || !p.Running {
			continue
		}
		stat, err := n.ReadFile(ctx, fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from field 3 on
		return f[8]
	}
	t.Fatal("no agent runs")
	return ""
}
