package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

const taskT = "77777777-7777-4777-8777-777777777777"

// worker does tasks as it is told to by a test.
type worker struct {
	mu      sync.Mutex
	begun   []driver.Task
	cleaned int
	do      func(ctx context.Context, progress func(driver.TaskProgress)) (model.JSON, error)
	clean   func() error
}

func (w *worker) Do(ctx context.Context, t driver.Task, progress func(driver.TaskProgress)) (model.JSON, error) {
	w.mu.Lock()
	w.begun = append(w.begun, t)
	do := w.do
	w.mu.Unlock()
	return do(ctx, progress)
}

func (w *worker) Clean(context.Context, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clean != nil {
		if err := w.clean(); err != nil {
			return err
		}
	}
	w.cleaned++
	return nil
}

func (w *worker) times() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.begun)
}

func frozen(v model.DesiredVolume, from uint32) model.DesiredVolume {
	v.ID, v.Frozen, v.SourceThin = taskT, true, from
	return v
}

// served lets node b read.
func served(v model.DesiredVolume) model.DesiredVolume {
	v.Hosts = []model.Child{{Host: "b", Initiator: initiatorOf("b"), User: "u", Secret: secretMark + "0123456789"}}
	return v
}

// worked gives a document with a task of kind upload-image, in a state, upon its copy.
func (n *node) worked(state model.Presence, images []model.DesiredImage, vols []model.DesiredVolume, c model.DesiredVolume) {
	n.bed.t.Helper()
	n.gen++
	c.State = state
	doc := n.doc(images, append(volumes(vols...), c))
	doc.Tasks = []model.DesiredTask{{ID: taskT, Kind: model.TaskUploadImage, State: state, Volume: taskT, Bytes: c.Bytes, Args: model.JSON(`{"a":1}`)}}
	if err := n.agent.Take(doc); err != nil {
		n.bed.t.Fatalf("%v", err)
	}
}

func taskOf(o model.Observed) model.ObservedTask {
	for _, t := range o.Tasks {
		if t.ID == taskT {
			return t
		}
	}
	return model.ObservedTask{}
}

func (n *node) taskIs(state model.TaskState) model.ObservedTask {
	n.bed.t.Helper()
	return taskOf(n.until("the task to be "+string(state), func(o model.Observed) bool { return taskOf(o).State == state }))
}

// A task reads a copy through read-only devices of its own, is begun anew by an agent that was
// restarted, and leaves nothing.
func TestTask(t *testing.T) {
	for name, c := range map[string]struct {
		vols []model.DesiredVolume
		copy model.DesiredVolume
		tops int // devices of the copy
	}{
		"image":           {volumes(volume(volA, 20, "b")), frozen(volume(taskT, 30), 20), 3},
		"blank":           {volumes(blank(volC, 21)), frozen(blank(taskT, 30), 21), 2},
		"image, pristine": {nil, frozen(volume(taskT, 0), 0), 1},
		"blank, pristine": {nil, frozen(blank(taskT, 0), 0), 1},
		// Another node reads along.
		"image, served":           {volumes(volume(volA, 20, "b")), served(frozen(volume(taskT, 30), 20)), 4},
		"blank, pristine, served": {nil, served(frozen(blank(taskT, 0), 0)), 2},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bed) {
				b.surroundings("origin", "c")
				n := b.nodes["a"]
				w := &worker{do: func(ctx context.Context, progress func(driver.TaskProgress)) (model.JSON, error) {
					progress(driver.TaskProgress{Phase: "send", Done: 5, Total: 10})
					<-ctx.Done()
					return nil, ctx.Err()
				}}
				n.drivers.Tasks = map[model.TaskKind]driver.TaskWorker{model.TaskUploadImage: w}
				n.start()
				relay := images(b.relay("a", "origin", nil))
				n.apply(relay, c.vols)
				n.settled()
				before := n.state()
				for i := range c.vols {
					c.vols[i].Materialized = true
				}
				n.worked(model.Present, relay, c.vols, c.copy)
				n.until("progress", func(o model.Observed) bool { return taskOf(o).Done == 5 && taskOf(o).Phase == "send" })
				all, err := n.dm.List(t.Context(), driver.Prefix+"volume-"+taskT)
				if err != nil || len(all) != c.tops {
					t.Fatalf("%d devices: %+v, %v", len(all), all, err)
				}
				for _, d := range all {
					if !d.ReadOnly && !strings.HasSuffix(d.Name, driver.PartCow) {
						t.Errorf("%s can be written to", d.Name)
					}
				}
				targets, err := n.target.List(t.Context(), driver.VolumeIQN("a", taskT))
				if err != nil || len(targets) != len(c.copy.Hosts) {
					t.Fatalf("exported: %+v, %v", targets, err)
				}
				for _, x := range targets {
					if !x.ReadOnly || len(x.ACLs) != 1 || x.ACLs[0] != initiatorOf("b") {
						t.Errorf("exported: %+v", x)
					}
				}
				if got := w.begun[0]; got.Device != device(taskT) || got.Bytes != c.copy.Bytes || string(got.Args) != `{"a":1}` {
					t.Errorf("%+v", got)
				}

				n.stop()
				w.do = func(context.Context, func(driver.TaskProgress)) (model.JSON, error) {
					return model.JSON(`{"r":1}`), nil
				}
				n.start()
				c.copy.Materialized = c.copy.ThinID != 0
				n.worked(model.Present, relay, c.vols, c.copy)
				if o := n.taskIs(model.TaskStateDone); string(o.Result) != `{"r":1}` || w.times() != 2 {
					t.Errorf("%+v after %d times", o, w.times())
				}

				w.clean = func() error { w.clean = nil; return errors.New("injected: busy") }
				n.worked(model.Absent, relay, c.vols, c.copy)
				n.taskIs(model.TaskStateAbsent)
				n.until("the copy to be gone", func(o model.Observed) bool { return o.Volume(taskT).State == model.DeviceAbsent })
				if w.cleaned != 1 {
					t.Errorf("cleaned %d times", w.cleaned)
				}
				if after := n.state(); after != before {
					t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
				}
				// An agent that has forgotten all says so too.
				n.stop()
				n.start()
				n.worked(model.Absent, relay, c.vols, c.copy)
				n.taskIs(model.TaskStateAbsent)
			})
		})
	}
}

