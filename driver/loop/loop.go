package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/internal/attr"
)

const (
	controlPath = "/dev/loop-control"
	sysBlock    = "/sys/block"
	letGo       = 5 * time.Second // for the kernel to unbind what has no users
	busyWait    = time.Second     // for udev to stop looking at a device
	pollEvery   = 5 * time.Millisecond
)

// Devices is this node's loop devices. Its methods can be called from many goroutines.
type Devices struct {
	run command.Runner
	// mu lets one caller at a time find a free device and bind it, unbind one, or look
	// at them all: a device that is being looked at is open and can't be unbound.
	mu sync.Mutex

	probeMu sync.Mutex
	probed  bool
}

var _ driver.Loop = (*Devices)(nil)

// New returns the loop devices; run is for modprobe.
func New(run command.Runner) *Devices { return &Devices{run: run} }

// control opens /dev/loop-control, loading the module once if it is not there.
func (l *Devices) control(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		l.probeMu.Lock()
		defer l.probeMu.Unlock()
		if !l.probed {
			_, perr := l.run.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"--quiet", "--", "loop"}})
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			l.probed = true
			if perr != nil {
				return nil, fmt.Errorf("loop: the kernel module loop can't be loaded: %w: %w", perr, driver.ErrUnavailable)
			}
		}
		f, err = os.OpenFile(controlPath, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("loop: %w: %w", err, driver.ErrUnavailable)
	}
	return f, nil
}

// bound is a device with a backing.
type bound struct {
	driver.LoopDevice
	info *unix.LoopInfo64
}

// List implements driver.Loop.
func (l *Devices) List(ctx context.Context) ([]driver.LoopDevice, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.list(ctx)
	if err != nil {
		return nil, err
	}
	return views(all), nil
}

func views(all []bound) []driver.LoopDevice {
	var out []driver.LoopDevice
	for _, b := range all {
		out = append(out, b.LoopDevice)
	}
	return out
}

func byNumber(a, b bound) int { return int(a.info.Number) - int(b.info.Number) }

func (l *Devices) list(ctx context.Context) ([]bound, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(sysBlock)
	if err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	var out []bound
	for _, e := range entries {
		n, ok := parseNumber(e.Name())
		if !ok {
			continue
		}
		if _, err := os.Stat(filepath.Join(sysBlock, e.Name(), "loop")); err != nil {
			continue // not bound
		}
		b, err := l.look(n)
		if errors.Is(err, driver.ErrNotFound) {
			continue // went away in between
		}
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	slices.SortFunc(out, byNumber)
	return out, nil
}

// look reads the state of loop device n, ErrNotFound if it is not bound.
func (l *Devices) look(n int) (bound, error) {
	path := devicePath(n)
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return bound{}, fmt.Errorf("loop: %s: %w", path, driver.ErrNotFound)
	}
	if err != nil {
		return bound{}, fmt.Errorf("loop: %w", err)
	}
	defer func() { _ = f.Close() }()
	return read(f, n)
}

// read asks the open device f, which is loop device n.
func read(f *os.File, n int) (bound, error) {
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return bound{}, fmt.Errorf("loop: %s is not bound: %w", f.Name(), driver.ErrNotFound)
	}
	if err != nil {
		return bound{}, fmt.Errorf("loop: state of %s: %w", f.Name(), err)
	}
	var size uint64
	if err := ioctl(f, unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); err != nil { //nolint:gosec // the kernel's interface
		return bound{}, fmt.Errorf("loop: size of %s: %w", f.Name(), err)
	}
	name, err := attr.Read(filepath.Join(sysBlock, "loop"+strconv.Itoa(n), "loop", "backing_file"))
	if errors.Is(err, fs.ErrNotExist) {
		return bound{}, fmt.Errorf("loop: %s is not bound: %w", f.Name(), driver.ErrNotFound)
	}
	if err != nil {
		return bound{}, fmt.Errorf("loop: %w", err)
	}
	return bound{
		LoopDevice: driver.LoopDevice{
			Path: devicePath(n), Backing: parseBacking(name),
			ReadOnly: info.Flags&flagReadOnly != 0, Bytes: size,
		},
		info: info,
	}, nil
}

