package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// threeParents makes a, b and the origin serve the image, and c read it through a.
func threeParents(b *bed, alternates ...string) *node {
	b.start()
	b.nodes["origin"].apply(images(b.root("a", "b", "c")), nil)
	for _, name := range []string{"a", "b"} {
		b.nodes[name].apply(images(b.relay(name, "origin", nil, "c")), nil)
		b.nodes[name].settled()
	}
	c := b.nodes["c"]
	c.apply(images(b.relay("c", "a", alternates)), volumes(volume(volA, 20)), volA)
	c.settled()
	c.tap.take()
	return c
}

func parentIs(p string) func(model.Observed) bool {
	return func(o model.Observed) bool {
		return o.Image(img).Parent == p && o.Image(img).State == model.DeviceReady
	}
}

func TestAlternateIsTakenWhenTheParentIsCut(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b, "b", "origin")
		b.fabric.Cut(b.nodes["a"].addr)
		began := time.Now()
		o := c.until("reads from b", parentIs("b"))
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
		if v := o.Volume(volA); v.State != model.DeviceReady || o.Settled || !strings.Contains(o.Image(img).Error, b.nodes["a"].addr) {
			t.Errorf("on the alternate: settled %v, image %+v, volume %+v", o.Settled, o.Image(img), v)
		}
		later(time.Second)
		if r := c.control.last(); r.Image(img).Parent != "b" {
			t.Errorf("reported parent %q", r.Image(img).Parent)
		}
		// The second one too: the third is taken.
		b.fabric.Cut(b.nodes["b"].addr)
		c.until("reads from the origin", parentIs("origin"))
		b.fabric.Heal(b.nodes["b"].addr)
		later(time.Minute)
		if o := c.observe(); o.Image(img).Parent != "origin" {
			t.Errorf("a working path was left for %s, which is not the parent", o.Image(img).Parent)
		}
		b.fabric.Heal(b.nodes["a"].addr)
		o = c.settled()
		if o.Image(img).Parent != "a" || o.Image(img).Error != "" {
			t.Errorf("healed: %+v", o.Image(img))
		}
		if s, _ := c.initiator.Sessions(t.Context(), driver.IQNPrefix); len(s) != 1 {
			t.Errorf("%d sessions are left", len(s))
		}
	})
}

func TestParentIsExchangedWithoutLettingGo(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b)
		o := c.apply(images(b.relay("c", "b", nil)), volumes(volume(volA, 20)), volA)
		if v := o.Volume(volA); v.State != model.DeviceReady {
			t.Errorf("meanwhile the volume is %+v", v)
		}
		if o := c.settled(); o.Image(img).Parent != "b" {
			t.Errorf("parent %q", o.Image(img).Parent)
		}
		want := []string{
			"login " + driver.ImageIQN("b", img) + " " + b.nodes["b"].addr,
			"dm.reload " + driver.ImageDevice(img, driver.PartPath),
			"logout " + driver.ImageIQN("a", img) + " " + b.nodes["a"].addr,
		}
		if got := c.tap.take(); !slices.Equal(got, want) {
			t.Errorf("steps\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestPathLost(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b)
		path := driver.ImageDevice(img, driver.PartPath)
		before := c.state()
		b.fabric.Cut(b.nodes["a"].addr)
		if _, err := c.dm.Message(t.Context(), path, 0, "fail_path 8:1"); err != nil { // the kernel, after the recovery time
			t.Fatal(err)
		}
		if o := c.observe(); o.Settled || o.Image(img).State != model.DevicePathLost {
			t.Errorf("at once: settled %v, image %+v", o.Settled, o.Image(img))
		}
		later(time.Minute)
		o := c.control.last()
		if i := o.Image(img); i.State != model.DevicePathLost || i.Parent != "a" || i.Error == "" {
			t.Errorf("image %+v", i)
		}
		if v := o.Volume(volA); v.State != model.DeviceReady || !c.devs.Exists(device(volA)) {
			t.Errorf("volume %+v", v)
		}
		if ops := without(c.tap.take(), "login"); len(ops) > 0 {
			t.Errorf("besides logins: %v", ops)
		}
		b.fabric.Heal(b.nodes["a"].addr)
		c.settled()
		if ops := without(c.tap.take(), "login"); kinds(ops) != "dm.message" || !strings.Contains(ops[0], "reinstate_path") {
			t.Errorf("after the session came back: %v", ops)
		}
		if after := c.state(); after != before {
			t.Errorf("state\n%s\nwant\n%s", after, before)
		}
	})
}

