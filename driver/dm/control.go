package dm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

const (
	controlPath = "/dev/mapper/control"
	firstBuffer = 16 << 10 // bytes of an answer that is a list; grown while the kernel says that it is too small
	lastBuffer  = 64 << 20
)

// control opens the kernel's door once and keeps it open.
func (m *Mapper) control(ctx context.Context) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctl != nil {
		return m.ctl, nil
	}
	f, err := openControl()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		if e := m.probe(ctx, "dm-mod"); e != nil {
			return nil, fmt.Errorf("%s: the kernel module dm-mod can't be loaded: %w: %w", controlPath, e, driver.ErrUnavailable)
		}
		f, err = openControl()
	}
	if err != nil {
		return nil, fmt.Errorf("device-mapper: %w: %w", err, driver.ErrUnavailable)
	}
	m.ctl = f
	return f, nil
}

// openControl opens the control device to be blocked upon. os.OpenFile would have it polled,
// and Fd then changes it back and forth around each ioctl.
func openControl() (*os.File, error) {
	fd, err := unix.Open(controlPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: controlPath, Err: err}
	}
	return os.NewFile(uintptr(fd), controlPath), nil
}

// Close lets go of the kernel's control device. The Mapper can be used again.
func (m *Mapper) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctl == nil {
		return nil
	}
	err := m.ctl.Close()
	m.ctl = nil
	return err
}

// lists tells whether the kernel answers cmd with more than a header.
func lists(cmd uint) bool {
	switch cmd {
	case unix.DM_LIST_DEVICES, unix.DM_TABLE_STATUS, unix.DM_TABLE_DEPS, unix.DM_TARGET_MSG, unix.DM_LIST_VERSIONS:
		return true
	}
	return false
}

// call does one ioctl. A command that answers with a list is repeated with a
// larger buffer while the kernel says that its answer does not fit.
func (m *Mapper) call(ctx context.Context, cmd uint, h header, payload []byte) (header, []byte, error) {
	if err := ctx.Err(); err != nil {
		return header{}, nil, err
	}
	f, err := m.control(ctx)
	if err != nil {
		return header{}, nil, err
	}
	size := headerLen
	if lists(cmd) {
		size = firstBuffer
	}
	for ; ; size *= 4 {
		buf, err := h.marshal(payload, size)
		if err != nil {
			return header{}, nil, err
		}
		if err := ioctl(ctx, f, cmd, buf); err != nil {
			return header{}, nil, err
		}
		out, data, err := unmarshal(buf)
		if err != nil {
			return header{}, nil, err
		}
		if out.flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return out, data, nil
		}
		if size >= lastBuffer {
			return header{}, nil, fmt.Errorf("%w: answer longer than %d bytes", errCodec, size)
		}
	}
}

// ioctl passes buf to the kernel. A suspend waits for I/O that may never end, so
// it is called off when ctx ends.
func ioctl(ctx context.Context, f *os.File, cmd uint, buf []byte) error {
	calledOff := func() bool { return false }
	if cmd == unix.DM_DEV_SUSPEND {
		var stop func()
		calledOff, stop = callOff(ctx, buf)
		defer stop()
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(cmd), uintptr(unsafe.Pointer(&buf[0]))) //nolint:gosec // the kernel's interface
		switch {
		case errno == 0:
			return nil
		case (errno == unix.EINTR || errno == unix.ENXIO) && calledOff():
			return ctx.Err()
		case errno != unix.EINTR:
			return errno
		}
	}
}

// callOff makes the ioctl that this goroutine is about to do with buf end with ctx.
// The kernel's wait is ended by a signal: SIGURG, which the Go runtime uses for
// itself and otherwise ignores. But since the runtime wants system calls to be
// restarted, the kernel then starts the same ioctl again, reading buf anew. So
// the device's name is taken out of buf first, and the second time finds no device.
// tell says whether that was done; stop must be called.
func callOff(ctx context.Context, buf []byte) (tell func() bool, stop func()) {
	runtime.LockOSThread()
	finished, stopped := make(chan struct{}), make(chan struct{})
	tid, done := unix.Gettid(), &atomic.Bool{}
	go func() {
		defer close(stopped)
		select {
		case <-finished:
			return
		case <-ctx.Done():
		}
		buf[offName], buf[offUUID] = 0, 0
		done.Store(true)
		// Again and again, since the first may come before the thread waits.
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // a thread that is gone is fine
			select {
			case <-finished:
				return
			case <-tick.C:
			}
		}
	}()
	return done.Load, func() {
		close(finished)
		<-stopped
		runtime.UnlockOSThread()
	}
}
