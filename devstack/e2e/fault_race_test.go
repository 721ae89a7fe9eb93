//go:build lab

package e2e

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// TestFaultRaces: requests that exclude each other, at the same time.
func TestFaultRaces(t *testing.T) {
	f := newFaults(t)
	img := f.image(t, 16*mib)
	other := f.c.Client(1, "admin", "admin")

	t.Run("eight attachments of one volume", func(t *testing.T) {
		f := f.on(t)
		v := f.create(t, img.id)
		ids, errs := make([]string, 8), make([]error, 8)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() { ids[i], errs[i] = f.reserve([]*cluster.Client{f.admin, other}[i%2], v) })
		}
		wg.Wait()
		var won []string
		for i, err := range errs {
			if err == nil {
				won = append(won, ids[i])
				continue
			}
			refused(t, err, http.StatusBadRequest, "must be available or downloading to reserve")
		}
		if rows := f.rows(t, "SELECT id FROM attachments"); len(won) != 1 || !slices.Equal(rows, won) {
			t.Fatalf("%v won, rows are %v", won, rows)
		}
		a, err := f.connect(f.admin, won[0], v, n1)
		if err != nil {
			t.Fatal(err)
		}
		f.same(t, n1, a.device, 0, img.bytes)
		f.drop(t, a)
	})

	t.Run("deletion while it is attached", func(t *testing.T) {
		f := f.on(t)
		v := f.create(t, img.id)
		id, err := f.reserve(f.admin, v)
		if err != nil {
			t.Fatal(err)
		}
		h := f.hold(v, id, n1)
		refused(t, f.admin.DeleteVolume(limit(t, time.Minute), v), http.StatusBadRequest, "Volume status must be available")
		refused(t, other.DeleteVolume(limit(t, time.Minute), v), http.StatusBadRequest, "Volume status must be available")
		a, err := h.release()
		if err != nil {
			t.Fatalf("the attachment under way failed: %v", err)
		}
		f.same(t, n1, a.device, 0, img.bytes)
		f.drop(t, a)
	})

	t.Run("detachment while it is attached", func(t *testing.T) {
		f := f.on(t)
		v := f.create(t, img.id)
		id, err := f.reserve(f.admin, v)
		if err != nil {
			t.Fatal(err)
		}
		h := f.hold(v, id, n1)
		detached := make(chan error, 1)
		go func() {
			nova := f.c.Nova()
			detached <- nova.Detach(limit(t, time.Minute), id)
		}()
		until(t, 30*time.Second, "the detachment to be under way", func() (bool, error) {
			return !slices.Equal(f.rows(t, "SELECT attach_status FROM attachments WHERE id = $1", id), []string{"attaching"}), nil
		})
		_, err = h.release()
		var e *cluster.Error
		if err != nil && (!errors.As(err, &e) || e.Status >= http.StatusInternalServerError && e.Status != http.StatusServiceUnavailable) {
			t.Errorf("the attachment ended with %v", err)
		}
		if err := <-detached; err != nil {
			t.Errorf("the detachment ended with %v", err)
		}
		f.becomes(v, "available")
		until(t, 30*time.Second, "the volume's device to be gone", func() (bool, error) {
			return !strings.Contains(f.run(t, n1, "dmsetup ls"), v), nil
		})
		b := f.attach(t, v, n1)
		f.same(t, n1, b.device, 0, img.bytes)
		f.drop(t, b)
	})
}

// quiet waits until nobody is on his way out of a tree.
func (f *faults) quiet() {
	f.t.Helper()
	until(f.t, 30*time.Second, "the trees to be at rest", func() (bool, error) {
		return len(f.rows(f.t, "SELECT host FROM tree_members WHERE state IN ('leaving', 'draining') UNION ALL SELECT subject FROM jobs")) == 0, nil
	})
}

// held is an attachment that can't get on because its node stands still.
type held struct {
	f    *faults
	node string
	end  chan struct{}
	a    attached
	err  error
}

// hold connects an attachment at a node that is made to stand still, and returns when the
// request is under way there.
func (f *faults) hold(volume, attachment, node string) *held {
	f.t.Helper()
	return f.holdAt(f.c.Client(0, "admin", "admin"), volume, attachment, node)
}

func (f *faults) holdAt(c *cluster.Client, volume, attachment, node string) *held {
	f.t.Helper()
	f.quiet()
	n := f.node(f.t, node)
	if err := n.Pause(); err != nil {
		f.t.Fatal(err)
	}
	h := &held{f: f, node: node, end: make(chan struct{})}
	f.t.Cleanup(func() { _ = n.Resume() })
	go func() {
		defer close(h.end)
		h.a, h.err = f.connect(c, attachment, volume, node)
	}()
	until(f.t, 30*time.Second, "the attachment to be under way", func() (bool, error) {
		return slices.Equal(f.rows(f.t, "SELECT attach_status FROM attachments WHERE id = $1", attachment), []string{"attaching"}), nil
	})
	return h
}

// resume lets the node go on.
func (h *held) resume() {
	h.f.t.Helper()
	if err := h.f.node(h.f.t, h.node).Resume(); err != nil {
		h.f.t.Fatal(err)
	}
}

// release lets the node go on and waits for the request's end.
func (h *held) release() (attached, error) {
	h.f.t.Helper()
	h.resume()
	return h.wait()
}

func (h *held) wait() (attached, error) {
	h.f.t.Helper()
	select {
	case <-h.end:
	case <-limit(h.f.t, 90*time.Second).Done():
		h.f.t.Fatal("an attachment does not end")
	}
	return h.a, h.err
}