// A login that gets no answer holds up neither other groups nor a new parent.
func TestHangingLogin(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b)
		b.nodes["origin"].apply(images(b.root("a", "b", "c"), second(b, "c")), nil)
		b.nodes["origin"].settled()
		c.config.LoginTimeout = time.Hour
		c.stop()
		c.start()
		c.initiator.hang = func(p driver.Portal) bool { return p.Address == b.nodes["b"].addr }
		other := b.relay("c", "origin", nil)
		op := b.portal("c", "origin", img2)
		other.ID, other.Parent, other.ThinBase = img2, &op, 12
		vol2 := volume(volB, 21)
		vol2.ImageID = img2
		began := time.Now()
		o := c.apply(images(b.relay("c", "b", nil), other), volumes(volume(volA, 20), vol2, blank(volC, 22)), volA, volB, volC)
		for _, id := range []string{volA, volB, volC} {
			if v := o.Volume(id); v.State != model.DeviceReady {
				t.Errorf("volume %+v", v)
			}
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		later(time.Minute)
		c.apply(images(b.relay("c", "origin", nil), other), volumes(volume(volA, 20), vol2, blank(volC, 22)), volA)
		if o := c.settled(); o.Image(img).Parent != "origin" {
			t.Errorf("parent %q", o.Image(img).Parent)
		}
		if d := time.Since(began); d > 70*time.Second {
			t.Errorf("the new parent was taken after %v", d)
		}
	})
}

// second is the other image, on the origin.
func second(b *bed, kids ...string) model.DesiredImage {
	d := b.root(kids...)
	d.ID, d.ThinBase = img2, 12
	return d
}

// What was wrong with a volume before is not what those see who waited until it was right,
// though the pass goes on with a login that hangs.
func TestWaiterSeesTheNewestState(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b, "b")
		c.initiator.hang = func(p driver.Portal) bool { return p.Address == b.nodes["a"].addr }
		b.fabric.Cut(b.nodes["a"].addr)
		c.until("reads from b", parentIs("b"))
		later(11 * time.Second) // the pass of the switch ends, those after it hang in the login to a
		synctest.Wait()

		lost := volume(volB, 21)
		lost.Materialized = true
		d := images(b.relay("c", "a", []string{"b"}))
		o := c.apply(d, volumes(volume(volA, 20), lost), volB)
		if v := o.Volume(volB); v.State != model.DeviceError || !strings.Contains(v.Error, "lost") {
			t.Errorf("hopeless: %+v", v)
		}
		// The same, found again by the operator.
		if err := c.pool.CreateThin(context.Background(), 21); err != nil {
			t.Fatal(err)
		}
		lost.Hosts = children("b")
		later(11 * time.Second)
		began := time.Now()
		o = c.apply(d, volumes(volume(volA, 20), lost), volB)
		if v := o.Volume(volB); v.State != model.DeviceReady || v.Error != "" || !v.Exported {
			t.Errorf("found again: %+v", v)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("a login that nobody waits for held the volume up for %v", d)
		}
		// A transient error that is over when the next pass comes to it.
		c.pool.FailNext("create", "22", driver.ErrUnavailable)
		volD := "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
		o = c.apply(d, volumes(volume(volA, 20), lost, volume(volD, 22)), volD)
		if v := o.Volume(volD); v.State == model.DeviceBuilding && v.Error != "" { // its time was up
			o = c.applyDoc(c.doc(d, volumes(volume(volA, 20), lost, volume(volD, 22))), volD)
		}
		if v := o.Volume(volD); v.State != model.DeviceReady || v.Error != "" {
			t.Errorf("after a transient error: %+v", v)
		}
	})
}