// What is out of reach is tried again for as long as anything moves, then the task has failed;
// any other error is the end at once. A task that is not wanted any more is cut short.
func TestTaskFails(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		w := &worker{}
		n.drivers.Tasks = map[model.TaskKind]driver.TaskWorker{model.TaskUploadImage: w}
		n.config.TaskPatience = 30 * time.Second
		n.start()
		c := frozen(blank(taskT, 0), 0)
		began := time.Now()
		w.do = func(_ context.Context, progress func(driver.TaskProgress)) (model.JSON, error) {
			if time.Since(began) < time.Minute {
				progress(driver.TaskProgress{Phase: "send", Done: int64(time.Since(began))})
			}
			return nil, fmt.Errorf("glance: %w", driver.ErrUnreachable)
		}
		n.worked(model.Present, nil, nil, c)
		later(80 * time.Second)
		if o := taskOf(n.observe()); o.State != model.TaskStateWorking || o.Error == "" {
			t.Errorf("%+v", o)
		}
		n.taskIs(model.TaskStateFailed)
		if took := time.Since(began); took < 90*time.Second {
			t.Errorf("failed after %s", took)
		}
	})
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		w := &worker{do: func(context.Context, func(driver.TaskProgress)) (model.JSON, error) { return nil, errors.New("no") }}
		n.drivers.Tasks = map[model.TaskKind]driver.TaskWorker{model.TaskUploadImage: w}
		n.start()
		n.worked(model.Present, nil, nil, frozen(blank(taskT, 0), 0))
		if o := n.taskIs(model.TaskStateFailed); o.Error != "no" || w.times() != 1 {
			t.Errorf("%+v after %d times", o, w.times())
		}
		n.stop()
		n.drivers.Tasks = nil
		n.start()
		n.worked(model.Present, nil, nil, frozen(blank(taskT, 0), 0))
		if o := n.taskIs(model.TaskStateFailed); !strings.Contains(o.Error, "upload-image") {
			t.Errorf("%+v", o)
		}
	})
	// A copy whose source is gone fails its task, and a task without its device is not begun.
	run(t, func(t *testing.T, b *bed) {
		n := b.nodes["a"]
		w := &worker{}
		n.drivers.Tasks = map[model.TaskKind]driver.TaskWorker{model.TaskUploadImage: w}
		n.start()
		n.worked(model.Present, nil, nil, frozen(blank(taskT, 30), 29))
		if o := n.taskIs(model.TaskStateFailed); !strings.Contains(o.Error, "lost") || w.times() != 0 {
			t.Errorf("%+v", o)
		}
	})
}
