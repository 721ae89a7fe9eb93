package agent_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Documents come from several sides at once, while it is reported and looked at.
func TestManyAtOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		n := b.nodes["b"]
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				parent := []string{"a", "origin"}[i%2]
				state := []model.Presence{model.Present, model.Inactive}[i%3%2]
				d := n.doc(images(b.relay("b", parent, nil)), volumes(in(state, volume(volA, 20)), in(state, blank(volC, 21))))
				if d.Generation = int64(100 + i); i%7 == 0 {
					d.Images, d.Volumes = nil, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if _, err := n.agent.Apply(ctx, d, []string{volA, volC}); err != nil {
					t.Errorf("apply: %v", err)
				}
				n.observe()
			})
			if i%10 == 9 {
				later(50 * time.Millisecond)
			}
		}
		all.Wait()
		n.gen = 200
		n.apply(images(b.relay("b", "a", nil)), volumes(volume(volA, 20), blank(volC, 21)), volA, volC)
		got := n.settled()
		if got.Generation != n.gen || got.Image(img).Parent != "a" || got.Volume(volA).State != model.DeviceReady {
			t.Errorf("%+v", got)
		}
	})
}

// An agent that is told to stop takes nothing any more, and Run returns when all work has ended.
func TestStopAmidstDocuments(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		for round := range 50 {
			n.start()
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
					d := n.doc(nil, volumes(blank(id, uint32(100+i))))
					d.Generation = int64(i)
					_, _ = n.agent.Apply(t.Context(), d, []string{id})
				})
			}
			if round%2 == 0 {
				all.Go(n.cancel)
			}
			n.stop()
			n.tap.take()
			all.Wait() // nobody waits for a volume that nobody works at
			synctest.Wait()
			if ops := n.tap.take(); len(ops) > 0 {
				t.Fatalf("after the end: %v", ops)
			}
		}
	})
}

// Who waits for a volume that the next document does not speak of waits no longer.
func TestWaitEndsWhenTheVolumeIsNotSpokenOf(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() { // its parent is not there
			n.applyDoc(doc("a", 1, images(b.relay("a", "origin", nil)), volumes(volume(volA, 20))), volA)
		})
		later(3 * time.Second)
		n.applyDoc(doc("a", 2, nil, nil))
		all.Wait()
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}
