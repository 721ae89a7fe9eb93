package mover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

const (
	chunkBytes = 4 << 20 // read at once, of both sides
	unitBytes  = 4096    // compared, and written where it differs: a chunk of a dm-snapshot
)

// Phases of a copy.
const (
	phaseLogin = "log in to the old home"
	phaseCopy  = "copy"
	phaseFlush = "flush"
)

// Mover does tasks of kind model.TaskMigrate.
type Mover struct{ initiator driver.Initiator }

var _ driver.TaskWorker = (*Mover)(nil)

// New returns a Mover that logs in with i.
func New(i driver.Initiator) *Mover { return &Mover{initiator: i} }

// Do implements [driver.TaskWorker].
func (m *Mover) Do(ctx context.Context, t driver.Task, progress func(driver.TaskProgress)) (_ model.JSON, err error) {
	if t.Source == nil {
		return nil, fmt.Errorf("task %s says not what is to be copied: %w", t.ID, driver.ErrUnusable)
	}
	progress(driver.TaskProgress{Phase: phaseLogin, Total: t.Bytes})
	session, err := m.initiator.Login(ctx, *t.Source)
	if err != nil {
		// The old home may not have exported it yet, or may be away.
		return nil, fmt.Errorf("%w: log in to %s at %s: %w", driver.ErrUnreachable, t.Source.IQN, t.Source.Address, err)
	}
	defer func() {
		ctx, cancel := driver.Teardown(ctx)
		defer cancel()
		err = errors.Join(err, m.initiator.Logout(ctx, t.Source.IQN, t.Source.Address))
	}()
	c := copier{bytes: t.Bytes, progress: progress}
	return nil, c.run(ctx, session.Device, t.Device)
}

// Clean implements [driver.TaskWorker]: a session that a crash has left is ended.
func (m *Mover) Clean(ctx context.Context, id string) error {
	task, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("task %q: %w", id, err)
	}
	sessions, err := m.initiator.Sessions(ctx, driver.IQNPrefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range sessions {
		if strings.HasSuffix(s.IQN, ":volume-"+model.ServeID(task).String()) {
			errs = append(errs, m.initiator.Logout(ctx, s.IQN, s.Address))
		}
	}
	return errors.Join(errs...)
}

// copier makes one device hold what another one does.
type copier struct {
	bytes    int64
	progress func(driver.TaskProgress)
}

func (c *copier) run(ctx context.Context, from, to string) (err error) {
	src, err := open(from, os.O_RDONLY)
	if err != nil {
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := open(to, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	a, err := buffer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(a)) }()
	b, err := buffer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(b)) }()
	for at := int64(0); at < c.bytes; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunkBytes, c.bytes-at)
		var g errgroup.Group
		g.Go(func() error { return unreachable(read(src, a[:n], at)) })
		g.Go(func() error { return read(dst, b[:n], at) })
		if err := g.Wait(); err != nil {
			return err
		}
		if err := differing(a[:n], b[:n], func(off, end int) error {
			_, err := dst.WriteAt(a[off:end], at+int64(off))
			return err
		}); err != nil {
			return err
		}
		at += n
		c.progress(driver.TaskProgress{Phase: phaseCopy, Done: at, Total: c.bytes})
	}
	c.progress(driver.TaskProgress{Phase: phaseFlush, Done: c.bytes, Total: c.bytes})
	return dst.Sync()
}

// differing calls do for each run of units in which two chunks differ.
func differing(a, b []byte, do func(off, end int) error) error {
	for off := 0; off < len(a); {
		end := off
		for end < len(a) {
			next := min(end+unitBytes, len(a))
			if bytes.Equal(a[end:next], b[end:next]) {
				break
			}
			end = next
		}
		if end > off {
			if err := do(off, end); err != nil {
				return err
			}
		}
		off = min(end+unitBytes, len(a)) // what stopped the run does not differ
	}
	return nil
}

func read(f *os.File, p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s ends at %d: %w", f.Name(), at+int64(n), driver.ErrUnusable)
	}
	return err
}

// unreachable gives what fails at the old home's disk the meaning that it may come back.
func unreachable(err error) error {
	if err == nil || errors.Is(err, driver.ErrUnusable) {
		return err
	}
	return fmt.Errorf("%w: old home: %w", driver.ErrUnreachable, err)
}

// open goes past the page cache, which may hold what was on a disk of the same name before.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // a file system that can't
		return os.OpenFile(path, flags, 0)
	}
	return f, err
}

// buffer is a chunk at an address for direct I/O.
func buffer() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, chunkBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for a chunk: %w", err)
	}
	return b, nil
}

// Server does tasks of kind model.TaskServe.
type Server struct{}

var _ driver.TaskWorker = Server{}

// Do implements [driver.TaskWorker]: it lasts until it is not wanted any more.
func (Server) Do(ctx context.Context, _ driver.Task, _ func(driver.TaskProgress)) (model.JSON, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Clean implements [driver.TaskWorker].
func (Server) Clean(context.Context, string) error { return nil }
