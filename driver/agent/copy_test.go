package agent_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

const (
	snapA = "5aaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	snapC = "5ccccccc-cccc-4ccc-8ccc-cccccccccccc"
	volD  = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
)

func copied(v model.DesiredVolume, from uint32) model.DesiredVolume {
	v.SourceThin = from
	return v
}

func larger(v model.DesiredVolume) model.DesiredVolume {
	v.Bytes *= 2
	return v
}

func isMade(v model.DesiredVolume) model.DesiredVolume {
	v.Materialized = true
	return v
}

// At the moment of a copy every device over its source stands still, whoever has it, and
// goes on afterwards.
func TestCopyHoldsItsSourceUp(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		b.surroundings("origin", "c")
		n := b.nodes["a"]
		n.start()
		relay := images(b.relay("a", "origin", nil))
		vols := volumes(volume(volA, 20, "b"), blank(volC, 21))
		n.apply(relay, vols)
		n.settled()
		vols = volumes(isMade(vols[0]), isMade(vols[1]))
		still := map[string]bool{}
		n.tap.setFault(func(_ context.Context, _ int, op string, after bool) error {
			if op != "pool.snap" || after {
				return nil
			}
			all, err := n.dm.List(t.Context(), driver.Prefix+"volume-")
			for _, d := range all {
				if d.Suspended {
					still[d.Name] = true
				}
			}
			return err
		})
		o := n.apply(relay, append(vols, in(model.Inactive, copied(volume(snapA, 30), 20)), in(model.Inactive, copied(blank(snapC, 31), 21))), snapA, snapC)
		for _, id := range []string{snapA, snapC} {
			if v := o.Volume(id); !v.Materialized || v.State != model.DeviceInactive {
				t.Errorf("snapshot %+v", v)
			}
		}
		for _, name := range []string{
			driver.VolumeDevice(volA, driver.PartExport), driver.VolumeDevice(volA, driver.PartVolume), driver.VolumeDevice(volA, driver.PartCow),
			driver.VolumeDevice(volC, driver.PartVolume), driver.VolumeDevice(volC, driver.PartCow),
		} {
			if !still[name] {
				t.Errorf("%s went on while it was copied", name)
			}
			if d, err := n.dm.Get(t.Context(), name); err != nil || d.Suspended {
				t.Errorf("afterwards: %+v, %v", d, err)
			}
		}
		if got := n.pool.Thins(); !slices.Contains(got, 30) || !slices.Contains(got, 31) {
			t.Errorf("thin devices %v", got)
		}
	})
}

// A copy whose source is gone is an error that says so, never an empty device.
func TestCopyOfNothing(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		o := n.apply(nil, volumes(in(model.Inactive, copied(blank(snapC, 30), 29)), copied(blank(volD, 31), 29)), snapC, volD)
		for _, id := range []string{snapC, volD} {
			if v := o.Volume(id); v.State != model.DeviceError || v.Materialized || v.Error == "" {
				t.Errorf("%+v", v)
			}
		}
		for _, thin := range n.pool.Thins() {
			if thin >= 29 {
				t.Errorf("thin device %d was made", thin)
			}
		}
	})
}

// A volume that is reverted a second time gets a second copy: the first one is no proof of it.
func TestRevertedTwice(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		n.apply(nil, volumes(blank(volC, 21)))
		n.settled()
		snap := isMade(in(model.Inactive, copied(blank(snapC, 30), 21)))
		n.apply(nil, volumes(in(model.Inactive, isMade(blank(volC, 21))), in(model.Inactive, copied(blank(snapC, 30), 21))), snapC)
		for _, thin := range []uint32{31, 32} { // each is a revert
			o := n.apply(nil, volumes(snap, in(model.Inactive, copied(blank(volC, thin), 30))), volC)
			if v := o.Volume(volC); !v.Materialized || v.ThinID != thin || !slices.Contains(n.pool.Thins(), uint64(thin)) {
				t.Errorf("%+v, thin devices %v, want %d", v, n.pool.Thins(), thin)
			}
			n.apply(nil, volumes(snap, in(model.Inactive, isMade(copied(blank(volC, thin), 30)))), volC)
		}
	})
}

