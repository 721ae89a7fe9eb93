package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// attachTries bounds how often another process may take the free device first.
const attachTries = 20

// Attach implements driver.Loop.
func (l *Devices) Attach(ctx context.Context, backing string, o driver.LoopOptions) (driver.LoopDevice, error) {
	all, err := l.AttachAll(ctx, backing, o, 1)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	return all[0], nil
}

// AttachAll implements driver.Loop. DirectIO is a wish: the kernel falls back to buffered
// I/O where the backing can't, and such a device is found again. Read-ahead is set
// for the loop device and for what it reads of a buffered backing: the page cache
// that matters is the backing's.
//
// What is missing is bound side by side: the kernel waits for grace periods of RCU in each
// (a new disk, its queue, the freezing of it), 120 ms on a node of one processor, and these
// waits fall together.
func (l *Devices) AttachAll(ctx context.Context, backing string, o driver.LoopOptions, n int) (_ []driver.LoopDevice, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, err := identify(backing)
	if err != nil {
		return nil, err
	}
	ctl, err := l.control(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ctl.Close() }()
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.list(ctx)
	if err != nil {
		return nil, err
	}
	taken := map[int]bool{}
	out := make([]bound, 0, n)
	for _, b := range all {
		taken[int(b.info.Number)] = true
		direct := b.info.Flags&flagDirectIO != 0
		if len(out) < n && fits(b, id) && b.ReadOnly == o.ReadOnly && (direct == o.DirectIO || o.DirectIO) {
			out = append(out, b)
		}
	}
	made := make([]bound, n-len(out))
	var g errgroup.Group
	free := 0
	for i := range made {
		for taken[free] {
			free++
		}
		number := free
		taken[number] = true
		g.Go(func() (err error) {
			made[i], err = bindNew(ctl, number, backing, o, id.block)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for _, b := range made {
			if b.info != nil {
				err = errors.Join(err, clear(int(b.info.Number)))
			}
		}
		return nil, err
	}
	out = append(out, made...)
	slices.SortFunc(out, byNumber)
	return views(out), nil
}

// bindNew binds backing to loop device n, or to another one if somebody else was first.
func bindNew(ctl *os.File, n int, backing string, o driver.LoopOptions, block bool) (bound, error) {
	file, err := openBacking(backing, o, block)
	if err != nil {
		return bound{}, err
	}
	defer func() { _ = file.Close() }()
	if err := ioctl(ctl, unix.LOOP_CTL_ADD, uintptr(n)); err != nil && !errors.Is(err, unix.EEXIST) {
		return bound{}, fmt.Errorf("loop: make %s: %w", devicePath(n), err)
	}
	for range attachTries {
		b, err := bind(n, file, o)
		switch {
		case err == nil:
			return b, nil
		case !errors.Is(err, unix.EBUSY):
			return bound{}, fmt.Errorf("loop: bind %s: %w", backing, err)
		}
		if n, err = unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE); err != nil {
			return bound{}, fmt.Errorf("loop: find a free device: %w", err)
		}
	}
	return bound{}, fmt.Errorf("loop: bind %s: others took each free device first: %w", backing, driver.ErrBusy)
}

// openBacking opens what the loop device is to read through, with the read-ahead
// that it is to have: the kernel takes it from the open file.
func openBacking(path string, o driver.LoopOptions, block bool) (_ *os.File, err error) {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, backingError(path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if o.DirectIO {
		return f, nil
	}
	// Without read-ahead the kernel reads what is asked for and no more. With one of 128 KiB,
	// 32 MiB of a 64 MiB image in reads of 4 to 64 KiB at random took 62.8 MiB from upstream,
	// in 1,891 requests instead of 8,198: dm-snapshot cuts reads into pieces of 4 KiB, which
	// look like a stream. A tree of eight nodes had its reads done no sooner for that.
	advice := unix.FADV_RANDOM
	if o.ReadAheadSectors > 0 {
		advice = unix.FADV_NORMAL // as the device has it
		if block {
			if err := setReadAhead(f, o.ReadAheadSectors); err != nil {
				return nil, err
			}
		}
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, advice); err != nil {
		return nil, fmt.Errorf("loop: read-ahead of %s: %w", path, err)
	}
	return f, nil
}

func setReadAhead(f *os.File, sectors uint64) error {
	if err := ioctl(f, unix.BLKRASET, uintptr(sectors)); err != nil {
		return fmt.Errorf("loop: set read-ahead of %s to %d sectors: %w", f.Name(), sectors, err)
	}
	return nil
}

// bind binds free loop device n. EBUSY says that somebody else was first.
func bind(n int, backing *os.File, o driver.LoopOptions) (_ bound, err error) {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(devicePath(n), flags, 0)
	if err != nil {
		return bound{}, err
	}
	defer func() { _ = f.Close() }()

	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	if o.ReadOnly {
		config.Info.Flags |= flagReadOnly
	}
	if o.DirectIO {
		config.Info.Flags |= flagDirectIO
	}
	setName(&config.Info, backing.Name())
	err = unix.IoctlLoopConfigure(int(f.Fd()), &config)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		err = bindOld(f, backing, config.Info) // before Linux 5.8
	}
	if err != nil {
		return bound{}, err
	}
	unbind := func(err error) error { return errors.Join(err, ioctl(f, unix.LOOP_CLR_FD, 0)) }
	if err := setReadAhead(f, o.ReadAheadSectors); err != nil {
		return bound{}, unbind(err)
	}
	b, err := read(f, n)
	if err != nil {
		return bound{}, unbind(err)
	}
	if b.ReadOnly != o.ReadOnly {
		return bound{}, unbind(fmt.Errorf("the kernel made %s read-only: %v", f.Name(), b.ReadOnly))
	}
	return b, nil
}

// bindOld is bind in two steps. Read-only is how backing is opened.
func bindOld(f, backing *os.File, info unix.LoopInfo64) error {
	if err := ioctl(f, unix.LOOP_SET_FD, backing.Fd()); err != nil {
		return err
	}
	direct := info.Flags&flagDirectIO != 0
	info.Flags &^= flagDirectIO
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), &info); err != nil {
		return errors.Join(err, ioctl(f, unix.LOOP_CLR_FD, 0))
	}
	if direct {
		_ = ioctl(f, unix.LOOP_SET_DIRECT_IO, 1) // a wish
	}
	return nil
}
