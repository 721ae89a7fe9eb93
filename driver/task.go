package driver

import (
	"context"

	"github.com/vmthunder/vmthunder/db/model"
)

// Task is long data work on this node: see [model.Task].
type Task struct {
	ID     string
	Device string  // path of the block device it works on, which stands
	Bytes  int64   // size of the device
	Source *Portal // a disk of another node that it reads; nil: none
	Args   model.JSON
}

// TaskProgress says how far a task is. Total is 0 while unknown.
type TaskProgress struct {
	Phase string
	Done  int64 // bytes
	Total int64 // bytes
}

// TaskWorker does the tasks of one kind.
type TaskWorker interface {
	// Do does a task and returns what came of it. It may have been begun before, by an
	// agent that was killed at any point, or even done: it begins anew from what it finds,
	// and does nothing twice that shows. It ends soon after ctx, and leaves what it needs to
	// go on. An error that wraps [ErrUnreachable] is tried again for as long as anything moves;
	// any other is the task's failure, so what is not to remain elsewhere is undone before.
	Do(ctx context.Context, t Task, progress func(TaskProgress)) (model.JSON, error)
	// Clean removes from this node what a task of that id has left, done or not.
	Clean(ctx context.Context, id string) error
}
