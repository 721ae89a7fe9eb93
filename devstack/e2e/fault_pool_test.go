//go:build lab

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/devstack/lab/agent"
)

// newDisk gives a node another blank disk for its pool, as after an exchange of a broken
// one, and starts its agent. Size 0: as large as it was.
func (f *faults) newDisk(ctx context.Context, node string, size int64) error {
	n, err := f.lab.Node(node)
	if err != nil {
		return err
	}
	if size == 0 {
		size = n.Spec().Pool
	}
	if err := n.Kill(ctx); err != nil {
		return err
	}
	for _, to := range []int64{0, size} {
		if err := os.Truncate(n.DiskPath('a'), to); err != nil {
			return err
		}
	}
	if err := n.Boot(ctx); err != nil {
		return err
	}
	return f.c.StartAgent(ctx, node)
}

// smallPool makes a node's pool small until the test ends.
func (f *faults) smallPool(node string, size int64) {
	f.t.Helper()
	change := func(size int64) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := f.newDisk(ctx, node, size); err != nil {
			return err
		}
		return f.forgetPool(ctx, node)
	}
	f.t.Cleanup(func() {
		if err := change(0); err != nil {
			f.t.Error(err)
		}
		f.poolIs(node, "rw")
	})
	if err := change(size); err != nil {
		f.t.Fatal(err)
	}
	f.poolIs(node, "rw")
}

// forgetPool does what an operator does who has exchanged a disk.
func (f *faults) forgetPool(ctx context.Context, node string) error {
	out, err := f.c.Command(ctx, "vmthunder", "node", "forget-pool", node)
	if err != nil {
		return errors.New(out)
	}
	return nil
}

// poolIs waits until a node reports its pool in a state, and the database has it so.
func (f *faults) poolIs(node, state string) {
	f.t.Helper()
	until(f.t, 60*time.Second, "the pool of "+node+" to be "+state, func() (bool, error) {
		return slices.Equal(f.rows(f.t, "SELECT pool_state FROM nodes WHERE host = $1 AND alive AND pool_total > 0", node), []string{state}), nil
	})
}

// TestFaultPoolTooSmall: a volume that fits nowhere is told so.
func TestFaultPoolTooSmall(t *testing.T) {
	f := newFaults(t)
	v := f.ask("", 50)
	f.fails(v, time.Minute, "50 GiB are more than the largest pool (3 GiB)")
	f.remove(t, v)
}

// TestFaultPoolFull: a pool without room holds writes back and loses nothing; with room
// again all goes on.
func TestFaultPoolFull(t *testing.T) {
	f := newFaults(t)
	f.smallPool(n3, 256*mib)
	img := f.image(t, 8*mib)
	keep, fill, spare := f.newAttached(t, img.id, n3), f.newAttached(t, img.id, n3), f.newAttached(t, img.id, n3)
	kept := pattern(24*mib, 1)
	f.write(t, n3, keep.device, 64*mib, kept)
	f.write(t, n3, spare.device, 64*mib, pattern(96*mib, 2))

	// 150 MiB: more than is left, and less than will be.
	n := f.node(t, n3)
	if _, err := n.Start(limit(t, time.Minute), "filler", lab.Command{Argv: []string{"sh", "-c",
		"dd if=/dev/zero bs=1M count=150 status=none | tr '\\000' '\\132' | dd of=" + fill.device + " bs=1M count=150 seek=64 iflag=fullblock oflag=direct"}}); err != nil {
		t.Fatal(err)
	}
	f.poolIs(n3, "out_of_data_space")
	if ps, err := n.Processes(limit(t, time.Minute)); err != nil || !running(ps, "filler") {
		t.Fatalf("the writer was not held back: %+v, %v", ps, err)
	}

	late := f.create(t, img.id)
	_, err := f.tryAttach(t, late, n3)
	refused(t, err, http.StatusBadRequest, "the pool of node node3 is out_of_data_space")
	if s := f.status(late); s != "reserved" {
		t.Errorf("the refused volume is %s", s)
	}
	f.same(t, n3, keep.device, 64*mib, kept)
	f.same(t, n3, keep.device, 0, img.bytes)
	if log := f.run(t, n3, "dmsetup status vmthunder-pool"); !strings.Contains(log, "queue_if_no_space") {
		t.Errorf("the pool does not queue: %s", log)
	}

	f.drop(t, spare)
	if _, err := n.Wait(limit(t, 90*time.Second), "filler"); err != nil {
		t.Fatalf("the writer was not let go: %v; pool %s", err, f.run(t, n3, "dmsetup status vmthunder-pool"))
	}
	f.poolIs(n3, "rw")
	f.same(t, n3, keep.device, 64*mib, kept)
	f.same(t, n3, fill.device, 64*mib, bytes.Repeat([]byte{'Z'}, 150*mib))
	f.same(t, n3, fill.device, 0, img.bytes)
	if err := f.releaseAll(late); err != nil {
		t.Fatal(err)
	}
	f.drop(t, fill)
	f.poolFree(n3, 60)
	again := f.attach(t, late, n3)
	f.same(t, n3, again.device, 0, img.bytes)
	f.drop(t, again, keep)
}

