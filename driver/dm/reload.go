package dm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// suspend does DM_DEV_SUSPEND with the suspend flag.
func (m *Mapper) suspend(ctx context.Context, name string, o driver.ReloadOptions) error {
	flags := uint32(unix.DM_SUSPEND_FLAG)
	if o.NoFlush {
		flags |= unix.DM_NOFLUSH_FLAG
	}
	if o.NoLockFS {
		flags |= unix.DM_SKIP_LOCKFS_FLAG
	}
	_, _, err := m.call(ctx, unix.DM_DEV_SUSPEND, header{name: name, flags: flags}, nil)
	return opError("suspend", name, err)
}

// resume does DM_DEV_SUSPEND without the suspend flag, which makes the inactive
// table live if there is one. reason is watchKernelLog's.
func (m *Mapper) resume(ctx context.Context, name string, reason func() string) (header, error) {
	h, _, err := m.call(ctx, unix.DM_DEV_SUSPEND, header{name: name}, nil)
	var errno unix.Errno
	if errors.As(err, &errno) && errno != unix.ENXIO {
		return h, fmt.Errorf("%w (%s)", opError("resume", name, err), reason())
	}
	return h, opError("resume", name, err)
}

// clear drops the inactive table.
func (m *Mapper) clear(ctx context.Context, name string) error {
	_, _, err := m.call(ctx, unix.DM_TABLE_CLEAR, header{name: name}, nil)
	return opError("clear", name, err)
}

// Suspend implements driver.DeviceMapper. One that is suspended already is success.
// While it waits for I/O it ends with ctx.
func (m *Mapper) Suspend(ctx context.Context, name string, o driver.ReloadOptions) error {
	if err := checkName(name); err != nil {
		return err
	}
	defer m.names.lock(name)()
	return m.suspend(ctx, name, o)
}

// Resume implements driver.DeviceMapper. One that runs already is success.
func (m *Mapper) Resume(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	defer m.names.lock(name)()
	why, done := watchKernelLog()
	defer done()
	h, err := m.resume(ctx, name, why)
	if err != nil {
		return err
	}
	return m.nodes.ensure(ctx, name, h.dev)
}

// Reload implements driver.DeviceMapper. The device runs afterwards, also if it
// was suspended before, whether the new table is live or the old one again.
func (m *Mapper) Reload(ctx context.Context, name string, t driver.Table, o driver.ReloadOptions) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	if err := checkTable(t); err != nil {
		return fmt.Errorf("device-mapper: reload %s: %w", name, err)
	}
	defer m.names.lock(name)()
	h, err := m.status(ctx, name)
	if err != nil {
		return err
	}
	old, err := m.Table(ctx, name)
	if err != nil {
		return err
	}
	why, done := watchKernelLog()
	defer done()
	if err := m.load(ctx, name, t, o.ReadOnly, why); err != nil {
		return err
	}
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()

	if err := m.suspend(ctx, name, o); err != nil {
		undo.Add(func(ctx context.Context) error { return m.clear(ctx, name) })
		return err
	}
	wasReadOnly := h.flags&unix.DM_READONLY_FLAG != 0
	undo.Add(func(ctx context.Context) error { return m.putBack(ctx, name, old, wasReadOnly, why) })
	if h, err = m.resume(ctx, name, why); err != nil {
		return err
	}
	return m.nodes.ensure(ctx, name, h.dev)
}

// putBack makes old the live table of a suspended device whose new table could
// not be resumed: the kernel may have exchanged them already or not.
func (m *Mapper) putBack(ctx context.Context, name string, old driver.Table, readOnly bool, why func() string) error {
	if len(old) == 0 {
		return m.clear(ctx, name)
	}
	if err := m.load(ctx, name, old, readOnly, why); err != nil {
		return err
	}
	_, err := m.resume(ctx, name, why)
	return err
}

// keyed is a lock for each name.
type keyed struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	mu    sync.Mutex
	users int
}

// lock waits for name and returns what lets go of it.
func (k *keyed) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[name]
	if l == nil {
		l = &keyedLock{}
		k.held[name] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.held, name)
		}
	}
}
