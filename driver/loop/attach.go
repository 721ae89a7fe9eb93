package loop

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// attachTries bounds how often another process may take the free device first.
const attachTries = 20

// Attach implements driver.Loop. DirectIO is a wish: the kernel falls back to buffered
// I/O where the backing can't, and such a device is found again. Read-ahead is set
// for the loop device and for what it reads of a buffered backing: the page cache
// that matters is the backing's.
func (l *Devices) Attach(ctx context.Context, backing string, o driver.LoopOptions) (_ driver.LoopDevice, err error) {
	if err := ctx.Err(); err != nil {
		return driver.LoopDevice{}, err
	}
	id, err := identify(backing)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	ctl, err := l.control(ctx)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	defer func() { _ = ctl.Close() }()
	l.mu.Lock()
	defer l.mu.Unlock()
	beside := o.Beside
	have, err := l.match(ctx, backing, id, func(b bound) bool {
		direct := b.info.Flags&flagDirectIO != 0
		if b.ReadOnly != o.ReadOnly || direct != o.DirectIO && !o.DirectIO {
			return false
		}
		beside--
		return beside < 0
	})
	if err == nil || !errors.Is(err, driver.ErrNotFound) {
		return have, err
	}
	file, err := openBacking(backing, o, id.block)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	defer func() { _ = file.Close() }()
	for range attachTries {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return driver.LoopDevice{}, fmt.Errorf("loop: find a free device: %w", err)
		}
		d, err := bind(n, file, o)
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return driver.LoopDevice{}, fmt.Errorf("loop: bind %s: %w", backing, err)
		}
		return d, nil
	}
	return driver.LoopDevice{}, fmt.Errorf("loop: bind %s: others took each free device first: %w", backing, driver.ErrBusy)
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
func bind(n int, backing *os.File, o driver.LoopOptions) (_ driver.LoopDevice, err error) {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(devicePath(n), flags, 0)
	if err != nil {
		return driver.LoopDevice{}, err
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
		return driver.LoopDevice{}, err
	}
	unbind := func(err error) error { return errors.Join(err, ioctl(f, unix.LOOP_CLR_FD, 0)) }
	if err := setReadAhead(f, o.ReadAheadSectors); err != nil {
		return driver.LoopDevice{}, unbind(err)
	}
	b, err := read(f, n)
	if err != nil {
		return driver.LoopDevice{}, unbind(err)
	}
	if b.ReadOnly != o.ReadOnly {
		return driver.LoopDevice{}, unbind(fmt.Errorf("the kernel made %s read-only: %v", f.Name(), b.ReadOnly))
	}
	return b.LoopDevice, nil
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
