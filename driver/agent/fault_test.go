package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// holdAt keeps changes of a kind going on, made or still to be made, until hold is closed,
// whatever becomes of their context.
func holdAt(kind string, made bool, hold chan struct{}) func(context.Context, int, string, bool) error {
	return func(_ context.Context, _ int, op string, after bool) error {
		if after == made && strings.HasPrefix(op, kind) {
			<-hold
		}
		return nil
	}
}

var errInjected = errors.New("injected")

// Ways in which a change can go wrong.
const (
	failBefore = iota // it is refused
	failAfter         // it is made, and an error returned all the same
	dieBefore         // the agent ends before it
	dieAfter          // the agent ends right after it
	modes
)

// faultAt makes the k-th change go wrong, once. died is closed when it was the agent's end.
func (n *node) faultAt(k, mode int) (died chan struct{}) {
	died = make(chan struct{})
	cancel := n.cancel
	n.faults.Store(0)
	n.tap.setFault(func(_ context.Context, i int, _ string, after bool) error {
		if i != k || after != (mode == failAfter || mode == dieAfter) {
			return nil
		}
		n.faults.Add(1) // changes of one group are made one after the other, and only one is the k-th
		if mode == dieBefore || mode == dieAfter {
			cancel()
			close(died)
			return context.Canceled
		}
		return errInjected
	})
	return died
}

// offer gives the document to the agent, and to the next one if this one dies of it.
func (n *node) offer(doc model.Desired, died chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = n.agent.Apply(ctx, doc, nil)
	synctest.Wait()
	select {
	case <-died:
		<-n.ended
		n.start()
		n.applyDoc(doc)
	default:
	}
}

// change is a step from one document to another, on a node among parents that stand.
type change struct {
	name, node    string
	before, after func(b *bed) model.Desired
}

func doc(host string, generation int64, i []model.DesiredImage, v []model.DesiredVolume) model.Desired {
	return model.Desired{Schema: model.DesiredSchema, Host: host, Generation: generation, Images: i, Volumes: v}
}

func changes() []change {
	nothing := func(*bed) model.Desired { return model.Desired{} }
	made := func(v model.DesiredVolume) model.DesiredVolume {
		v.Materialized = true
		return v
	}
	relay := func(generation int64, parent string) func(b *bed) model.Desired {
		return func(b *bed) model.Desired {
			return doc("a", generation, images(b.relay("a", parent, []string{"c"}, "b", "c")), volumes(volume(volA, 20, "b"), blank(volC, 21)))
		}
	}
	root := func(b *bed) model.Desired {
		return doc("origin", 2, images(b.root("a"), second(b, "a")), volumes(volume(volA, 20, "b")))
	}
	return []change{
		{"build a relay", "a", nothing, relay(1, "origin")},
		{"build a root", "origin", func(*bed) model.Desired { return doc("origin", 1, nil, nil) }, root},
		{"exchange the parent", "a", relay(1, "origin"), relay(2, "c")},
		{"copy", "a", relay(1, "origin"), func(b *bed) model.Desired {
			return doc("a", 2, images(b.relay("a", "origin", []string{"c"}, "b", "c")), volumes(
				made(volume(volA, 20, "b")), made(blank(volC, 21)),
				in(model.Inactive, copied(volume(snapA, 30), 20)), copied(volume(volB, 31), 20),
				in(model.Inactive, copied(blank(snapC, 32), 21)), copied(blank(volD, 33), 21)))
		}},
		{"grow", "a", relay(1, "origin"), func(b *bed) model.Desired {
			return doc("a", 2, images(b.relay("a", "origin", []string{"c"}, "b", "c")), volumes(
				larger(made(volume(volA, 20, "b"))), larger(made(blank(volC, 21)))))
		}},
		{"make inactive", "a", relay(1, "origin"), func(b *bed) model.Desired {
			return doc("a", 2, images(b.relay("a", "origin", nil)), volumes(made(in(model.Inactive, volume(volA, 20))), made(in(model.Inactive, blank(volC, 21)))))
		}},
		{"tear a relay down", "a", relay(1, "origin"), func(b *bed) model.Desired {
			return doc("a", 2, images(gone(b.relay("a", "origin", nil))), volumes(made(in(model.Absent, volume(volA, 20))), made(in(model.Absent, blank(volC, 21)))))
		}},
		{"tear a root down", "origin", root, func(b *bed) model.Desired {
			return doc("origin", 3, images(gone(b.root()), gone(second(b))), volumes(made(in(model.Absent, volume(volA, 20)))))
		}},
	}
}

