package agent_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

func TestImportTellsItsProgress(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["origin"]
		release := n.images.Block()
		n.start()
		n.apply(images(b.root("a")), volumes(volume(volA, 20)))
		synctest.Wait()
		o := n.observe()
		if i := o.Image(img); i.State != model.DeviceImporting || i.Phase != "download" || i.Total != imageBytes || i.Error != "" || o.Settled {
			t.Errorf("settled %v, image %+v", o.Settled, i)
		}
		later(time.Second)
		if r := n.control.last(); r.Image(img).Phase != "download" {
			t.Errorf("reported: %+v", r.Image(img))
		}
		release()
		o = n.settled()
		if i := o.Image(img); i.State != model.DeviceReady || i.DeviceBytes != imageBytes || i.VirtualBytes != imageBytes || !i.Exported {
			t.Errorf("image %+v", i)
		}
		if v := o.Volume(volA); v.State != model.DeviceReady {
			t.Errorf("volume on the origin itself: %+v", v)
		}
		if n.images.Downloads(img) != 1 {
			t.Errorf("%d downloads", n.images.Downloads(img))
		}
	})
}

func TestUnusableImage(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["origin"]
		n.images.Publish(img, make([]byte, imageBytes), true)
		n.start()
		o := n.apply(images(b.root("a")), volumes(volume(volA, 20)), volA)
		for what, s := range map[string]model.DeviceState{"image": o.Image(img).State, "volume": o.Volume(volA).State} {
			if s != model.DeviceError || !strings.Contains(o.Image(img).Error, "unusable") || o.Settled {
				t.Errorf("%s is %s, image %+v", what, s, o.Image(img))
			}
		}
		later(5 * time.Minute)
		if d := n.images.Downloads(img); d > 12 {
			t.Errorf("fetched %d times in five minutes", d)
		}
		// A new document is not answered with the error of the old one.
		n.images.Publish(img, make([]byte, imageBytes), false)
		release := n.images.Block()
		again := b.root("a")
		again.Source.Checksum = "another"
		if o := n.apply(images(again), volumes(volume(volA, 20))); o.Image(img).State != model.DeviceImporting || o.Volume(volA).State == model.DeviceError {
			t.Errorf("with another source: %+v, %+v", o.Image(img), o.Volume(volA))
		}
		release()
		n.settled()
	})
}

func TestTransientImportFailureIsRetried(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["origin"]
		for range 3 {
			n.images.FailNext("ensure", img, errors.New("glance is away"))
		}
		n.start()
		n.apply(images(b.root()), nil)
		synctest.Wait()
		if o := n.observe(); o.Image(img).State != model.DeviceImporting || !strings.Contains(o.Image(img).Error, "glance is away") {
			t.Errorf("image %+v", o.Image(img))
		}
		if o := n.settled(); o.Image(img).State != model.DeviceReady || o.Image(img).Error != "" {
			t.Errorf("image %+v", o.Image(img))
		}
		if got, want := kinds(n.tap.take()), strings.Repeat("image.import ", 4)+"loop.attach dm.create"; got != want {
			t.Errorf("did %s, want %s", got, want)
		}
	})
}

func TestImportEndsWhenTheImageIsNotWanted(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["origin"]
		n.images.Block() // for ever
		n.start()
		n.apply(images(b.root()), nil)
		later(time.Second)
		n.apply(images(gone(b.root())), nil)
		began := time.Now()
		if o := n.settled(); o.Image(img).State != model.DeviceAbsent {
			t.Errorf("image %+v", o.Image(img))
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		files, err := n.images.List(t.Context())
		if err != nil || len(files) > 0 {
			t.Errorf("files %v (%v)", files, err)
		}
	})
}

// An image that is wanted again while it is being deleted is made again, and can be deleted
// again: nothing of the deletion before is taken for the one after.
func TestImageWantedAgain(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d := b.relay("b", "a", nil)
		hold := make(chan struct{})
		n.tap.setFault(holdAt("pool.delete", true, hold))
		n.apply(images(gone(d)), nil)
		later(time.Second)
		n.apply(images(d), nil)
		later(time.Second)
		close(hold) // only now the deletion ends, well
		n.settled()
		n.apply(images(gone(d)), nil)
		if o := n.settled(); o.Image(img).State != model.DeviceAbsent {
			t.Errorf("image %+v", o.Image(img))
		}
		if got := n.pool.Thins(); len(got) > 0 {
			t.Errorf("thin devices %v are left", got)
		}
	})
}

// A worker that is still busy with what an older document said ends before another begins.
func TestTwoWorkersAreNeverAtOneImage(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d := b.relay("b", "a", nil)
		hold := make(chan struct{})
		n.tap.setFault(holdAt("pool.delete", false, hold))
		n.apply(images(gone(d)), nil)
		later(time.Second)
		n.apply(nil, nil)
		later(time.Second)
		n.tap.take()
		n.apply(images(d), nil)
		later(time.Second)
		if ops := n.tap.take(); len(ops) > 0 {
			t.Errorf("beside a deletion that goes on: %v", ops)
		}
		close(hold)
		if o := n.settled(); o.Image(img).State != model.DeviceReady {
			t.Errorf("image %+v", o.Image(img))
		}
		if got := n.pool.Thins(); len(got) != 1 || got[0] != 8 {
			t.Errorf("thin devices %v", got)
		}
	})
}

// The cache's content is dropped when its devices were made anew, and only then.
func TestFreshOnlyOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		d := b.relay("b", "a", nil)
		starts := func() string {
			var out []string
			for _, o := range n.tap.take() {
				if strings.HasPrefix(o, "cache.start") {
					out = append(out, o)
				}
			}
			return kinds(out)
		}
		if got := starts(); got != "cache.start-fresh" {
			t.Errorf("at first: %s", got)
		}
		d.CacheMade = true
		n.apply(images(d), nil)
		n.settled()
		// The cache falls down, by an operator's hand say; what it holds is good.
		if err := n.dm.Remove(t.Context(), driver.ImageDevice(img, driver.PartPage)); err != nil {
			t.Fatal(err)
		}
		loops, err := n.loop.List(t.Context())
		if err != nil || len(loops) != 6 {
			t.Fatal(loops, err)
		}
		for _, l := range loops {
			if err := n.loop.Detach(t.Context(), l.Path); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.cache.Stop(t.Context(), driver.CacheSpec{ImageID: img}, false); err != nil {
			t.Fatal(err)
		}
		n.tap.take()
		later(time.Minute)
		n.settled()
		if got := starts(); got != "cache.start" {
			t.Errorf("again: %s", got)
		}
	})
}
