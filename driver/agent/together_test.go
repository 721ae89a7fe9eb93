package agent_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

const moment = "99999999-9999-4999-8999-999999999999"

func together(v model.DesiredVolume) model.DesiredVolume {
	v.Together = moment
	return v
}

// memberNode has an image's volume, exported, and a blank one, which a group snapshot is taken of.
func memberNode(b *bed) (n *node, relay []model.DesiredImage, vols, snaps []model.DesiredVolume) {
	b.surroundings("origin", "c")
	n = b.nodes["a"]
	n.start()
	relay = images(b.relay("a", "origin", nil))
	vols = volumes(volume(volA, 20, "b"), blank(volC, 21))
	n.apply(relay, vols)
	n.settled()
	vols = volumes(isMade(vols[0]), isMade(vols[1]))
	snaps = volumes(in(model.Inactive, together(copied(volume(snapA, 30), 20))), in(model.Inactive, together(copied(blank(snapC, 31), 21))))
	return n, relay, vols, snaps
}

func memberDevices() []string {
	return []string{
		driver.VolumeDevice(volA, driver.PartExport), driver.VolumeDevice(volA, driver.PartVolume), driver.VolumeDevice(volA, driver.PartCow),
		driver.VolumeDevice(volC, driver.PartVolume), driver.VolumeDevice(volC, driver.PartCow),
	}
}

func (n *node) goesOn(t *testing.T) {
	t.Helper()
	for _, name := range memberDevices() {
		if d, err := n.dm.Get(t.Context(), name); err != nil || d.Suspended {
			t.Errorf("afterwards: %+v, %v", d, err)
		}
	}
}

// Copies that belong together are made while the devices of all their sources stand still,
// whatever images these are of.
func TestCopiesTogether(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n, relay, vols, snaps := memberNode(b)
		moving := map[string]int{} // at how many of the copies a device went on
		copies := 0
		n.tap.setFault(func(_ context.Context, _ int, op string, after bool) error {
			if op != "pool.snap" || after {
				return nil
			}
			copies++
			for _, name := range memberDevices() {
				if d, err := n.dm.Get(t.Context(), name); err != nil || !d.Suspended {
					moving[name]++
				}
			}
			return nil
		})
		o := n.apply(relay, slices.Concat(vols, snaps), snapA, snapC)
		for _, id := range []string{snapA, snapC} {
			if v := o.Volume(id); !v.Materialized || v.State != model.DeviceInactive || v.Error != "" {
				t.Errorf("snapshot %+v", v)
			}
		}
		if copies != 2 || len(moving) > 0 {
			t.Errorf("%d copies; went on meanwhile: %v", copies, moving)
		}
		n.goesOn(t)
		n.tap.take()
		n.settled()
		later(2 * time.Minute) // resyncs
		if ops := n.tap.take(); slices.Contains(ops, "pool.snap") || slices.Contains(ops, "pool.delete") {
			t.Errorf("again: %v", ops)
		}
	})
}

// If one can't be made none is, nothing is left of the others, all sources go on, and all are
// reported as failed in one report. It is not tried again.
func TestCopiesTogetherFail(t *testing.T) {
	for name, fail := range map[string]func(n *node){
		"no copy": func(n *node) { n.pool.FailNext("snap", "31", errors.New("injected: no copy")) },
		"not held up": func(n *node) {
			n.dm.FailNext("suspend", driver.VolumeDevice(volC, driver.PartCow), errors.New("injected: busy"))
		},
		"source is not": func(n *node) {
			n.dm.FailNext("suspend", driver.VolumeDevice(volA, driver.PartExport), errors.New("injected: busy"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bed) {
				n, relay, vols, snaps := memberNode(b)
				n.control.take()
				fail(n)
				n.apply(relay, slices.Concat(vols, snaps), snapA, snapC)
				later(time.Minute)
				for _, id := range []string{snapA, snapC} {
					o := n.observe()
					if v := o.Volume(id); v.Materialized || v.State != model.DeviceError || v.Error == "" {
						t.Errorf("%+v", v)
					}
				}
				reports, _ := n.control.take()
				for _, o := range reports {
					a, c := o.Volume(snapA), o.Volume(snapC)
					if (a.State == model.DeviceError) != (c.State == model.DeviceError) {
						t.Errorf("one is told to have failed, the other is not: %+v, %+v", a, c)
					}
				}
				for _, thin := range n.pool.Thins() {
					if thin == 30 || thin == 31 {
						t.Errorf("thin device %d is left", thin)
					}
				}
				n.goesOn(t)
			})
		})
	}
}

// An agent that ends between two copies makes both anew: the first is of another moment.
func TestCopiesTogetherAfterACrash(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n, relay, vols, snaps := memberNode(b)
		dead := errors.New("the agent is dead")
		crashed := false
		n.tap.setFault(func(_ context.Context, _ int, op string, after bool) error {
			if crashed = crashed || op == "pool.snap" && after; crashed {
				return dead
			}
			return nil
		})
		n.gen++
		doc := n.doc(relay, slices.Concat(vols, snaps))
		if err := n.agent.Take(doc); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		n.stop()
		if got := n.pool.Thins(); !slices.Contains(got, 30) || slices.Contains(got, 31) {
			t.Fatalf("thin devices %v, want the first copy alone", got)
		}
		n.tap.setFault(nil)
		n.start()
		o := n.applyDoc(doc, volA, volC, snapA, snapC)
		n.goesOn(t)
		for _, id := range []string{snapA, snapC} {
			if v := o.Volume(id); !v.Materialized {
				t.Errorf("%+v", v)
			}
		}
		ops := n.tap.take()
		if i := slices.Index(ops, "pool.snap"); i < 0 || !slices.Contains(ops[:i], "pool.delete") {
			t.Errorf("what the crash left was taken for a copy of this moment: %v", ops)
		}
	})
}
