package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Workers do the tasks about backups in a repository.
func Workers(r *Repository) map[model.TaskKind]driver.TaskWorker {
	return map[model.TaskKind]driver.TaskWorker{
		model.TaskCreateBackup:  worker(r.create),
		model.TaskRestoreBackup: worker(r.restore),
		model.TaskDeleteBackup:  worker(r.remove),
	}
}

// worker does one kind of task. Nothing of any is left on the node.
type worker func(ctx context.Context, t driver.Task, a model.BackupArgs, progress func(driver.TaskProgress)) (model.JSON, error)

// Do implements [driver.TaskWorker]. A store that is not there may come back.
func (w worker) Do(ctx context.Context, t driver.Task, progress func(driver.TaskProgress)) (model.JSON, error) {
	var a model.BackupArgs
	if err := json.Unmarshal(t.Args, &a); err != nil {
		return nil, fmt.Errorf("arguments of task %s: %w", t.ID, err)
	}
	if len(a.BackupID) != 36 || a.ParentID != "" && len(a.ParentID) != 36 {
		return nil, fmt.Errorf("arguments of task %s: backup %q, parent %q", t.ID, a.BackupID, a.ParentID)
	}
	out, err := w(ctx, t, a, inOrder(progress))
	if errors.Is(err, driver.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", driver.ErrUnreachable, err)
	}
	return out, err
}

// inOrder is a progress that several goroutines may tell, and that goes forward only.
func inOrder(tell func(driver.TaskProgress)) func(driver.TaskProgress) {
	var mu sync.Mutex
	var done int64
	return func(p driver.TaskProgress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Done >= done {
			done = p.Done
			tell(p)
		}
	}
}

// Clean implements [driver.TaskWorker].
func (w worker) Clean(context.Context, string) error { return nil }

func (r *Repository) create(ctx context.Context, t driver.Task, a model.BackupArgs, progress func(driver.TaskProgress)) (model.JSON, error) {
	f, err := os.Open(t.Device)
	if err != nil {
		return nil, fmt.Errorf("open what is to be backed up: %w", err)
	}
	defer func() { _ = f.Close() }()
	j := Job{Prefix: Prefix(a.Container, a.BackupID), Bytes: t.Bytes, Created: a.CreatedAt, Volume: json.RawMessage(a.Source)}
	if a.ParentID != "" {
		j.Parent = Prefix(a.ParentContainer, a.ParentID)
	}
	j.Progress = func(done int64) { progress(driver.TaskProgress{Phase: "store", Done: done, Total: t.Bytes}) }
	res, err := r.Write(ctx, j, device{f})
	if err != nil {
		return nil, err
	}
	return json.Marshal(model.BackupResult{Objects: res.Objects, StoredBytes: res.StoredBytes, WrittenBytes: res.WrittenBytes})
}

func (r *Repository) restore(ctx context.Context, t driver.Task, a model.BackupArgs, progress func(driver.TaskProgress)) (_ model.JSON, err error) {
	m, err := r.Manifest(ctx, Prefix(a.Container, a.BackupID))
	switch {
	case errors.Is(err, driver.ErrNotFound):
		return nil, fmt.Errorf("%w: the store has none under %s", ErrCorrupt, Prefix(a.Container, a.BackupID))
	case err != nil:
		return nil, err
	case m.Bytes > t.Bytes:
		return nil, fmt.Errorf("backup %s is of %d bytes, the volume has %d", a.BackupID, m.Bytes, t.Bytes)
	}
	f, err := os.OpenFile(t.Device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open what is to be restored to: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = r.Restore(ctx, m.Prefix, device{f}, func(done int64) {
		progress(driver.TaskProgress{Phase: "restore", Done: done, Total: m.Bytes})
	})
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", a.BackupID, err)
	}
	return model.JSON("{}"), nil
}

func (r *Repository) remove(ctx context.Context, _ driver.Task, a model.BackupArgs, _ func(driver.TaskProgress)) (model.JSON, error) {
	if err := r.store.Check(ctx); err != nil {
		return nil, err
	}
	return model.JSON("{}"), r.Delete(ctx, Prefix(a.Container, a.BackupID))
}

// device is a block device that does not fill the page cache.
type device struct{ f *os.File }

var (
	_ io.ReaderAt = device{}
	_ Target      = device{}
)

// ReadAt implements [io.ReaderAt].
func (d device) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.f.ReadAt(p, off)
	_ = unix.Fadvise(int(d.f.Fd()), off, int64(n), unix.FADV_DONTNEED) // advice
	return n, err
}

// WriteAt implements [io.WriterAt]. What is written is on its way to the disk when it returns.
func (d device) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.f.WriteAt(p, off)
	if err == nil {
		_ = unix.SyncFileRange(int(d.f.Fd()), off, int64(n), unix.SYNC_FILE_RANGE_WRITE) // advice
	}
	return n, err
}
