package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const taskColumns = `k.id, k.kind, k.status, k.host, k.volume_id, k.snapshot_id, k.access, k.image_id, k.bytes, k.thin_id,
	k.source_thin, k.materialized, k.secret, k.args, k.result, k.phase, k.done, k.total, k.error, k.project_id, k.user_id, k.request_id,
	k.created_at, k.updated_at`

// Task returns one task.
func (s *Store) Task(ctx context.Context, id uuid.UUID) (model.Task, error) {
	var ks []model.Task
	err := s.list(ctx, &ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.id = $1", id)
	return one(ks, err, "task", id)
}

// OpenTasks returns the tasks that have not ended, the oldest first.
func (s *Store) OpenTasks(ctx context.Context) ([]model.Task, error) {
	var ks []model.Task
	err := s.list(ctx, &ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.status IN ('queued', 'running') ORDER BY k.created_at, k.id")
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	return ks, nil
}

// TasksOf returns a volume's tasks and those of its snapshots, the oldest first.
func (s *Store) TasksOf(ctx context.Context, volume uuid.UUID) ([]model.Task, error) {
	var ks []model.Task
	err := s.list(ctx, &ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.volume_id = $1 ORDER BY k.created_at, k.id", volume)
	if err != nil {
		return nil, fmt.Errorf("tasks of volume %s: %w", volume, err)
	}
	return ks, nil
}

// TasksOf returns a volume's tasks and those of its snapshots, the oldest first. While the
// volume is locked none can be added.
func (t *Tx) TasksOf(volume uuid.UUID) ([]model.Task, error) {
	var ks []model.Task
	err := t.list(&ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.volume_id = $1 ORDER BY k.created_at, k.id", volume)
	return ks, err
}

// AddTask inserts a task and returns the row as written. One with SourceThin, or one that fills a
// thin device, gets a number for it; its node's generation grows. The volume that it belongs to is locked.
func (t *Tx) AddTask(k model.Task) (model.Task, error) {
	if k.ID == uuid.Nil {
		k.ID = uuid.New()
	}
	if k.SourceThin != nil || k.Access == model.TaskFill {
		thin, err := t.takeThin(k.Host, 1)
		if err != nil {
			return k, err
		}
		k.ThinID = &thin
	}
	if k.Args == nil {
		k.Args = model.JSON("{}")
	}
	var ks []model.Task
	err := t.list(&ks, `INSERT INTO tasks AS k (id, kind, status, host, volume_id, snapshot_id, access, image_id, bytes, thin_id, source_thin,
			args, project_id, user_id, request_id, secret)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING `+taskColumns,
		k.ID, k.Kind, k.Status, k.Host, k.VolumeID, k.SnapshotID, k.Access, k.ImageID, k.Bytes, k.ThinID, k.SourceThin,
		k.Args, k.ProjectID, k.UserID, k.RequestID, k.Secret)
	k, err = one(ks, refers(err, "node"), "task", k.ID)
	if err != nil {
		return k, err
	}
	return k, t.Bump(k.Host)
}

// LockTask returns a task, locked, after the volume that it belongs to, which need not be
// there any more.
func (t *Tx) LockTask(id uuid.UUID) (model.Task, error) {
	var volume uuid.UUID
	if err := t.get(&volume, "SELECT volume_id FROM tasks WHERE id = $1", id); err != nil {
		return model.Task{}, fmt.Errorf("task %s: %w", id, err)
	}
	if _, err := t.LockVolume(volume); err != nil && !errors.Is(err, model.ErrNotFound) {
		return model.Task{}, err
	}
	var ks []model.Task
	err := t.list(&ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.id = $1 FOR NO KEY UPDATE OF k", id)
	return one(ks, err, "task", id)
}

// MoveTask changes the status if it is one of m.From, else ErrConflict with the status in its
// text. The node's generation grows.
func (t *Tx) MoveTask(id uuid.UUID, m model.TaskMove) (model.Task, error) {
	k, err := t.LockTask(id)
	if err != nil {
		return k, err
	}
	if !slices.Contains(m.From, k.Status) {
		return k, say(model.ErrConflict, "Task %s status must be %s, but it is %s.", id, strings.Join(words(m.From...), " or "), k.Status)
	}
	result := k.Result
	if m.Result != nil {
		result = m.Result
	}
	moved, err := t.move(change{
		of: taskStatus, where: "id = ?", args: []any{id}, from: words(m.From...), to: string(m.To),
		set: "error = ?, result = ?", setArgs: []any{m.Error, result},
	})
	if err := needed(moved, err, "task", id); err != nil {
		return k, err
	}
	k.Status, k.Error, k.Result = m.To, m.Error, result
	return k, t.Bump(k.Host)
}

// DeleteTask removes a task that has ended and of which nothing is left on its node; the node's
// generation grows. One that has not ended is ErrConflict.
func (t *Tx) DeleteTask(id uuid.UUID) (model.Task, error) {
	k, err := t.LockTask(id)
	if err != nil {
		return k, err
	}
	if !k.Ended() {
		return k, say(model.ErrConflict, "Task %s has not ended, it is %s.", id, k.Status)
	}
	if err := t.exec("DELETE FROM tasks WHERE id = $1", id); err != nil {
		return k, fmt.Errorf("task %s: %w", id, err)
	}
	return k, t.Bump(k.Host)
}

// saveTasks: how far the node's tasks are, and which of them are over.
func (r *report) saveTasks() error {
	type progress struct {
		ID    uuid.UUID `json:"id"`
		Phase string    `json:"phase"`
		Done  int64     `json:"done"`
		Total int64     `json:"total"`
		Made  bool      `json:"made"`
		Error *string   `json:"error"`
	}
	told := map[string]model.ObservedTask{}
	for _, o := range r.o.Tasks {
		told[o.ID] = o
	}
	var write []progress
	for _, k := range r.tasks {
		id := k.ID.String()
		o, ok := told[id]
		own, made := r.volumes[id], k.Materialized
		if k.ThinID != nil {
			made = made || own.Materialized && r.ourPool()
		}
		if !ok && made == k.Materialized {
			continue
		}
		switch {
		case k.Ended():
			_, stands := r.volumes[id]
			gone := o.State == model.TaskStateAbsent && (!stands || own.State == model.DeviceAbsent)
			if ok && gone && r.current() && (k.ThinID == nil || r.ourPool()) {
				r.changes.TasksGone = append(r.changes.TasksGone, k.ID)
			}
		case k.Status == model.TaskRunning && (o.State == model.TaskStateDone || o.State == model.TaskStateFailed):
			r.changes.TasksEnded = append(r.changes.TasksEnded, model.TaskEnd{
				ID: k.ID, Failed: o.State == model.TaskStateFailed, Result: o.Result, Error: o.Error,
			})
		}
		is := progress{ID: k.ID, Phase: k.Phase, Done: k.Done, Total: k.Total, Made: made, Error: k.Error}
		if ok && k.Status == model.TaskRunning && o.State == model.TaskStateWorking {
			is.Phase, is.Done, is.Total, is.Error = o.Phase, o.Done, o.Total, nil
			if o.Error != "" {
				is.Error = &o.Error
			}
		}
		if is.Phase != k.Phase || is.Done != k.Done || is.Total != k.Total || made != k.Materialized || !same(is.Error, k.Error) {
			write = append(write, is)
		}
	}
	return r.bulk(len(write), `UPDATE tasks k SET phase = x.phase, done = x.done, total = x.total, materialized = k.materialized OR x.made,
			error = CASE WHEN k.status = 'running' THEN x.error ELSE k.error END, updated_at = now()
		FROM jsonb_to_recordset($1::jsonb) AS x (id uuid, phase text, done bigint, total bigint, made boolean, error text)
		WHERE k.id = x.id`, write)
}
