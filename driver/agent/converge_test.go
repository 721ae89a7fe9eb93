package agent_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// wish is one random document on node a, and what the control plane knows for it.
type wish struct {
	image   model.DesiredImage
	volumes []model.DesiredVolume
}

// Whatever is asked for, in whatever order, with changes that fail, agents that die, parents
// that are cut off and devices that are held open meanwhile: in the end what was asked for
// last stands, exactly as on a node that was never asked for anything else, and no data is
// gone that was not to be deleted.
func TestConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Not a testing.T for rapid: a bubble's has no deadline.
		rapid.Check(struct{ *testing.T }{t}, converge)
	})
}

func converge(t *rapid.T) {
	parents := []string{"origin", "b", "c"}
	b := newBed(t)
	defer b.stop()
	b.surroundings(parents...)
	a := b.nodes["a"]
	a.start()
	vols := []string{volA, volB, volC}
	thins := map[string]uint32{volA: 20, volB: 21, volC: 22}
	deleted, materialized := map[string]bool{}, map[string]bool{}
	var last wish
	var open io.Closer
	for range rapid.IntRange(1, 7).Draw(t, "documents") {
		last = drawWish(t, b, vols, thins, parents, deleted, materialized)
		d := doc("a", a.gen+1, images(last.image), last.volumes)
		a.gen++
		had := a.pool.Thins()

		died := a.faultAt(rapid.IntRange(0, 12).Draw(t, "fault at"), rapid.IntRange(0, modes-1).Draw(t, "mode"))
		if p := rapid.SampledFrom(append(parents, "")).Draw(t, "cut"); p != "" {
			b.fabric.Cut(b.nodes[p].addr)
			if rapid.Bool().Draw(t, "path failed") { // by the kernel, when the recovery time is over
				_, _ = a.dm.Message(context.Background(), driver.ImageDevice(img, driver.PartPath), 0, "fail_path 8:1")
			}
		}
		a.offer(d, died)
		later(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
		synctest.Wait()
		select {
		case <-died: // late
			a.stop()
			a.start()
			a.applyDoc(d)
		default:
		}
		if rapid.Bool().Draw(t, "restart") {
			a.stop()
			a.start()
			a.applyDoc(d)
		}
		if open != nil && rapid.Bool().Draw(t, "close") {
			_ = open.Close()
			open = nil
		}
		if v := rapid.SampledFrom(vols).Draw(t, "opened"); open == nil && a.devs.Exists(device(v)) && rapid.Bool().Draw(t, "open") {
			open, _ = a.devs.Open(device(v))
		}
		if rapid.Bool().Draw(t, "heal") {
			b.heal(parents)
		}
		o := a.observe()
		checkReport(t, a, o, last)
		for _, v := range last.volumes {
			materialized[v.ID] = materialized[v.ID] || o.Volume(v.ID).Materialized
			if id := uint64(v.ThinID); slices.Contains(had, id) && !slices.Contains(a.pool.Thins(), id) && v.State != model.Absent {
				t.Fatalf("the data of %s was deleted though %s was asked for", v.ID, v.State)
			}
		}
	}
	if open != nil {
		_ = open.Close()
	}
	b.heal(parents)
	a.tap.setFault(nil)
	for i, v := range last.volumes {
		last.volumes[i].Materialized = v.Materialized || slices.Contains(a.pool.Thins(), uint64(v.ThinID))
	}
	a.gen++
	a.applyDoc(doc("a", a.gen, images(last.image), last.volumes))
	checkReport(t, a, a.settled(), last)
	later(31 * time.Second)
	a.tap.take()
	later(31 * time.Second)
	if ops := a.tap.take(); len(ops) > 0 {
		t.Fatalf("at rest, and then did %v", ops)
	}

	fresh := newBed(t)
	defer fresh.stop()
	fresh.surroundings(parents...)
	n := fresh.nodes["a"]
	n.start()
	want := slices.Clone(last.volumes)
	for i := range want {
		want[i].Materialized = false
	}
	n.applyDoc(doc("a", 1, images(last.image), want))
	n.settled()
	if got, want := a.withoutThins(), n.withoutThins(); got != want {
		t.Fatalf("state\n%s\nwant\n%s", got, want)
	}
	for _, v := range last.volumes {
		if has := slices.Contains(a.pool.Thins(), uint64(v.ThinID)); v.State != model.Inactive && has != (v.State == model.Present) {
			t.Fatalf("volume %s is to be %s, its thin device is there: %v", v.ID, v.State, has)
		}
	}
	if has := slices.Contains(a.pool.Thins(), 8); has != (last.image.State == model.Present) {
		t.Fatalf("image is to be %s, its local device is there: %v", last.image.State, has)
	}
}

func drawWish(t *rapid.T, b *bed, vols []string, thins map[string]uint32, parents []string, deleted, materialized map[string]bool) wish {
	var w wish
	w.image = b.relay("a", rapid.SampledFrom(parents).Draw(t, "parent"), rapid.SliceOfNDistinct(rapid.SampledFrom(parents), 0, 2, rapid.ID[string]).Draw(t, "alternates"))
	if rapid.Bool().Draw(t, "child") {
		w.image.Children = children("d")
	}
	if rapid.IntRange(0, 3).Draw(t, "image gone") == 0 {
		w.image = gone(w.image)
	}
	for _, id := range vols {
		v := volume(id, thins[id])
		states := []model.Presence{model.Present, model.Present, model.Inactive, model.Absent}
		if id == volC {
			v = blank(id, thins[id])
		} else if w.image.State == model.Absent {
			states = states[2:] // volumes hold their image
		}
		v = in(rapid.SampledFrom(states).Draw(t, "state"), v)
		if deleted[id] {
			v.State = model.Absent // a deleted volume does not come back
		}
		deleted[id] = v.State == model.Absent
		if v.State == model.Present && rapid.Bool().Draw(t, "exported") {
			v.Hosts = children("e")
		}
		v.Materialized = materialized[id]
		w.volumes = append(w.volumes, v)
	}
	return w
}

// checkReport holds what is seen against what stands.
func checkReport(t *rapid.T, n *node, o model.Observed, w wish) {
	state := n.state()
	for _, v := range w.volumes {
		r := o.Volume(v.ID)
		stands, thin := strings.Contains(state, "volume-"+v.ID), slices.Contains(n.pool.Thins(), uint64(v.ThinID))
		exported := strings.Contains(state, fmt.Sprintf("target iqn.2014-05.org.vmthunder:a:volume-%s", v.ID))
		switch r.State {
		case model.DeviceReady:
			if !n.devs.Exists(r.Device) || v.State != model.Present || exported != (len(v.Hosts) > 0) {
				t.Fatalf("reported ready: %+v, asked for %+v, state\n%s", r, v, state)
			}
		case model.DeviceAbsent:
			if stands || thin || v.State != model.Absent {
				t.Fatalf("reported absent: %+v, asked for %+v, state\n%s", r, v, state)
			}
		case model.DeviceInactive:
			if stands || v.State != model.Inactive {
				t.Fatalf("reported inactive: %+v, asked for %+v, state\n%s", r, v, state)
			}
		case model.DeviceError:
			t.Fatalf("reported an error: %+v", r)
		}
	}
	i := o.Image(img)
	if i.State == model.DeviceAbsent && (strings.Contains(state, "image-"+img) || slices.Contains(n.pool.Thins(), 8)) {
		t.Fatalf("image reported absent, state\n%s", state)
	}
	if o.Settled && (i.Error != "" || len(o.Unknown) > 0 || i.State == model.DevicePathLost || i.State == model.DeviceBuilding) {
		t.Fatalf("settled: %+v", o)
	}
}

func (b *bed) heal(hosts []string) {
	for _, h := range hosts {
		b.fabric.Heal(b.nodes[h].addr)
	}
}

func (n *node) withoutThins() string {
	lines := slices.DeleteFunc(strings.Split(n.state(), "\n"), func(l string) bool { return strings.HasPrefix(l, "thins ") })
	return strings.Join(lines, "\n")
}
