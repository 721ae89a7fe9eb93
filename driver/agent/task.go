package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// task is long data work that the document asks for. Its device is built by the group that
// the volume belongs to, as any other.
type task struct {
	a    *Agent
	log  *logrus.Entry
	stop context.CancelFunc // of the work
	over chan struct{}      // closed when the work has ended, however

	mu       sync.Mutex
	seen     model.ObservedTask
	cleaning bool
}

// takeTasks begins what is asked for and is not begun, and ends what is not wanted any more.
// The agent is locked.
func (a *Agent) takeTasks(ds []model.DesiredTask) {
	named := map[string]bool{}
	for _, d := range ds {
		named[d.ID] = true
		t := a.tasks[d.ID]
		if t == nil {
			ctx, stop := context.WithCancel(a.run)
			t = &task{
				a: a, log: a.log.WithField("task", d.ID).WithField("kind", string(d.Kind)), stop: stop, over: make(chan struct{}),
				seen: model.ObservedTask{ID: d.ID, State: model.TaskStateWorking},
			}
			a.tasks[d.ID] = t
			if d.State == model.Present {
				a.workers.Go(func() { t.work(ctx, d) })
			} else {
				close(t.over)
			}
		}
		if d.State == model.Absent && !t.cleaning {
			t.cleaning = true
			t.stop()
			a.workers.Go(func() { t.clean(a.run, d) })
		}
	}
	for id, t := range a.tasks {
		if !named[id] {
			t.stop() // what it has left stays: nobody has said that it is to go
			delete(a.tasks, id)
		}
	}
}

func (t *task) observe() model.ObservedTask {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

// set records how far the task is; a report goes out soon if its state or phase is another.
func (t *task) set(change func(o *model.ObservedTask)) {
	t.mu.Lock()
	before := t.seen
	change(&t.seen)
	news := before.State != t.seen.State || before.Phase != t.seen.Phase || before.Error != t.seen.Error
	t.mu.Unlock()
	if news {
		t.a.askReport()
	}
}

// work does the task until it is done, has failed, or is not wanted any more.
func (t *task) work(ctx context.Context, d model.DesiredTask) {
	defer close(t.over)
	w := t.a.d.Tasks[d.Kind]
	if w == nil {
		t.fail(fmt.Errorf("this node's agent does no tasks of kind %q; upgrade it, or look at its configuration: %w", d.Kind, driver.ErrUnavailable))
		return
	}
	moved := newClock()
	var tries patience
	for {
		var result model.JSON
		var path string
		var err error
		if d.Volume != "" {
			path, err = t.a.deviceOf(ctx, d.Volume)
		}
		if err == nil {
			t.set(func(o *model.ObservedTask) { o.Error = "" })
			result, err = w.Do(ctx, driver.Task{ID: d.ID, Device: path, Bytes: d.Bytes, Source: portalOf(d.Source), Args: d.Args}, func(p driver.TaskProgress) {
				t.set(func(o *model.ObservedTask) {
					if o.Done != p.Done || o.Phase != p.Phase {
						moved.reset()
					}
					o.Phase, o.Done, o.Total = p.Phase, p.Done, p.Total
				})
			})
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			t.log.Info("task done")
			t.set(func(o *model.ObservedTask) { o.State, o.Result, o.Error = model.TaskStateDone, result, "" })
			return
		case !errors.Is(err, driver.ErrUnreachable) || moved.since() > t.a.cfg.TaskPatience:
			t.fail(err)
			return
		}
		t.log.WithError(err).Warn("task can't go on, will be tried again")
		t.set(func(o *model.ObservedTask) { o.Error = err.Error() })
		select {
		case <-time.After(tries.next(err)):
		case <-ctx.Done():
			return
		}
	}
}

func portalOf(p *model.ParentPortal) *driver.Portal {
	if p == nil {
		return nil
	}
	return &driver.Portal{Address: p.Address, IQN: p.IQN, Credential: driver.Credential{User: p.User, Secret: p.Secret}}
}

func (t *task) fail(err error) {
	t.log.WithError(err).Warn("task failed")
	t.set(func(o *model.ObservedTask) { o.State, o.Error = model.TaskStateFailed, err.Error() })
}

// clean removes what the task has left, once its work has ended.
func (t *task) clean(ctx context.Context, d model.DesiredTask) {
	<-t.over
	var tries patience
	for {
		var err error
		if w := t.a.d.Tasks[d.Kind]; w != nil {
			err = w.Clean(ctx, d.ID)
		}
		if err == nil {
			t.set(func(o *model.ObservedTask) { *o = model.ObservedTask{ID: d.ID, State: model.TaskStateAbsent} })
			return
		}
		t.log.WithError(err).Warn("what is left of a task can't be removed yet")
		t.set(func(o *model.ObservedTask) { o.Error = err.Error() })
		select {
		case <-time.After(tries.next(err)):
		case <-ctx.Done():
			return
		}
	}
}

// deviceOf waits until a volume's device stands and returns its path. What keeps it from
// standing for good is an error.
func (a *Agent) deviceOf(ctx context.Context, volume string) (string, error) {
	for {
		a.mu.Lock()
		g, changed := a.groupOf(volume), a.changed
		a.mu.Unlock()
		if g != nil && g.done(volume) {
			if err := g.volumeState(volume); err != nil {
				return "", err
			}
			d, err := a.d.DM.Get(ctx, driver.VolumeDevice(volume, driver.PartVolume))
			if err != nil && !errors.Is(err, driver.ErrNotFound) {
				return "", fmt.Errorf("device of volume %s: %w", volume, err)
			}
			if err == nil && d.Live {
				return d.Path, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// clock tells how long ago something moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Now()
}

func (c *clock) since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.at)
}
