package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

func TestLostDataIsNeverPaperedOver(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		for _, v := range []model.DesiredVolume{volume(volA, 20), blank(volC, 20)} {
			v.Materialized = true
			o := n.apply(images(b.relay("b", "a", nil)), volumes(v), v.ID)
			if got := o.Volume(v.ID); got.State != model.DeviceError || !strings.Contains(got.Error, "lost") || got.Device != "" || o.Settled {
				t.Errorf("volume %+v", got)
			}
			if slices.Contains(n.pool.Thins(), 20) {
				t.Error("an empty thin device was made in place of the lost one")
			}
		}
	})
}

func TestAnotherPoolIsLeftAlone(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["b"]
		chain(b)
		st, err := n.pool.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20)), volA)
		n.apply(images(b.relay("b", "a", nil)), volumes(in(model.Inactive, volume(volA, 20))), volA)
		n.settled()
		n.tap.take()
		// Thin devices 20 and 21 of this pool are, for all that is known, another node's data.
		if err := n.pool.CreateThin(t.Context(), 21); err != nil {
			t.Fatal(err)
		}
		n.gen++
		doc := n.doc(images(gone(b.relay("b", "a", nil))), volumes(
			volume(volA, 20), blank(volB, 21), in(model.Absent, blank(volC, 22))))
		doc.PoolUUID = "00000000-0000-4000-8000-000000000000"
		o := n.applyDoc(doc, volA, volB)
		for _, id := range []string{volA, volB} {
			if v := o.Volume(id); v.State != model.DeviceError && id == volB || v.Device != "" {
				t.Errorf("volume %+v", v)
			}
		}
		o = n.until("image gone", func(o model.Observed) bool { return o.Image(img).State == model.DeviceAbsent })
		if v := o.Volume(volC); v.State == model.DeviceAbsent || !strings.Contains(v.Error, "exchanged") {
			t.Errorf("volume to be deleted: %+v", v)
		}
		if got := n.pool.Thins(); !slices.Equal(got, []uint64{8, 20, 21}) {
			t.Errorf("thin devices are now %v", got)
		}
		// With the right one it goes on at once, though nothing else in the document is new.
		n.gen++
		doc.Generation, doc.PoolUUID = n.gen, st.UUID
		if o := n.applyDoc(doc, volB, volC); o.Volume(volB).State != model.DeviceReady || o.Volume(volC).State != model.DeviceAbsent {
			t.Errorf("in the right pool: %+v", o.Volumes)
		}
	})
}

func TestWithoutAPoolTheNodeStillRelays(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		for _, name := range []string{"a", "b"} {
			n := b.nodes[name]
			n.cache.name, n.cache.needs = "none", func(uint64) []driver.LocalDevice { return nil }
			n.devs.Forget(poolDisk)
		}
		b.nodes["b"].drivers.Pool = nil
		chain(b)
		for _, name := range []string{"a", "b"} {
			n := b.nodes[name]
			o := n.apply(images(b.relay(name, "origin", nil, "c")), volumes(volume(volA, 20), blank(volC, 21)), volA, volC)
			n.until("relays", func(o model.Observed) bool { return parentIs("origin")(o) && o.Image(img).Exported })
			for _, id := range []string{volA, volC} {
				if v := o.Volume(id); v.State != model.DeviceError || !strings.Contains(v.Error, "pool") {
					t.Errorf("%s: volume %+v", name, v)
				}
			}
			if want := map[string]string{"a": "missing", "b": "none"}[name]; o.Pool.State != want || o.Settled {
				t.Errorf("%s: pool %+v, settled %v", name, o.Pool, o.Settled)
			}
		}
		// A disk that comes late is taken, without a restart.
		n := b.nodes["a"]
		n.devs.Declare(poolDisk, 1<<24, false)
		n.settled()
	})
}

// A node whose cache wants a pool that it has not got says so, and forgets the image without it.
func TestCacheWithoutAPool(t *testing.T) {
	run(t, func(_ *testing.T, b *bed) {
		n := b.nodes["a"]
		n.drivers.Pool = nil
		b.start()
		b.nodes["origin"].apply(images(b.root("a")), nil)
		b.nodes["origin"].settled()
		n.apply(images(b.relay("a", "origin", nil)), nil)
		n.until("told", func(o model.Observed) bool { return strings.Contains(o.Image(img).Error, "pool") })
		n.apply(images(gone(b.relay("a", "origin", nil))), nil)
		n.until("gone", func(o model.Observed) bool { return o.Image(img).State == model.DeviceAbsent })
	})
}

// A document that comes while the pool is being opened must not find a pool without a name.
func TestDocumentWhileThePoolIsOpened(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["b"]
		n.start()
		st, err := n.pool.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.stop()
		slow := slowPool{tapPool: tapPool{n.pool, n.tap}, gate: make(chan struct{})}
		n.drivers.Pool = slow
		n.start()
		n.gen++
		doc := n.doc(nil, volumes(blank(volC, 20)))
		doc.PoolUUID = st.UUID
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o, err := n.agent.Apply(ctx, doc, []string{volC})
		if err != nil || o.Volume(volC).State != model.DeviceBuilding || o.Volume(volC).Error != "" {
			t.Errorf("while the pool is opened: %+v (%v)", o.Volume(volC), err)
		}
		close(slow.gate)
		n.settled()
	})
}

type slowPool struct {
	tapPool
	gate chan struct{}
}

func (p slowPool) Open(ctx context.Context) (driver.PoolStatus, error) {
	<-p.gate
	return p.tapPool.Open(ctx)
}
