package agent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// share is a store of backups that is there, is not, or does not answer.
type share struct {
	mu    sync.Mutex
	fails error
	hangs bool
}

func (s *share) is(fails error, hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.hangs = fails, hangs
}

func (s *share) Check(ctx context.Context) error {
	s.mu.Lock()
	fails, hangs := s.fails, s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return fails
}

// A node tells whether it reaches the store of backups, also of one that hangs.
func TestBackupStore(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		store := &share{}
		n.drivers.Backups = store
		n.start()
		n.until("the store to be reached", func(o model.Observed) bool { return o.Backups })
		store.is(errors.New("injected: not mounted"), false)
		said := func(o model.Observed, text string) bool {
			return !o.Backups && strings.Contains(strings.Join(o.Problems, "; "), "store of backups: "+text)
		}
		n.until("a problem", func(o model.Observed) bool { return said(o, "injected: not mounted") })
		store.is(nil, false)
		n.until("the store to be reached again", func(o model.Observed) bool { return o.Backups })
		store.is(nil, true)
		later(time.Minute)
		n.until("silence to be told", func(o model.Observed) bool { return said(o, "it does not answer") })
	})
}

// A task that needs no device is done without one, and leaves nothing.
func TestTaskWithoutDevice(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		w := &worker{do: func(context.Context, func(driver.TaskProgress)) (model.JSON, error) { return model.JSON(`{}`), nil }}
		n.drivers.Tasks = map[model.TaskKind]driver.TaskWorker{model.TaskDeleteBackup: w}
		n.start()
		for _, state := range []model.Presence{model.Present, model.Absent} {
			n.gen++
			doc := n.doc(nil, nil)
			doc.Tasks = []model.DesiredTask{{ID: taskT, Kind: model.TaskDeleteBackup, State: state, Bytes: 1, Args: model.JSON(`{"a":1}`)}}
			if err := n.agent.Take(doc); err != nil {
				t.Fatalf("%v", err)
			}
			n.taskIs(map[model.Presence]model.TaskState{model.Present: model.TaskStateDone, model.Absent: model.TaskStateAbsent}[state])
		}
		if w.times() != 1 || w.begun[0].Device != "" || w.cleaned != 1 {
			t.Errorf("%+v, cleaned %d times", w.begun, w.cleaned)
		}
	})
}
