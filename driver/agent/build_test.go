package agent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/agent"
)

// run runs f on a bed in a bubble, and stops all agents in the end.
func run(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		f(t, b)
	})
}

// chain makes origin → a → b stand.
func chain(b *bed) {
	b.start()
	b.nodes["origin"].apply(images(b.root("a", "b", "c")), nil)
	b.nodes["origin"].settled()
	b.nodes["a"].apply(images(b.relay("a", "origin", nil, "b", "c")), nil)
	b.nodes["a"].settled()
	b.nodes["b"].apply(images(b.relay("b", "a", []string{"origin"})), nil)
	b.nodes["b"].settled()
}

func device(id string) string { return "/dev/mapper/" + driver.VolumeDevice(id, driver.PartVolume) }

func TestChainComesToStand(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		b.start()
		// From the leaf up: children retry until their parents are there.
		n := b.nodes["b"]
		n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20, "c")))
		later(time.Second)
		if o := n.observe(); o.Settled || o.Volume(volA).State != model.DeviceBuilding || !strings.Contains(o.Volume(volA).Error, "can't be read") {
			t.Errorf("without a parent: settled %v, volume %+v", o.Settled, o.Volume(volA))
		}
		b.nodes["a"].apply(images(b.relay("a", "origin", nil, "b")), nil)
		b.nodes["origin"].apply(images(b.root("a")), nil)
		o := n.applyDoc(n.doc(images(b.relay("b", "a", nil)), volumes(volume(volA, 20, "c"))), volA)
		if v := o.Volume(volA); v.State != model.DeviceReady || v.Device != device(volA) || !v.Materialized || !v.Exported {
			t.Errorf("waited for, the volume is %+v", v)
		}
		for name, parent := range map[string]string{"origin": "", "a": "origin", "b": "a"} {
			o := b.nodes[name].settled()
			if i := o.Image(img); i.State != model.DeviceReady || i.Parent != parent || i.Error != "" || i.Exported != (name != "b") {
				t.Errorf("%s: %+v", name, i)
			}
			if len(o.Unknown)+len(o.Problems) != 0 || o.Generation != 1 {
				t.Errorf("%s: unknown %v, problems %v, generation %d", name, o.Unknown, o.Problems, o.Generation)
			}
			if r := b.nodes[name].control.last(); !r.Settled || r.Image(img).State != model.DeviceReady {
				t.Errorf("%s: the last report says settled %v, image %+v", name, r.Settled, r.Image(img))
			}
		}
		if o := b.nodes["a"].observe(); !slices.Equal(o.Image(img).Children, []string{initiatorOf("b")}) {
			t.Errorf("children of a: %v", o.Image(img).Children)
		}
	})
}

func TestAppliedTwiceChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d, v := images(b.relay("b", "a", nil)), volumes(volume(volA, 20, "c"), blank(volC, 21))
		n.apply(d, v, volA, volC)
		n.settled()
		n.tap.take()
		n.apply(d, v, volA, volC)
		later(2 * time.Minute) // resync goes through it some times more
		if ops := n.tap.take(); len(ops) > 0 {
			t.Errorf("applied again: %v", ops)
		}
	})
}

func TestWarmVolumeTouchesOnlyThePool(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20)), volA)
		n.tap.take()
		o := n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20), volume(volB, 21)), volB)
		if o.Volume(volB).Device != device(volB) {
			t.Errorf("volume %+v", o.Volume(volB))
		}
		if got, want := kinds(n.tap.take()), "pool.create pool.activate dm.create dm.create"; got != want {
			t.Errorf("a warm volume took %s, want %s", got, want)
		}
	})
}

func TestDocumentsThatAreNotTaken(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.agent = agent.New(n.config, n.drivers, n.control, nil)
		if _, err := n.agent.Apply(t.Context(), n.doc(nil, nil), nil); err == nil {
			t.Error("a document was taken before Run")
		}
		n.start()
		n.gen = 5
		n.applyDoc(n.doc(nil, volumes(blank(volC, 20))), volC)
		doc := n.doc(nil, volumes(in(model.Absent, blank(volC, 20))))
		doc.Generation = 4
		if o := n.applyDoc(doc, volC); o.Generation != 5 || o.Volume(volC).State != model.DeviceReady {
			t.Errorf("an older document: generation %d, volume %+v", o.Generation, o.Volume(volC))
		}
		doc.Generation, doc.Schema = 6, model.DesiredSchema+1
		if _, err := n.agent.Apply(t.Context(), doc, nil); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("another schema: %v", err)
		}
		doc.Schema, doc.Host = model.DesiredSchema, "b"
		if _, err := n.agent.Apply(t.Context(), doc, nil); err == nil || !strings.Contains(err.Error(), "document for b") {
			t.Errorf("another host's: %v", err)
		}
		later(time.Minute)
		if o := n.observe(); o.Generation != 5 || o.Volume(volC).State != model.DeviceReady {
			t.Errorf("afterwards: generation %d, volume %+v", o.Generation, o.Volume(volC))
		}
		n.stop()
		if _, err := n.agent.Apply(t.Context(), n.doc(nil, nil), nil); err == nil {
			t.Error("a document was taken after the end")
		}
	})
}

func TestDocumentComesWithTheAnswerToAReport(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.gen = 3
		doc := n.doc(nil, volumes(blank(volC, 20)))
		n.control.answer = func(o model.Observed) (*model.Desired, error) {
			if o.Generation < 3 {
				return &doc, nil
			}
			return nil, errors.New("the control plane is away")
		}
		n.start()
		n.until("ready", func(o model.Observed) bool { return o.Volume(volC).State == model.DeviceReady })
		if r, _ := n.control.take(); r[0].Generation != 0 {
			t.Errorf("the first report is of generation %d", r[0].Generation)
		}
	})
}

