package fake

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

const loopMajor = 7

// Loop is a driver.Loop over [Devices]: backings are files ([Devices.DeclareFile])
// and block devices.
type Loop struct {
	devs   *Devices
	faults dmFaults
	bound  []*loopBinding // by number; nil is free; guarded by devs.mu
}

type loopBinding struct {
	dev     *blockDevice
	backing *blockDevice
	view    driver.LoopDevice
	options driver.LoopOptions
}

var _ driver.Loop = (*Loop)(nil)

// NewLoop returns one without bound devices.
func NewLoop(devs *Devices) *Loop { return &Loop{devs: devs} }

// FailNext makes the next op (attach, find, detach or list) on a backing or, for
// detach, a device, fail with err. An empty path is any.
func (l *Loop) FailNext(op, path string, err error) { l.faults.add(op, path, err) }

// Options returns what the loop device at path was attached with.
func (l *Loop) Options(path string) (driver.LoopOptions, bool) {
	l.devs.mu.Lock()
	defer l.devs.mu.Unlock()
	for _, b := range l.bound {
		if b != nil && b.view.Path == path {
			return b.options, true
		}
	}
	return driver.LoopOptions{}, false
}

// Reboot forgets all bindings.
func (l *Loop) Reboot() {
	l.devs.mu.Lock()
	defer l.devs.mu.Unlock()
	for _, b := range l.bound {
		if b != nil {
			l.unbind(b)
		}
	}
	l.bound = nil
}

func (l *Loop) unbind(b *loopBinding) {
	b.backing.looped--
	l.devs.drop(b.dev)
}

func (l *Loop) enter(ctx context.Context, op, path string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := l.faults.take(op, path); err != nil {
		return nil, fmt.Errorf("fake loop: %s %s: %w", op, path, err)
	}
	l.devs.mu.Lock()
	return l.devs.mu.Unlock, nil
}

// find returns the binding of backing that suits.
func (l *Loop) find(backing string, ok func(*loopBinding) bool) (*blockDevice, *loopBinding, error) {
	b := l.devs.byPath[backing]
	if b == nil {
		return nil, nil, fmt.Errorf("fake loop: backing %s: %w", backing, driver.ErrNotFound)
	}
	for _, have := range l.bound {
		if have != nil && have.backing == b && ok(have) {
			return b, have, nil
		}
	}
	return b, nil, nil
}

// Attach implements driver.Loop.
func (l *Loop) Attach(ctx context.Context, backing string, o driver.LoopOptions) (driver.LoopDevice, error) {
	all, err := l.AttachAll(ctx, backing, o, 1)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	return all[0], nil
}

// AttachAll implements driver.Loop.
func (l *Loop) AttachAll(ctx context.Context, backing string, o driver.LoopOptions, n int) ([]driver.LoopDevice, error) {
	leave, err := l.enter(ctx, "attach", backing)
	if err != nil {
		return nil, err
	}
	defer leave()
	have := 0
	b, _, err := l.find(backing, func(x *loopBinding) bool {
		if l.suits(x, o) {
			have++
		}
		return false
	})
	switch {
	case err != nil:
		return nil, err
	case have < n && b.readOnly && !o.ReadOnly:
		return nil, fmt.Errorf("fake loop: backing %s is read-only: operation not permitted", backing)
	}
	for ; have < n; have++ {
		l.bind(b, o)
	}
	var out []driver.LoopDevice
	for _, x := range l.bound {
		if x != nil && x.backing == b && l.suits(x, o) && len(out) < n {
			out = append(out, x.view)
		}
	}
	return out, nil
}

func (l *Loop) suits(x *loopBinding, o driver.LoopOptions) bool {
	return x.options.ReadOnly == o.ReadOnly && (x.options.DirectIO == o.DirectIO || o.DirectIO)
}

// bind binds b to the first free device.
func (l *Loop) bind(b *blockDevice, o driver.LoopOptions) {
	n := slices.Index(l.bound, nil)
	if n < 0 {
		n = len(l.bound)
		l.bound = append(l.bound, nil)
	}
	path := fmt.Sprintf("/dev/loop%d", n)
	x := &loopBinding{
		backing: b, options: o,
		view: driver.LoopDevice{Path: path, Backing: b.paths[0], ReadOnly: o.ReadOnly, Bytes: b.sectors * 512},
		dev: &blockDevice{
			paths: []string{path}, sectors: b.sectors, readOnly: o.ReadOnly, backing: b.home(),
			number: dm.DevNumber{Major: loopMajor, Minor: uint32(n)},
		},
	}
	b.looped++
	l.devs.add(x.dev)
	l.bound[n] = x
}

// Find implements driver.Loop.
func (l *Loop) Find(ctx context.Context, backing string) (driver.LoopDevice, error) {
	leave, err := l.enter(ctx, "find", backing)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	defer leave()
	_, have, err := l.find(backing, func(*loopBinding) bool { return true })
	if err != nil {
		return driver.LoopDevice{}, err
	}
	if have == nil {
		return driver.LoopDevice{}, fmt.Errorf("fake loop: no device is bound to %s: %w", backing, driver.ErrNotFound)
	}
	return have.view, nil
}

// Detach implements driver.Loop.
func (l *Loop) Detach(ctx context.Context, path string) error {
	leave, err := l.enter(ctx, "detach", path)
	if err != nil {
		return err
	}
	defer leave()
	for n, b := range l.bound {
		if b == nil || b.view.Path != path {
			continue
		}
		if b.dev.users() > 0 {
			return fmt.Errorf("fake loop: detach %s: open: %w", path, driver.ErrBusy)
		}
		l.unbind(b)
		l.bound[n] = nil
		return nil
	}
	if b := l.devs.byPath[path]; b != nil {
		return fmt.Errorf("fake loop: detach: %s is not a loop device", path)
	}
	return nil
}

// List implements driver.Loop.
func (l *Loop) List(ctx context.Context) ([]driver.LoopDevice, error) {
	leave, err := l.enter(ctx, "list", "")
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []driver.LoopDevice
	for _, b := range l.bound {
		if b != nil {
			out = append(out, b.view)
		}
	}
	return out, nil
}
