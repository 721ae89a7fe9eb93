package dm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// opError gives an ioctl's error a place, a sentinel and a hint.
// op is what was done: create, load, suspend, resume, remove, message, ...
func opError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if s := sentinel(op, err); s != nil {
		return fmt.Errorf("device-mapper: %s %s: %w: %w", op, name, err, s)
	}
	return fmt.Errorf("device-mapper: %s %s: %w", op, name, err)
}

// sentinel says which of the driver's errors an errno stands for.
func sentinel(op string, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case unix.ENXIO:
		return driver.ErrNotFound
	case unix.ENODATA: // a thin device or snapshot origin that the pool doesn't know
		return driver.ErrNotFound
	case unix.EBUSY:
		if op == "create" {
			return driver.ErrExists
		}
		return driver.ErrBusy
	case unix.EEXIST:
		return driver.ErrExists
	case unix.ENOSPC:
		return driver.ErrNoSpace
	case unix.ENOENT, unix.ENODEV: // in a table: the device that it names
		if op == "load" {
			return driver.ErrNotFound
		}
	}
	return nil
}