func devicePath(n int) string { return "/dev/loop" + strconv.Itoa(n) }

func ioctl(f *os.File, cmd uint, arg uintptr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(cmd), arg)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// Find implements driver.Loop. Devices that show a part of the backing only, and
// those that go away with their last user, don't count.
func (l *Devices) Find(ctx context.Context, backing string) (driver.LoopDevice, error) {
	id, err := identify(backing)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.list(ctx)
	if err != nil {
		return driver.LoopDevice{}, err
	}
	for _, b := range all {
		if fits(b, id) {
			return b.LoopDevice, nil
		}
	}
	return driver.LoopDevice{}, fmt.Errorf("loop: no device is bound to %s: %w", backing, driver.ErrNotFound)
}

// fits tells whether a device shows the whole of a backing, and stays.
func fits(b bound, id identity) bool {
	return identityOf(b.info) == id && whole(b.info) && b.info.Flags&flagAutoclear == 0
}

func identify(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, backingError(path, err)
	}
	id, err := identityOfStat(&st)
	if err != nil {
		return identity{}, fmt.Errorf("loop: %s: %w", path, err)
	}
	return id, nil
}

func backingError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("loop: backing %s: %w: %w", path, err, driver.ErrNotFound)
	}
	return fmt.Errorf("loop: backing %s: %w", path, err)
}

// Detach implements driver.Loop.
//
// The kernel answers the request to unbind a device that somebody has open by
// arming autoclear: the device would vanish under its users' successor later. So
// autoclear is taken back then, and the device stays as it was.
func (l *Devices) Detach(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loop: detach: %w", err)
	}
	n, ok := parseNumber(strings.TrimPrefix(real, "/dev/"))
	if !ok {
		return fmt.Errorf("loop: detach: %s is not a loop device", path)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = clear(n)
	if errors.Is(err, driver.ErrBusy) && udevRuns() {
		poll(ctx, busyWait, func() bool {
			err = clear(n)
			return !errors.Is(err, driver.ErrBusy)
		})
	}
	if err != nil {
		return err
	}
	gone := func() bool {
		_, err := os.Stat(filepath.Join(sysBlock, "loop"+strconv.Itoa(n), "loop", "backing_file"))
		return errors.Is(err, fs.ErrNotExist)
	}
	if !poll(ctx, letGo, gone) {
		return fmt.Errorf("loop: detach: the kernel keeps %s bound: %w", path, driver.ErrBusy)
	}
	return nil
}

// clear asks the kernel to unbind loop device n, which it does when this returns
// or right after.
func clear(n int) error {
	path := devicePath(n)
	// Exclusively: fails at once under a device-mapper device, an export or a mount.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("loop: detach %s: %w", path, driver.ErrBusy)
	case err != nil:
		return fmt.Errorf("loop: detach: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := ioctl(f, unix.LOOP_CLR_FD, 0); errors.Is(err, unix.ENXIO) {
		return nil
	} else if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("loop: detach %s: %w", path, driver.ErrBusy)
	} else if err != nil {
		return fmt.Errorf("loop: detach %s: %w", path, err)
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return nil // unbound, or about to be with our closing it
	}
	if err != nil {
		return fmt.Errorf("loop: detach %s: %w", path, err)
	}
	info.Flags &^= flagAutoclear
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), info); err != nil {
		return fmt.Errorf("loop: detach %s: in use, and it will vanish with its last user: %w: %w", path, err, driver.ErrBusy)
	}
	return fmt.Errorf("loop: detach %s: open: %w", path, driver.ErrBusy)
}

func udevRuns() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

// poll looks again until ok, ctx or the time ends it.
func poll(ctx context.Context, wait time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok() {
			return true
		}
		select {
		case <-ctx.Done():
			return ok()
		case <-tick.C:
		}
	}
}
