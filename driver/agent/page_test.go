package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

var pageName = driver.ImageDevice(img, driver.PartPage)

// Children must not wait behind the reads of volumes: the relay has loop devices of its own.
func TestRelayHasLoopDevicesOfItsOwn(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		for _, name := range []string{"origin", "a"} {
			n := b.nodes[name]
			seen := map[string]bool{}
			for _, part := range []string{driver.PartPage, driver.PartRelay} {
				table, err := n.dm.Table(t.Context(), driver.ImageDevice(img, part))
				if err != nil {
					t.Fatal(err)
				}
				s, err := dm.ParseSwitch(table[0])
				if err != nil || len(s.Devices) != 3 {
					t.Errorf("%s on %s: %+v, %v", part, name, s, err)
				}
				for _, d := range s.Devices {
					if seen[d] {
						t.Errorf("%s has %s twice", name, d)
					}
					seen[d] = true
				}
			}
		}
	})
}

// An agent that used one loop device left a stack with a volume and a child on it. The next one
// touches neither, makes the page layer beside them, and takes all of it away in the end.
func TestPageBesideAnEarlierOne(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.config.PageLoops = 1
		chain(b)
		n.apply(images(b.relay("a", "origin", nil, "b")), volumes(volume(volA, 20)), volA)
		n.settled()
		loops, err := n.loop.List(t.Context())
		if err != nil || len(loops) != 1 || n.devs.Users(loops[0].Path) != 2 {
			t.Fatalf("before: %v, %v", loops, err)
		}
		n.stop()
		n.tap.take()
		n.config.PageLoops = 3
		n.start()
		o := n.apply(images(b.relay("a", "origin", nil, "b")), volumes(volume(volA, 20), volume(volB, 21)), volA, volB)
		if o.Volume(volA).State != model.DeviceReady || o.Volume(volB).State != model.DeviceReady || o.Image(img).State != model.DeviceReady {
			t.Errorf("after the upgrade: %+v", o)
		}
		for _, op := range n.tap.take() {
			if strings.Contains(op, volA) || strings.Contains(op, "remove") || strings.Contains(op, "detach") || strings.Contains(op, "reload") {
				t.Errorf("the upgrade did %s", op)
			}
		}
		table, err := n.dm.Table(t.Context(), pageName)
		if err != nil || table[0].Type != "switch" || n.devs.Users("/dev/mapper/"+pageName) != 1 {
			t.Errorf("page layer %v, %v", table, err)
		}
		// Children go first, or the export stays.
		gone := b.relay("a", "origin", nil)
		gone.State = model.Absent
		va, vb := volume(volA, 20), volume(volB, 21)
		va.State, vb.State = model.Absent, model.Absent
		n.apply(images(gone), volumes(va, vb))
		n.settled()
		if loops, err := n.loop.List(t.Context()); err != nil || len(loops) != 0 || n.devs.Exists("/dev/mapper/"+pageName) {
			t.Errorf("left: %v, %v", loops, err)
		}
	})
}

// Loop devices that were bound and a table that was not loaded are finished, or taken away.
func TestPageHalfMade(t *testing.T) {
	for _, state := range []model.Presence{model.Present, model.Absent} {
		run(t, func(t *testing.T, b *bed) {
			n := b.nodes["origin"]
			b.start()
			root := b.root()
			n.apply(images(root), nil)
			n.settled()
			if err := n.dm.Remove(t.Context(), pageName); err != nil {
				t.Fatal(err)
			}
			loops, _ := n.loop.List(t.Context())
			if err := n.loop.Detach(t.Context(), loops[1].Path); err != nil {
				t.Fatal(err)
			}
			root.State = state
			n.apply(images(root), nil)
			later(time.Minute)
			o := n.settled()
			loops, err := n.loop.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if state == model.Absent {
				if len(loops) != 0 || o.Image(img).State != model.DeviceAbsent {
					t.Errorf("left %v, image %+v", loops, o.Image(img))
				}
				return
			}
			if len(loops) != 6 || o.Image(img).State != model.DeviceReady || !n.devs.Exists("/dev/mapper/"+pageName) {
				t.Errorf("stand %v, image %+v", loops, o.Image(img))
			}
		})
	}
}