// A source that can't be held up, because its I/O can't be finished, is let go again.
func TestCopyOfAStuckVolume(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		n.apply(nil, volumes(blank(volC, 21)))
		n.settled()
		n.dm.FailNext("suspend", driver.VolumeDevice(volC, driver.PartCow), errors.New("injected: still busy"))
		n.apply(nil, volumes(isMade(blank(volC, 21)), in(model.Inactive, copied(blank(snapC, 30), 21))))
		later(100 * time.Millisecond)
		for _, part := range []string{driver.PartVolume, driver.PartCow} {
			if d, err := n.dm.Get(t.Context(), driver.VolumeDevice(volC, part)); err != nil || d.Suspended {
				t.Errorf("%+v, %v", d, err)
			}
		}
		n.until("the copy to be made all the same", func(o model.Observed) bool { return o.Volume(snapC).Materialized })
	})
}

func TestGrow(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		b.surroundings("origin", "c")
		n := b.nodes["a"]
		n.start()
		relay := images(b.relay("a", "origin", nil))
		vols := volumes(volume(volA, 20, "b"), blank(volC, 21))
		n.apply(relay, vols)
		n.settled()
		o := n.apply(relay, volumes(larger(isMade(vols[0])), larger(isMade(vols[1]))), volA, volC)
		for i, id := range []string{volA, volC} {
			if v := o.Volume(id); v.State != model.DeviceReady || v.Bytes != 2*vols[i].Bytes {
				t.Errorf("%+v, want %d bytes", v, 2*vols[i].Bytes)
			}
		}
		t1, err := n.dm.Table(t.Context(), driver.VolumeDevice(volA, driver.PartExport))
		if err != nil || int64(t1.Sectors())*512 != 2*vols[0].Bytes {
			t.Errorf("exported: %v, %v", t1, err)
		}
	})
}

// What is remembered of deletions and copies ends with what the document says of them.
func TestMemoryEndsWithTheDocument(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		vols := volumes(blank(volC, 21))
		n.apply(nil, vols)
		n.settled()
		vols[0] = isMade(vols[0])
		n.apply(nil, append(vols, in(model.Inactive, copied(blank(snapC, 30), 21))), snapC)
		n.settled()
		if gone, copied := n.agent.Remembered(); gone != 0 || copied != 1 {
			t.Errorf("after a copy: %d deletions and %d copies are remembered", gone, copied)
		}
		n.apply(nil, append(vols, in(model.Absent, blank(volD, 31))), volD) // the copy has moved away
		n.settled()
		if gone, copied := n.agent.Remembered(); gone != 1 || copied != 0 {
			t.Errorf("after a deletion: %d deletions and %d copies are remembered", gone, copied)
		}
		n.apply(nil, vols, volC)
		if gone, copied := n.agent.Remembered(); gone != 0 || copied != 0 {
			t.Errorf("with neither in the document: %d deletions and %d copies are remembered", gone, copied)
		}
	})
}

// A document between two may never arrive: the device of a volume that was detached, got another
// thin device, and was attached again, does not go on standing on the one that it had before.
func TestAnotherThinUnderTheDevice(t *testing.T) {
	for name, now := range map[string]model.DesiredVolume{
		"reverted": copied(blank(volC, 31), 30), "given another image": blank(volC, 31),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bed) {
				n := b.nodes["a"]
				n.start()
				standsOn := func(thin string) {
					t.Helper()
					cow, err := n.dm.Table(t.Context(), driver.VolumeDevice(volC, driver.PartCow))
					if err != nil || len(cow) != 1 || !strings.HasSuffix(cow[0].Params, " "+thin) {
						t.Errorf("it stands on %+v, %v, want %s", cow, err, thin)
					}
				}
				n.apply(nil, volumes(blank(volC, 21)))
				n.settled()
				was := isMade(blank(volC, 21))
				n.apply(nil, volumes(was, in(model.Inactive, copied(blank(snapC, 30), 21))), snapC)
				snap := isMade(in(model.Inactive, copied(blank(snapC, 30), 21)))
				standsOn("21")

				// What somebody holds open is not passed off as the new one either.
				n.dm.FailNext("remove", driver.VolumeDevice(volC, driver.PartVolume), driver.ErrBusy)
				o := n.apply(nil, volumes(snap, now))
				if v := o.Volume(volC); v.State == model.DeviceReady || v.Materialized && now.SourceThin == 0 {
					t.Errorf("while the device is held open: %+v", v)
				}
				o = n.until("the device to be ready", func(o model.Observed) bool { return o.Volume(volC).State == model.DeviceReady })
				if v := o.Volume(volC); !v.Materialized || v.ThinID != 31 {
					t.Errorf("%+v", v)
				}
				standsOn("31")
			})
		})
	}
}
