package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestReportsDoNotStorm(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		later(22 * time.Second)
		if r, _ := n.control.take(); len(r) != 5 {
			t.Errorf("%d reports in 22 s of quiet, want 5", len(r))
		}
		// The first change is told at once.
		began := time.Now()
		n.take(nil, volumes(blank(volC, 20)))
		synctest.Wait()
		r, at := n.control.take()
		if len(r) != 1 || !r[0].Settled || at[0] != began {
			t.Errorf("%d reports after a change, the first after %v", len(r), at)
		}
		// Changes by the dozen are told a few times a second, the last one without delay.
		for i := range 100 {
			state := []model.Presence{model.Inactive, model.Present}[i%2]
			n.take(nil, volumes(in(state, blank(volC, 20))))
			later(10 * time.Millisecond)
		}
		last := time.Now()
		later(time.Second)
		r, at = n.control.take()
		if len(r) < 4 || len(r) > 8 {
			t.Errorf("%d reports in two seconds with 100 changes", len(r))
		}
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 200*time.Millisecond {
				t.Errorf("%v between two reports", d)
			}
		}
		if d := at[len(at)-1].Sub(last); d > 200*time.Millisecond {
			t.Errorf("the last change was told after %v", d)
		}
		if o := r[len(r)-1]; o.Volume(volC).State != model.DeviceReady || !o.Settled || o.Generation != n.gen {
			t.Errorf("the last report: settled %v, generation %d, %+v", o.Settled, o.Generation, o.Volumes)
		}
	})
}

// What an answer has told is not reported once more, until the next report is due anyway. What
// it has not told is, also while an answer is waited for.
func TestAnswersCountAsReports(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		later(7 * time.Second)
		n.control.take()
		// An answer is given when the volume is there, which is before the worker has come to
		// its end, if only just: then that it is settled is news to be reported. So this is
		// tried until an answer has told all, and had each answer to be followed by a report,
		// none would.
		for try := 0; ; try++ {
			o := n.apply(nil, volumes(blank(volC, 20)), volC)
			if o.Volume(volC).State != model.DeviceReady {
				t.Fatalf("the answer: %+v", o.Volumes)
			}
			later(2 * time.Second)
			r, _ := n.control.take()
			if o.Settled && len(r) == 0 {
				break
			}
			if len(r) != 1 || !r[0].Settled {
				t.Fatalf("%d reports after an answer, settled %v: %+v", len(r), o.Settled, r)
			}
			if try == 20 {
				t.Fatal("each answer was followed by a report")
			}
			n.apply(nil, volumes(in(model.Inactive, blank(volC, 20))), volC)
			later(8 * time.Second) // as long after a report that is due anyway as before
			n.control.take()
		}
		later(5 * time.Second)
		if r, _ := n.control.take(); len(r) != 1 || r[0].Volume(volC).State != model.DeviceReady {
			t.Errorf("%d reports in an interval", len(r))
		}
		began := time.Now()
		n.take(nil, volumes(in(model.Inactive, blank(volC, 20))))
		synctest.Wait()
		if r, at := n.control.take(); len(r) != 1 || at[0] != began || r[0].Volume(volC).State != model.DeviceInactive {
			t.Errorf("%d reports of a change that nobody waits for, at %v", len(r), at)
		}

		later(3 * time.Second)
		n.control.take()
		n.gen++
		d := n.doc(images(b.relay("a", "b", nil)), volumes(volume(volA, 21))) // b is no parent
		ctx, cancel := context.WithCancel(t.Context())
		var answer sync.WaitGroup
		answer.Go(func() { _, _ = n.agent.Apply(ctx, d, []string{volA}) })
		later(300 * time.Millisecond)
		r, _ := n.control.take()
		cancel()
		answer.Wait()
		if len(r) == 0 || !strings.Contains(r[len(r)-1].Volume(volA).Error, "can't be read") {
			t.Errorf("%d reports of what an answer waits for", len(r))
		}
	})
}

// A control plane that is away is told so once, and what stands goes on.
func TestControlPlaneAway(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		n.start()
		n.apply(nil, volumes(blank(volC, 20)), volC)
		n.control.mu.Lock()
		n.control.answer = func(model.Observed) (*model.Desired, error) { return nil, errors.New("no answer") }
		n.control.mu.Unlock()
		n.tap.take()
		later(10 * time.Minute)
		if r, _ := n.control.take(); len(r) > 125 {
			t.Errorf("%d reports in ten minutes", len(r))
		}
		count := 0
		for _, e := range n.hook.AllEntries() {
			if strings.Contains(e.Message, "can't be reached") {
				count++
			}
		}
		if ops := n.tap.take(); count != 1 || len(ops) > 0 {
			t.Errorf("said %d times, did %v", count, ops)
		}
	})
}

// Secrets come with documents, and stay with the drivers.
func TestSecretsAreNotTold(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		c := threeParents(b, "b")
		c.apply(images(b.relay("c", "a", []string{"b"}, "a")), volumes(volume(volA, 20, "a", "b")), volA)
		b.fabric.Cut(b.nodes["a"].addr)
		later(20 * time.Second)
		wrong := b.relay("b", "origin", nil, "c")
		wrong.Parent.Secret = secretMark + "-wrong-one"
		b.nodes["b"].apply(images(gone(wrong)), nil)
		later(20 * time.Second)
		b.nodes["b"].apply(images(wrong), nil)
		later(20 * time.Second)
		if o := b.nodes["b"].observe(); !strings.Contains(o.Image(img).Error, "refused") {
			t.Errorf("with a wrong secret: %+v", o.Image(img))
		}
		lines := 0
		for _, n := range b.nodes {
			lines += len(n.hook.AllEntries())
			text, err := json.Marshal(n.observe())
			if err != nil || strings.Contains(string(text), secretMark) {
				t.Errorf("%s: %s (%v)", n.name, text, err)
			}
		}
		if lines < 30 {
			t.Errorf("only %d lines were logged; the test looks at nothing", lines)
		}
	}) // stop, in run, looks through all that was said
}
