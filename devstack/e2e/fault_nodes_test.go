//go:build lab

package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFaultNobodyAlive: what needs a node that is not there fails with a reason.
func TestFaultNobodyAlive(t *testing.T) {
	f := newFaults(t)
	f.control(map[string]string{"scheduler.service_down_time": "5", "scheduler.origin_wait": "2"})
	img := f.image(t, 8*mib)
	all, others := []string{origin}, []string{}
	for _, n := range f.lab.Nodes() {
		if n.Name() != origin {
			all, others = append(all, n.Name()), append(others, n.Name())
		}
	}

	// The origin has just died, and nobody knows yet.
	f.stopAgent(origin)
	v := f.ask(img.id, 1)
	f.fails(v, time.Minute, "none of 1 origin nodes is alive")
	f.alive(false, origin)
	w := f.ask(img.id, 1)
	f.fails(w, time.Minute, "no origin node is alive to import the image")

	f.stopAgent(others...)
	f.alive(false, all...)
	x := f.ask("", 1)
	f.fails(x, time.Minute, "no node is alive and enabled to hold a volume")

	f.startAgent(all...)
	f.alive(true, all...)
	f.remove(t, v, w, x)
	a := f.newAttached(t, img.id, n1)
	f.same(t, n1, a.device, 0, img.bytes)
	f.drop(t, a)
}

// TestFaultOriginDown: without its origin an image is read where it is cached, is not
// attached where it is not, and is again when the origin is back.
func TestFaultOriginDown(t *testing.T) {
	f := newFaults(t)
	f.control(map[string]string{"scheduler.service_down_time": "5", "scheduler.attach_timeout": "8"})
	img := f.image(t, 16*mib)
	warm := f.newAttached(t, img.id, n1)
	// Read twice: bcache does not keep the first bucket, 512 KiB, of what a new set is given.
	for range 2 {
		f.same(t, n1, warm.device, 0, img.bytes)
		f.run(t, n1, "echo 3 > /proc/sys/vm/drop_caches")
	}
	second := f.create(t, img.id)
	cold := f.create(t, img.id)

	if err := f.node(t, origin).Kill(limit(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	f.alive(false, origin)
	f.run(t, n1, "echo 3 > /proc/sys/vm/drop_caches")
	f.same(t, n1, warm.device, 0, img.bytes)
	b := f.attach(t, second, n1)
	f.same(t, n1, b.device, 0, img.bytes)

	id, err := f.reserve(f.admin, cold)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.connect(f.admin, id, cold, n2)
	refused(t, err, http.StatusInternalServerError, "Unable to update attachment.", "nobody who has image "+img.id+" is alive")

	if err := f.c.Reboot(limit(t, 2*time.Minute), origin); err != nil {
		t.Fatal(err)
	}
	f.alive(true, origin)
	if err := f.releaseAll(cold); err != nil {
		t.Fatal(err)
	}
	c := f.attach(t, cold, n2)
	f.same(t, n2, c.device, 0, img.bytes)
	f.drop(t, warm, b, c)
}

// TestFaultWrongSecret: a CHAP secret that differs between two nodes keeps one out, is
// named, and is gone with the next document.
func TestFaultWrongSecret(t *testing.T) {
	f := newFaults(t)
	img := f.image(t, 8*mib)
	a := f.newAttached(t, img.id, n1)

	// Node1 is told another secret than the origin: its document is made anew for the
	// agent that starts, the origin's is not.
	f.stopAgent(n1)
	f.exec("UPDATE tree_members SET secret = 'other-secret-123' WHERE host = $1", n1)
	f.startAgent(n1)
	f.alive(true, n1)
	f.run(t, n1, "iscsiadm -m session -u")
	var last string
	until(t, time.Minute, "the tree to show why node1 has no parent", func() (bool, error) {
		out, err := f.c.Command(limit(t, time.Minute), "vmthunder", "tree", "-o", "json", img.id)
		if err != nil {
			return false, err
		}
		last = out
		var tree struct {
			Members []struct{ Host, Error string }
		}
		if err := json.Unmarshal([]byte(out), &tree); err != nil {
			return false, err
		}
		for _, m := range tree.Members {
			if m.Host == n1 && strings.Contains(m.Error, "authentication") {
				return true, nil
			}
		}
		return false, nil
	})
	if strings.Contains(last, "other-secret") {
		t.Errorf("the tree shows a secret: %s", last)
	}

	f.exec("UPDATE nodes SET generation = generation + 1 WHERE host = $1", origin)
	f.treeStands(t, img.id, 2, n1)
	f.run(t, n1, "echo 3 > /proc/sys/vm/drop_caches")
	f.same(t, n1, a.device, 0, img.bytes)
	f.drop(t, a)
}
