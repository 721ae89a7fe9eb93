//go:build lab

package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// TestFaultReplicas: two replicas of the control plane do not get into each other's way,
// and one goes on with what the other has left.
func TestFaultReplicas(t *testing.T) {
	f := newFaults(t)
	clients := []*cluster.Client{f.c.Client(0, "admin", "admin"), f.c.Client(1, "admin", "admin")}
	var mu sync.Mutex
	var made []string

	t.Run("one import for forty volumes", func(t *testing.T) {
		f := f.on(t)
		img := f.image(t, 32*mib)
		errs := make([]error, 40)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				v, err := clients[i%2].CreateVolume(limit(t, time.Minute), fmt.Sprintf("v%d", i), img.id, 1)
				mu.Lock()
				defer mu.Unlock()
				made, errs[i] = append(made, v.ID), err
			})
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil {
				t.Errorf("volume %d at replica %d: %v", i, i%2, err)
			}
		}
		for _, v := range made {
			f.becomes(v, "available")
		}
		if rows := f.rows(t, "SELECT id || ' ' || status || ' ' || attempts FROM images"); !slices.Equal(rows, []string{img.id + " active 1"}) {
			t.Errorf("images: %v", rows)
		}
		if rows := f.rows(t, "SELECT host FROM tree_members WHERE role = 'root'"); !slices.Equal(rows, []string{origin}) {
			t.Errorf("roots: %v", rows)
		}
		if files := f.run(t, origin, "cd /var/lib/vmthunder/images && echo *.raw"); files != img.id+".raw" {
			t.Errorf("files on the origin: %s", files)
		}

		nodes := []string{n1, n2, n1, n2, n1, n2}
		as, fails := make([]attached, len(nodes)), make([]error, len(nodes))
		for i, n := range nodes {
			wg.Go(func() {
				id, err := f.reserve(clients[i/2%2], made[i])
				if err == nil {
					as[i], err = f.connect(clients[i/2%2], id, made[i], n)
				}
				fails[i] = err
			})
		}
		wg.Wait()
		for i, err := range fails {
			if err != nil {
				t.Fatalf("attach at replica %d: %v", i/2%2, err)
			}
			f.same(t, as[i].node, as[i].device, 0, img.bytes)
		}
		if rows := f.rows(t, "SELECT host FROM tree_members ORDER BY host"); !slices.Equal(rows, []string{n1, n2, origin}) {
			t.Errorf("members: %v", rows)
		}
		f.detach(t, as...)
		f.remove(t, made...)
	})

	t.Run("death of a replica in an import", func(t *testing.T) {
		f := f.on(t)
		img := f.slowImport(64)
		v, err := clients[1].CreateVolume(limit(t, time.Minute), t.Name(), img.id, 1)
		if err != nil {
			t.Fatal(err)
		}
		f.importing(v.ID)
		if err := f.c.API(1).Kill(limit(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		f.becomes(v.ID, "available")
		if rows := f.rows(t, "SELECT status || ' ' || attempts FROM images"); !slices.Equal(rows, []string{"active 1"}) {
			t.Errorf("images: %v", rows)
		}
		if err := f.c.StartAPI(limit(t, time.Minute), 1); err != nil {
			t.Fatal(err)
		}
		f.fast()
		a := f.attach(t, v.ID, n1)
		f.same(t, n1, a.device, 0, img.bytes)
		f.drop(t, a)
	})

	t.Run("death of a replica in an attachment", func(t *testing.T) {
		f := f.on(t)
		img := f.image(t, 16*mib)
		v := f.create(t, img.id)
		id, err := f.reserve(clients[1], v)
		if err != nil {
			t.Fatal(err)
		}
		h := f.holdAt(clients[1], v, id, n1)
		if err := f.c.API(1).Kill(limit(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.release(); err == nil {
			t.Fatal("the request was granted by a dead replica")
		}
		if s := f.status(v); s != "attaching" {
			t.Errorf("the volume is %s", s)
		}
		// Nova deletes the attachment and tries again.
		if err := f.nova.Detach(limit(t, time.Minute), id); err != nil {
			t.Fatal(err)
		}
		f.becomes(v, "available")
		a := f.attach(t, v, n1)
		f.same(t, n1, a.device, 0, img.bytes)
		if err := f.c.StartAPI(limit(t, time.Minute), 1); err != nil {
			t.Fatal(err)
		}
		f.drop(t, a)
	})
}