func TestRestartTouchesNothing(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		d, v := images(b.relay("b", "a", nil, "c")), volumes(volume(volA, 20, "c"), blank(volC, 21))
		n := b.nodes["b"]
		n.apply(d, v, volA, volC)
		n.settled()
		before := n.state()
		n.stop()
		n.tap.take()
		n.start()
		later(time.Minute)
		if ops := n.tap.take(); len(ops) > 0 {
			t.Errorf("without a document: %v", ops)
		}
		if r := n.control.last(); r.Generation != 0 || len(r.Unknown) != 0 {
			t.Errorf("report after the start: generation %d, unknown %v", r.Generation, r.Unknown)
		}
		n.apply(d, v, volA, volC)
		n.settled()
		ops := n.tap.take()
		if rest := without(ops, "target.ensure"); len(rest) > 0 || len(ops) != 2 {
			t.Errorf("with the same document: %v", ops)
		}
		if after := n.state(); after != before {
			t.Errorf("state\n%s\nwant\n%s", after, before)
		}
	})
}

func TestInactiveKeepsAndAbsentDeletes(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d := images(b.relay("b", "a", nil))
		n.apply(d, volumes(volume(volA, 20, "c"), blank(volC, 21)), volA, volC)
		o := n.apply(d, volumes(in(model.Inactive, volume(volA, 20)), in(model.Inactive, blank(volC, 21))), volA, volC)
		for _, id := range []string{volA, volC} {
			if v := o.Volume(id); v.State != model.DeviceInactive || v.Device != "" || v.Exported {
				t.Errorf("inactive volume %+v", v)
			}
		}
		if s := n.state(); strings.Contains(s, "volume-") || !strings.Contains(s, "thins [8 20 21]") {
			t.Errorf("inactive: %s", s)
		}
		n.settled()
		// While the thin device can't be deleted the volume is not absent.
		n.pool.FailNext("delete", "20", errors.New("held back"))
		n.gen++
		n.agent.Apply(t.Context(), n.doc(d, volumes(in(model.Absent, volume(volA, 20)), in(model.Absent, blank(volC, 21)))), []string{volC}) //nolint:errcheck // the fault is wanted
		synctest.Wait()
		if o := n.observe(); o.Volume(volA).State != model.DeviceBuilding || !strings.Contains(o.Volume(volA).Error, "held back") || o.Settled {
			t.Errorf("settled %v, volume %+v", o.Settled, o.Volume(volA))
		}
		o = n.settled()
		if o.Volume(volA).State != model.DeviceAbsent || o.Volume(volC).State != model.DeviceAbsent {
			t.Errorf("absent: %+v", o.Volumes)
		}
		if got := n.pool.Thins(); !slices.Equal(got, []uint64{8}) {
			t.Errorf("thin devices %v are left", got)
		}
		reports, _ := n.control.take()
		for _, r := range reports {
			if r.Volume(volA).State == model.DeviceAbsent && r.Volume(volA).Error != "" {
				t.Errorf("absent with an error: %+v", r.Volume(volA))
			}
		}
	})
}

func TestBusyImageIsRetriedUntilItGoes(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d := b.relay("b", "a", nil)
		n.apply(images(d), volumes(volume(volA, 20)), volA)
		open, err := n.devs.Open(device(volA))
		if err != nil {
			t.Fatal(err)
		}
		n.apply(images(gone(d)), volumes(in(model.Absent, volume(volA, 20))))
		later(time.Minute)
		o := n.observe()
		if i := o.Image(img); i.State != model.DeviceBuilding || !strings.Contains(i.Error, "in use") {
			t.Errorf("image %+v", i)
		}
		if v := o.Volume(volA); v.State != model.DeviceBuilding || !strings.Contains(v.Error, "in use") {
			t.Errorf("volume %+v", v)
		}
		if o.Settled || !slices.Contains(n.pool.Thins(), 20) {
			t.Errorf("settled %v, thin devices %v", o.Settled, n.pool.Thins())
		}
		if err := open.Close(); err != nil {
			t.Fatal(err)
		}
		o = n.settled()
		if o.Image(img).State != model.DeviceAbsent || o.Volume(volA).State != model.DeviceAbsent {
			t.Errorf("%+v", o)
		}
		if s, want := n.state(), "device vmthunder-pool\ndevice vmthunder-pool-data\ndevice vmthunder-pool-meta\nthins []"; s != want {
			t.Errorf("left:\n%s", s)
		}
	})
}

func TestUnknownThingsAreLeftAlone(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20, "c"), blank(volC, 21)), volA, volC)
		n.settled()
		before := n.state()
		n.tap.take()
		n.apply(nil, nil)
		o := n.settled()
		later(time.Minute)
		for _, want := range []string{
			"device " + driver.VolumeDevice(volA, driver.PartVolume), "device " + driver.VolumeDevice(volC, driver.PartCow),
			"target " + driver.VolumeIQN("b", volA), "device " + driver.ImageDevice(img, driver.PartPath),
			"session " + driver.ImageIQN("a", img) + " at " + b.nodes["a"].addr,
		} {
			if !slices.Contains(o.Unknown, want) {
				t.Errorf("%s is not among the unknown: %v", want, o.Unknown)
			}
		}
		if ops := n.tap.take(); len(ops) > 0 || n.state() != before {
			t.Errorf("touched: %v", ops)
		}
	})
}
