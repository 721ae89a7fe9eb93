//go:build lab

package e2e

import (
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// The origin that everybody reads from loses its power under reads. Another holds the image too: the reads
// go on there, and end without an error and with the right bytes, and new volumes can be attached. The
// origin that comes back takes nothing away.
func TestFaultRootDies(t *testing.T) {
	f := newFaults(t)
	f.reconfigure(t, n3, map[string]string{"node.origin": "true"}, map[string]string{"node.origin": "false"})
	until(t, time.Minute, n3+" to be an origin", func() (bool, error) {
		return len(f.rows(t, "SELECT host FROM nodes WHERE host = $1 AND origin", n3)) == 1, nil
	})
	img := f.image(t, 64*mib)
	first := f.create(t, img.id)
	f.setDegree(t, img.id, 1)
	until(t, time.Minute, "the image at both origins", func() (bool, error) {
		return len(f.rows(t, "SELECT host FROM tree_members WHERE image_id = $1 AND role = 'root' AND state = 'active'", img.id)) == 2, nil
	})
	as := []attached{f.attach(t, first, n1), f.newAttached(t, img.id, n2)}
	f.treeStands(t, img.id, 1, n1, n2)
	m := f.member(t, img.id, n1)
	dies, stays := *m.Parent, *m.Fallback
	if dies != origin && dies != n3 || stays != origin && stays != n3 || dies == stays {
		t.Fatalf("%s reads from %s, and %s is its fallback", n1, dies, stays)
	}
	f.shape(t, dies+":out", "40mbit")
	f.shape(t, stays+":out", "40mbit")
	t.Cleanup(func() { f.shape(t, stays+":out", "off") })
	reads := []*reader{f.startRead(t, n1, as[0].device, len(img.bytes)), f.startRead(t, n2, as[1].device, len(img.bytes))}
	until(t, time.Minute, "the reads to be under way", func() (bool, error) {
		return f.pathBytes(t, n1, img.id) > 4*mib && f.pathBytes(t, n2, img.id) > 4*mib, nil
	})
	if err := f.node(t, dies).Kill(limit(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !reads[0].busy() || !reads[1].busy() {
		t.Fatal("the reads were over before the origin was killed; nothing is shown")
	}
	for _, r := range reads {
		r.wait(t, img.sum)
	}
	f.shape(t, stays+":out", "off")
	f.alive(false, dies)
	until(t, time.Minute, "nobody to read from "+dies, func() (bool, error) {
		for _, n := range []string{n1, n2} {
			if m := f.member(t, img.id, n); m.Parent == nil || *m.Parent == dies || m.ObservedParent != *m.Parent || m.State != model.MemberActive {
				return false, nil
			}
		}
		return true, nil
	})
	more := f.newAttached(t, img.id, vmhost)
	f.same(t, vmhost, more.device, 0, img.bytes)

	if err := f.c.Reboot(limit(t, 2*time.Minute), dies); err != nil {
		t.Fatal(err)
	}
	f.waitNodes(t, len(f.lab.Nodes()))
	f.treeStands(t, img.id, 1, n1, n2, vmhost)
	for _, x := range append(as, more) {
		f.dropCaches(t, x.node)
		f.same(t, x.node, x.device, 0, img.bytes)
	}
	f.drop(t, append(as, more)...)
	f.gone(t, img.id) // from an origin that is about to be none
}
