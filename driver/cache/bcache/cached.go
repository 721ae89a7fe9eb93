package bcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// cached is a backing device that is registered with bcache.
type cached struct {
	dir  string // /sys/dev/block/M:m/bcache of the backing device
	name string // bcacheN; "" while it waits for its set and does not run
}

// registered returns the cached device of a backing device; ok is false if it is
// not registered.
func (c *Cache) registered(d driver.Device) (b cached, ok bool) {
	b.dir = filepath.Join(c.sys.device(d.Major, d.Minor), "bcache")
	b.name = linkBase(filepath.Join(b.dir, "dev"))
	return b, exists(b.dir)
}

func (b cached) attr(name string) (string, error) { return readAttr(filepath.Join(b.dir, name)) }

func (b cached) write(name, value string) error {
	if err := writeAttr(filepath.Join(b.dir, name), value); err != nil {
		return fmt.Errorf("write %q to %s of %s: %w", value, name, b.dir, err)
	}
	return nil
}

// set is the UUID of the set that it is attached to, "" if none.
func (b cached) set() string { return linkBase(filepath.Join(b.dir, "cache")) }

func (b cached) path() string { return "/dev/" + b.name }

// usable tells whether the block device can be opened. A device that was told to stop
// while it was open answers ENXIO until its last user lets go.
func (b cached) usable() (bool, error) {
	if b.name == "" {
		return false, nil
	}
	f, err := os.Open(b.path())
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open cached device: %w", err)
	}
	return true, f.Close()
}

// run waits until the device stands, and sets it up: its settings, read-only, and without the
// partitions that the kernel found on the image, so that nobody on this node
// mounts, assembles or activates what is a guest's.
func (c *Cache) run(ctx context.Context, d driver.Device) (cached, error) {
	var b cached
	err := poll(ctx, c.limit, "the cached device of "+d.Name+" runs", func() (bool, error) {
		var ok bool
		if b, ok = c.registered(d); !ok {
			return false, nil
		}
		if b.name == "" {
			// Clean, and its set is gone: run without it.
			if running, err := b.attr("running"); err == nil && running == "0" {
				if err := b.write("running", "1"); err != nil && !errors.Is(err, unix.EBUSY) {
					return false, err
				}
			}
			return false, nil
		}
		return b.usable()
	})
	if err != nil {
		return b, err
	}
	if err := apply(b.dir, deviceSettings[:]); err != nil {
		return b, err
	}
	return b, c.seal(b)
}

// seal makes the block device read-only and removes its partitions.
func (c *Cache) seal(b cached) (err error) {
	f, err := os.Open(b.path())
	if err != nil {
		return fmt.Errorf("seal cached device: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fd := int(f.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.BLKROSET, 1); err != nil {
		return fmt.Errorf("make %s read-only: %w", b.path(), err)
	}
	if c.readAhead >= 0 {
		kib := strconv.FormatInt(c.readAhead>>10, 10)
		if err := apply(c.sys.path("block", b.name, "queue"), []setting{{"read_ahead_kb", kib, false}}); err != nil {
			return err
		}
	}
	parts, err := filepath.Glob(c.sys.path("block", b.name, b.name+"p*", "partition"))
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := deletePartition(fd, p); err != nil {
			return fmt.Errorf("hide partition %s: %w", filepath.Base(filepath.Dir(p)), err)
		}
	}
	return nil
}

// attach joins the device to the set unless it is there already. When the set has no
// room in its table of devices and nothing else is on it, it is made anew.
func (c *Cache) attach(ctx context.Context, b cached, set Set) error {
	switch on := b.set(); on {
	case set.UUID:
		return nil
	case "":
	default:
		return fmt.Errorf("%s is on cache set %s, not %s: %w", b.name, on, set.UUID, driver.ErrExists)
	}
	err := b.write("attach", set.UUID)
	if errors.Is(err, unix.EINVAL) && b.set() == "" && !c.inUse(set) {
		if set, err = c.remake(ctx, set); err == nil {
			err = b.write("attach", set.UUID)
		}
	}
	if err != nil && b.set() == set.UUID {
		err = nil // somebody (udev) was faster
	}
	return err
}

// detach drops the device's content from its set and waits for that.
func (c *Cache) detach(ctx context.Context, b cached) error {
	if b.set() == "" {
		return nil
	}
	if err := b.write("detach", "1"); err != nil {
		return err
	}
	return poll(ctx, c.limit, b.name+" is detached", func() (bool, error) { return b.set() == "", nil })
}

// gone waits until the kernel has let go of a device that was told to stop. What was
// open was found out beforehand; whoever opened it since delays the end.
func (c *Cache) gone(ctx context.Context, b cached) error {
	err := poll(ctx, c.limit, b.name+" is gone", func() (bool, error) {
		return !exists(b.dir) && (b.name == "" || !exists(c.sys.path("block", b.name))), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w; it ends when its last user lets go", driver.ErrBusy, err)
	}
	return err
}

// image is the id of the image in the label, without dashes.
func (b cached) image() string {
	l, err := b.attr("label")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(l)
}
