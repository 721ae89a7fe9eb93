package db_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func (w *world) addJob(subject string, at time.Time) {
	w.t.Helper()
	w.tx(func(t *db.Tx) error { return t.AddJob(model.JobTellExtended, subject, at) })
}

func TestTakersNeverShare(t *testing.T) {
	w := newWorld(t)
	const jobs = 40
	for range jobs {
		w.addJob(uuid.NewString(), time.Now().Add(-time.Minute))
	}
	var g errgroup.Group
	var mu sync.Mutex
	taken := map[int64]int{}
	for range 6 {
		g.Go(func() error {
			for {
				j, err := w.TakeJob(w.ctx, "me", time.Hour)
				if errors.Is(err, model.ErrNotFound) {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				taken[j.ID]++
				mu.Unlock()
			}
		})
	}
	w.must(g.Wait())
	if len(taken) != jobs {
		t.Errorf("%d jobs taken, want %d", len(taken), jobs)
	}
	for id, n := range taken {
		if n != 1 {
			t.Errorf("job %d was taken %d times", id, n)
		}
	}
}

func TestJobLife(t *testing.T) {
	w := newWorld(t)
	w.addJob("later", time.Now().Add(time.Hour))
	if j, err := w.TakeJob(w.ctx, "me", time.Hour); !errors.Is(err, model.ErrNotFound) {
		t.Fatalf("not due, but taken: %+v, %v", j, err)
	}
	w.addJob("x", time.Now())
	w.addJob("x", time.Now()) // waits already
	j, err := w.TakeJob(w.ctx, "me", -time.Second)
	w.must(err)
	if j.Subject != "x" || j.Attempts != 1 || *j.TakenBy != "me" {
		t.Errorf("%+v", j)
	}
	j, err = w.TakeJob(w.ctx, "you", time.Hour) // the first taker's time is over
	w.must(err)
	if j.Attempts != 2 || *j.TakenBy != "you" {
		t.Errorf("%+v", j)
	}
	w.must(w.RetryJob(w.ctx, j.ID, time.Now().Add(time.Hour), "no route"))
	if _, err := w.TakeJob(w.ctx, "me", time.Hour); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("taken before its time: %v", err)
	}
	w.must(w.RetryJob(w.ctx, j.ID, time.Now().Add(-time.Hour), "no route"))
	j, err = w.TakeJob(w.ctx, "me", time.Hour)
	w.must(err)
	if *j.Error != "no route" || j.Attempts != 3 {
		t.Errorf("%+v", j)
	}
	// Asked for while it is being done: it is done once more.
	w.addJob("x", time.Now())
	w.must(w.FinishJob(w.ctx, j.ID))
	again, err := w.TakeJob(w.ctx, "me", time.Hour)
	w.must(err)
	if again.Subject != "x" || again.Attempts != 1 {
		t.Errorf("%+v", again)
	}
	w.must(w.FinishJob(w.ctx, again.ID))
	w.must(w.FinishJob(w.ctx, again.ID))
	if n := w.count("SELECT count(*) FROM jobs"); n != 1 {
		t.Errorf("%d jobs left", n)
	}
	if err := w.RetryJob(w.ctx, again.ID, time.Now(), ""); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

func TestLead(t *testing.T) {
	w := newWorld(t)
	lead := func(holder string, lease time.Duration) bool {
		t.Helper()
		ok, err := w.Lead(w.ctx, "detector", holder, lease)
		w.must(err)
		return ok
	}
	var g errgroup.Group
	won := make([]bool, 6)
	for i := range won {
		g.Go(func() (err error) {
			won[i], err = w.Lead(w.ctx, "race", string(rune('a'+i)), time.Hour)
			return err
		})
	}
	w.must(g.Wait())
	n := 0
	for _, ok := range won {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d lead", n)
	}
	if !lead("a", time.Hour) || lead("b", time.Hour) || !lead("a", 0) || !lead("b", time.Hour) || lead("a", time.Hour) {
		t.Error("the lease does not pass on as it should")
	}
	w.must(w.Beat(w.ctx, "c1", "vmthunder-api"))
	w.must(w.Beat(w.ctx, "c1", "vmthunder-api"))
	if ss, err := w.Services(w.ctx); err != nil || len(ss) != 1 || ss[0].Host != "c1" || ss[0].LastSeen.IsZero() {
		t.Errorf("%+v, %v", ss, err)
	}
}
