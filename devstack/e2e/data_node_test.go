//go:build lab

package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// The parent of two nodes in a chain loses its power while both read: the reads end without
// an error and with the right bytes, the tree closes the gap, and the node that comes back
// is below the others.
func TestDataParentKilled(t *testing.T) {
	s := current(t)
	img := s.image(t, 64*mib)
	as := s.chain(t, img, n1, n2, n3)
	child, grandchild := s.slowReads(t, img, as[1], as[2])
	if err := s.node(t, n1).Kill(limit(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !child.busy() || !grandchild.busy() {
		t.Fatal("the reads were over before the node was killed; nothing is shown")
	}
	child.wait(t, img.sum)
	grandchild.wait(t, img.sum)
	s.shape(t, origin+":out", "off")
	until(t, 60*time.Second, "the living to stand without "+n1, func() (bool, error) {
		m := s.member(t, img.id, n2)
		return m.Parent != nil && *m.Parent == origin && m.ObservedParent == origin && m.State == model.MemberActive, nil
	})

	if err := s.c.Reboot(limit(t, 2*time.Minute), n1); err != nil {
		t.Fatal(err)
	}
	s.waitNodes(t, len(s.lab.Nodes()))
	s.waitDevice(t, as[0])
	ms := s.treeStands(t, img.id, 1, n1, n2, n3)
	back := slices.IndexFunc(ms, func(m model.Member) bool { return m.Host == n1 })
	if ms[back].Depth != 3 || *ms[back].Parent != n3 {
		t.Errorf("%s is at depth %d below %s, wanted it below %s: %s", n1, ms[back].Depth, *ms[back].Parent, n3, shape(ms))
	}
	for _, x := range as {
		s.same(t, x.node, x.device, 0, img.bytes)
	}
	s.drop(t, as...)
}

// What was written is there after a power cut: over the image, beside it and beyond it. The
// volume stands again without anybody asking.
func TestDataPowerCut(t *testing.T) {
	s := current(t)
	img, news := s.image(t, 64*mib), s.image(t, 4*mib)
	x := s.newAttached(t, img.id, n1)
	want := slices.Clone(img.bytes)
	for _, at := range []int{0, 10*mib + 4096, 63 * mib} { // the last one goes over the image's end
		n := copy(want[at:], news.bytes)
		s.write(t, n1, x.device, at, news.bytes)
		want = append(want[:max(len(want), at+n)], news.bytes[n:]...)
	}
	const far = 900 * mib
	s.write(t, n1, x.device, far, news.bytes)
	for round := range 2 {
		s.reboot(t, n1)
		s.waitDevice(t, x)
		s.same(t, n1, x.device, 0, want)
		s.same(t, n1, x.device, far, news.bytes)
		s.zeros(t, n1, x.device, len(want), 100*mib)
		s.zeros(t, n1, x.device, far+len(news.bytes), 1024*mib-far-len(news.bytes))
		if got := s.rows(t, "SELECT attach_status FROM attachments WHERE volume_id = $1", x.volume); !slices.Equal(got, []string{"attached"}) {
			t.Errorf("boot %d: attachments are %v", round+1, got)
		}
		s.write(t, n1, x.device, 20*mib, news.bytes) // into areas that stand since before the cut
		copy(want[20*mib:], news.bytes)
	}
	s.same(t, n1, x.device, 0, want)
	s.drop(t, x)
}

// The agent ends and starts while its node's volumes are read: the kernel's state is what it was.
func TestDataAgentRestart(t *testing.T) {
	s := current(t)
	blank := s.newAttached(t, "", n1)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		img := s.image(t, 64*mib) // a new one, that no cache holds
		as := s.chain(t, img, n1, n2)
		s.settled(t)
		before := map[string]string{}
		for _, n := range []string{n1, n2, origin} {
			before[n] = s.kernelState(t, n)
		}
		own, below := s.slowReads(t, img, as[0], as[1])
		for _, n := range []string{n1, origin} {
			node := s.node(t, n)
			if err := node.Signal(limit(t, time.Minute), "vmthunder-node", sig); err != nil {
				t.Fatal(err)
			}
			if _, err := node.Wait(limit(t, time.Minute), "vmthunder-node"); err != nil {
				t.Fatal(err)
			}
			if err := s.c.StartAgent(limit(t, time.Minute), n); err != nil {
				t.Fatal(err)
			}
		}
		s.reported(t, n1)
		s.reported(t, origin)
		if !own.busy() || !below.busy() {
			t.Fatal("the reads were over before the agents had taken up their work; nothing is shown")
		}
		s.shape(t, origin+":out", "off")
		own.wait(t, img.sum)
		below.wait(t, img.sum)
		for _, n := range []string{n1, n2, origin} {
			if after := s.kernelState(t, n); after != before[n] {
				t.Errorf("%s: the agent's restart by %s has changed\n%s\nto\n%s", n, sig, before[n], after)
			}
		}
		s.drop(t, as...)
	}
	s.drop(t, blank)
}

// The last volume of a node that others read from is deleted while they read: they move
// to another parent, the node leaves, and nothing of the image is left on it.
func TestDataDrain(t *testing.T) {
	s := current(t)
	img := s.image(t, 64*mib)
	as := s.chain(t, img, n1, n2, n3)
	child, grandchild := s.slowReads(t, img, as[1], as[2])
	s.drop(t, as[0])
	until(t, 60*time.Second, n1+" to leave", func() (bool, error) {
		return s.member(t, img.id, n1).Host == "", nil
	})
	if out := s.run(t, n1, leftovers); out != "" {
		t.Errorf("%s has left the tree, and this stands there still: %s", n1, out)
	}
	if !child.busy() && !grandchild.busy() {
		t.Error("the reads were over before the node left; they have shown nothing")
	}
	s.shape(t, origin+":out", "off")
	child.wait(t, img.sum)
	grandchild.wait(t, img.sum)
	if got := shape(s.treeStands(t, img.id, 1, n2, n3)); got != n2+"<"+origin+" "+n3+"<"+n2 {
		t.Errorf("the tree is %s", got)
	}
	for _, x := range as[1:] {
		s.dropCaches(t, x.node)
		s.same(t, x.node, x.device, 0, img.bytes)
	}
	s.drop(t, as[1:]...)
}

// A node is drained by the operator's command while others read through it: they move, without an error, and
// what lives on it is listed. A server there gets its next volume from another node. Then it is back.
func TestDataDrainNode(t *testing.T) {
	s := current(t)
	img := s.image(t, 64*mib)
	as := s.chain(t, img, n1, n2, n3)
	child, grandchild := s.slowReads(t, img, as[1], as[2])
	out, err := s.c.Command(limit(t, 3*time.Minute), "vmthunder", "node", "drain", n1)
	if err == nil || !strings.Contains(out, "1 volume at "+n1) || !strings.Contains(out, as[0].volume) {
		t.Errorf("%v:\n%s", err, out)
	}
	if !child.busy() || !grandchild.busy() {
		t.Error("the reads were over before the node was drained; nothing is shown")
	}
	if got := s.sessionsFrom(t, n1); got != "" {
		t.Errorf("%s is logged in at %s", got, n1)
	}
	s.shape(t, origin+":out", "off")
	child.wait(t, img.sum)
	grandchild.wait(t, img.sum)
	for _, m := range s.treeStands(t, img.id, 1, n1, n2, n3) {
		if m.Parent != nil && *m.Parent == n1 {
			t.Errorf("%s is below %s", m.Host, n1)
		}
	}
	s.same(t, n1, as[0].device, 0, img.bytes) // goes on
	v := s.create(t, img.id)
	a, err := s.admin.Attach(limit(t, 2*time.Minute), v, n1, s.node(t, n1).Initiator())
	if err != nil {
		t.Fatal(err)
	}
	if home := s.rows(t, "SELECT home FROM volumes WHERE id = $1", v)[0]; home == n1 || a.ConnectionInfo["driver_volume_type"] != "iscsi" {
		t.Errorf("a new volume lives at %s: %v", home, a.ConnectionInfo["driver_volume_type"])
	}
	s.drop(t, append(as, attached{volume: v, node: n1, id: a.ID})...)
	if out, err := s.c.Command(limit(t, time.Minute), "vmthunder", "node", "drain", n1); err != nil || !strings.Contains(out, n1+" is free") {
		t.Errorf("%v:\n%s", err, out)
	}
	if out, err := s.c.Command(limit(t, time.Minute), "vmthunder", "node", "undrain", n1); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	s.drop(t, s.newAttached(t, "", n1))
}

// sessionsFrom are the initiators that are logged in at a node.
func (s *site) sessionsFrom(t *testing.T, node string) string {
	t.Helper()
	return s.run(t, node, `
for d in /sys/kernel/config/target/iscsi/iqn*/tpgt_1/acls/*/info; do
  grep -q 'LIO Session ID' "$d" 2>/dev/null && grep -o 'InitiatorName: .*' "$d"
done
true`)
}

// slowReads begins to read an image at two nodes, over an origin so slow that there is time
// to do something, and returns when both have got some of it.
func (s *site) slowReads(t *testing.T, img testImage, a, b attached) (*reader, *reader) {
	t.Helper()
	s.shape(t, origin+":out", "40mbit")
	t.Cleanup(func() { s.shape(t, origin+":out", "off") })
	before := map[string]int64{}
	for _, x := range []attached{a, b} {
		before[x.node] = s.pathBytes(t, x.node, img.id)
	}
	ra, rb := s.startRead(t, a.node, a.device, len(img.bytes)), s.startRead(t, b.node, b.device, len(img.bytes))
	for _, x := range []attached{a, b} {
		until(t, 60*time.Second, "the read at "+x.node+" to be under way", func() (bool, error) {
			return s.pathBytes(t, x.node, img.id) > before[x.node]+mib, nil
		})
	}
	return ra, rb
}

func (s *site) shape(t testing.TB, link, rate string) {
	t.Helper()
	if err := s.lab.Shape(limit(t, time.Minute), link, rate); err != nil {
		t.Error(err)
	}
}

// kernelState describes all that the agent makes, with what would change if it were made anew:
// numbers of devices and sessions, tables, bindings, and who is logged in where. Who else may log in is the control plane's to change.
func (s *site) kernelState(t *testing.T, node string) string {
	t.Helper()
	return s.run(t, node, `
dmsetup info -c --noheadings -o name,major,minor,uuid | sort
dmsetup table | sort
for d in /sys/block/loop*/loop/backing_file; do read -r f <$d 2>/dev/null && echo "$d $f"; done
for d in /sys/class/iscsi_session/*; do [ -e "$d" ] && read -r n <$d/targetname && echo "$d $n"; done
for d in /sys/kernel/config/target/iscsi/iqn*/tpgt_1/acls/*/info; do grep -q 'LIO Session ID' "$d" 2>/dev/null && echo "$d" && grep 'Session ID\|State' "$d"; done
true`)
}

// settled waits until every node has done all that it should.
func (s *site) settled(t *testing.T) {
	t.Helper()
	until(t, 60*time.Second, "all nodes to be done", func() (bool, error) {
		return len(s.rows(t, "SELECT host FROM nodes WHERE applied <> generation")) == 0, nil
	})
}

// reported waits until a node's agent has reported, twice since now, that all it should do is done.
func (s *site) reported(t *testing.T, node string) {
	t.Helper()
	seen := map[string]bool{}
	until(t, 60*time.Second, node+" to report that it is done", func() (bool, error) {
		for _, at := range s.rows(t, "SELECT last_seen::text FROM nodes WHERE host = $1 AND applied = generation", node) {
			seen[at] = true
		}
		return len(seen) >= 3, nil
	})
}