// surroundings are parents of a.
func (b *bed) surroundings(hosts ...string) {
	for _, name := range hosts {
		n := b.nodes[name]
		n.start()
		if name == "origin" {
			n.apply(images(b.root("a", "b", "c"), second(b)), nil)
		} else {
			n.apply(images(b.relay(name, "origin", nil, "a")), nil)
		}
		n.settled()
	}
}

// carry brings a new bed from before to after with a fault at the k-th change (none if negative),
// and returns the node's state and how many changes it took.
func carry(t *testing.T, c change, k, mode int) (state string, count int) {
	b := newBed(t)
	defer b.stop()
	if c.node == "a" {
		b.surroundings("origin", "c")
	}
	n := b.nodes[c.node]
	n.start()
	if d := c.before(b); d.Generation > 0 {
		n.applyDoc(d)
		n.settled()
	}
	n.tap.setFault(nil)
	d := c.after(b)
	if k < 0 {
		n.applyDoc(d)
	} else {
		n.offer(d, n.faultAt(k, mode))
	}
	o := n.settled()
	if k >= 0 && n.faults.Load() != 1 {
		t.Errorf("%d faults at change %d", n.faults.Load(), k)
	}
	if len(o.Unknown)+len(o.Problems) > 0 {
		t.Errorf("unknown %v, problems %v", o.Unknown, o.Problems)
	}
	count = len(n.tap.take())
	later(31 * time.Second)
	if ops := n.tap.take(); len(ops) > 0 {
		t.Errorf("at rest, and then did %v", ops)
	}
	return n.state(), count
}

// Whatever change of the node goes wrong, and however, in the end all is as if it had gone well.
func TestEveryCrashPoint(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				want, count := carry(t, c, -1, 0)
				if count < 3 {
					t.Fatalf("took %d changes", count)
				}
				for k := range count {
					for mode := range modes {
						if got, _ := carry(t, c, k, mode); got != want {
							t.Errorf("fault %d at change %d of %d: state\n%s\nwant\n%s", mode, k, count, got, want)
						}
					}
				}
			})
		})
	}
}

func TestTornDownLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range changes()[6:] {
			got, _ := carry(t, c, -1, 0)
			if want := "device vmthunder-pool\ndevice vmthunder-pool-data\ndevice vmthunder-pool-meta\nthins []"; got != want {
				t.Errorf("%s: left\n%s", c.name, got)
			}
		}
	})
}

// The connection of an initiator that stays is not disturbed when others come and go.
func TestExportFollowsTheDocument(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["a"]
		n.tap.take()
		for _, kids := range [][]string{{"b"}, {"b", "c"}, {"b"}} {
			n.apply(images(b.relay("a", "origin", nil, kids...)), nil)
			n.settled()
			if ops := n.tap.take(); len(without(ops, "target.ensure")) > 0 || len(ops) > 1 {
				t.Errorf("children %v: %v", kids, ops)
			}
			s, _ := n.target.List(t.Context(), driver.IQNPrefix)
			if got, want := fmt.Sprint(s[0].ACLs), len(kids); len(s[0].ACLs) != want {
				t.Errorf("children %v, let in %s", kids, got)
			}
		}
		// A failed attempt may have let anybody in: the next document is gone through, even if
		// it is what was there before the attempt.
		n.tap.setFault(func(_ context.Context, i int, _ string, after bool) error {
			if after && i < 3 {
				return errInjected
			}
			return nil
		})
		n.apply(images(b.relay("a", "origin", nil, "b", "c")), nil)
		synctest.Wait()
		n.apply(images(b.relay("a", "origin", nil, "b")), nil)
		n.settled()
		if s, _ := n.target.List(t.Context(), driver.IQNPrefix); len(s[0].ACLs) != 1 {
			t.Errorf("let in: %v", s[0].ACLs)
		}
	})
}

// A real exchange of a table that is cut short leaves the device suspended.
func TestCrashAmidstAnExchange(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b)
		before := c.state()
		c.stop()
		for _, name := range []string{driver.ImageDevice(img, driver.PartPath), driver.VolumeDevice(volA, driver.PartVolume)} {
			if err := c.dm.Suspend(t.Context(), name, driver.ReloadOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.start()
		if o := c.applyDoc(c.doc(images(b.relay("c", "a", nil)), volumes(volume(volA, 20))), volA); o.Volume(volA).State != model.DeviceReady {
			t.Errorf("volume %+v", o.Volume(volA))
		}
		c.settled()
		if after := c.state(); after != before {
			t.Errorf("state\n%s\nwant\n%s", after, before)
		}
	})
}