// running tells whether a program that was started on a node still runs.
func running(ps []agent.Process, name string) bool {
	return slices.ContainsFunc(ps, func(p agent.Process) bool { return p.Name == name && p.Running })
}

// poolFree waits until a pool has so many percent free.
func (f *faults) poolFree(node string, percent int) {
	f.t.Helper()
	until(f.t, time.Minute, "room in the pool of "+node, func() (bool, error) {
		return len(f.rows(f.t, "SELECT host FROM nodes WHERE host = $1 AND pool_free * 100 > pool_total * $2", node, percent)) == 1, nil
	})
}

// releaseAll deletes the attachments of a volume that have come to nothing.
func (f *faults) releaseAll(volume string) error {
	for _, id := range f.rows(f.t, "SELECT id FROM attachments WHERE volume_id = $1", volume) {
		if err := f.nova.Detach(limit(f.t, time.Minute), id); err != nil {
			return err
		}
	}
	return nil
}

// TestFaultDiskExchanged: a node that comes back with another disk does not serve zeros for
// data, says so, and takes nothing new until an operator acts.
func TestFaultDiskExchanged(t *testing.T) {
	f := newFaults(t)
	img := f.image(t, 8*mib)
	a := f.newAttached(t, img.id, n2)
	f.write(t, n2, a.device, 32*mib, pattern(mib, 3))
	b := f.newAttached(t, "", n2)
	f.write(t, n2, b.device, 0, pattern(mib, 4))
	until(t, 30*time.Second, "the volumes to be known as made", func() (bool, error) {
		return len(f.rows(t, "SELECT id FROM volumes WHERE materialized")) == 2, nil
	})
	other := f.newAttached(t, img.id, n1)

	if err := f.newDisk(limit(t, 2*time.Minute), n2, 0); err != nil {
		t.Fatal(err)
	}
	for _, x := range []attached{a, b} {
		f.fails(x.volume, time.Minute, "The storage pool that holds the volume's data is missing on its host.")
	}
	f.poolIs(n2, "foreign")
	if out := f.run(t, n2, "dmsetup ls"); strings.Contains(out, a.volume) || strings.Contains(out, b.volume) {
		t.Errorf("the node serves what it has not:\n%s", out)
	}
	late := f.create(t, "")
	_, err := f.tryAttach(t, late, n2)
	refused(t, err, http.StatusBadRequest, "the pool of node node2 is foreign")
	if err := f.releaseAll(late); err != nil {
		t.Fatal(err)
	}
	f.same(t, n1, other.device, 0, img.bytes)

	if err := f.forgetPool(limit(t, time.Minute), n2); err != nil {
		t.Fatal(err)
	}
	f.poolIs(n2, "rw")
	for _, x := range []attached{a, b} {
		if s := f.status(x.volume); s != "error" {
			t.Errorf("a lost volume is %s", s)
		}
	}
	c := f.attach(t, late, n2)
	f.write(t, n2, c.device, 0, pattern(mib, 5))
	f.same(t, n2, c.device, 0, pattern(mib, 5))
	if out := f.run(t, n2, "dmsetup ls"); strings.Contains(out, a.volume) || strings.Contains(out, b.volume) {
		t.Errorf("the node serves what was lost:\n%s", out)
	}
	f.drop(t, c, a, b, other)

	err = f.forgetPool(limit(t, time.Minute), "no-such-node")
	if err == nil || !strings.Contains(err.Error(), "no-such-node could not be found") {
		t.Errorf("forget the pool of a node that is none: %v", err)
	}
}
