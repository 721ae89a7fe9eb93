package bcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
	"github.com/vmthunder/vmthunder/driver/command"
)

// Set is the node's cache set.
type Set struct {
	UUID   string
	Device string // the block device that it is on
	// Made says that it was made by this call, and is empty.
	Made bool
}

// Available tells whether bcache can be had, loading its module if need be. It does not touch
// the cache device. The error wraps driver.ErrUnavailable and says what is missing.
func (c *Cache) Available(ctx context.Context) error {
	if c.device == "" {
		return fmt.Errorf("bcache: no cache device is configured: %w", driver.ErrUnavailable)
	}
	register := c.sys.path("fs", "bcache", "register")
	if exists(register) {
		return nil
	}
	_, err := c.runner.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"bcache"}})
	if err == nil && exists(register) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("no %s", register)
	}
	return fmt.Errorf("bcache: the kernel module bcache can't be loaded: %w: %w", driver.ErrUnavailable, err)
}

// Open makes the cache set stand: one that is registered already or found on the device
// is taken, a blank device is formatted. A device that holds anything else, a cache set that
// is not VMThunder's too, is driver.ErrForeign and left alone; one that is missing is
// driver.ErrUnavailable.
//
// A set of ours that the kernel refuses is made anew: nothing in it is worth more than a
// read from the upstream.
func (c *Cache) Open(ctx context.Context) (set Set, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Available(ctx); err != nil {
		return Set{}, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open cache set on %s: %w", c.device, err)
		}
	}()
	dev, err := c.block(ctx)
	if err != nil {
		return Set{}, err
	}
	set = Set{Device: dev}
	dir, err := c.setDevice(dev)
	if err != nil {
		return Set{}, err
	}
	if exists(dir) {
		set.UUID = linkBase(filepath.Join(dir, "set"))
		if set.UUID == "" {
			return Set{}, fmt.Errorf("%s is a backing device of bcache: %w", dev, driver.ErrForeign)
		}
	}
	sb, err := readSuperblock(dev)
	switch {
	case err == nil && sb.Backing():
		return Set{}, fmt.Errorf("%s is a backing device of bcache: %w", dev, driver.ErrForeign)
	case err == nil && sb.Label != SetLabel:
		return Set{}, fmt.Errorf("%s holds cache set %s, which is not VMThunder's (its label is %q): %w", dev, sb.Set, sb.Label, driver.ErrForeign)
	case err == nil && set.UUID != "":
		return set, c.tuneSet(set)
	case err == nil:
		if set.UUID, err = c.registerSet(ctx, dev); err == nil {
			return set, c.tuneSet(set)
		}
		if errors.Is(err, driver.ErrBusy) || ctx.Err() != nil {
			return Set{}, err
		}
		return c.makeSet(ctx, dev)
	case errors.Is(err, ErrBadSuperblock):
		return Set{}, fmt.Errorf("%s: %w: %w", dev, driver.ErrForeign, err)
	case !errors.Is(err, ErrNoSuperblock):
		return Set{}, err
	}
	blank, err := block.Blank(dev)
	if err != nil {
		return Set{}, err
	}
	if !blank {
		return Set{}, fmt.Errorf("%s is not blank and holds no cache set: %w; wipe it to have it used", dev, driver.ErrForeign)
	}
	return c.makeSet(ctx, dev)
}

// block is the block device of the configured device or file.
func (c *Cache) block(ctx context.Context) (string, error) {
	st, err := os.Stat(c.device)
	if err != nil {
		return "", fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	if !st.Mode().IsRegular() {
		return c.device, nil
	}
	if c.loop == nil {
		return "", fmt.Errorf("a file, and no loop devices here: %w", driver.ErrUnavailable)
	}
	l, err := c.loop.Attach(ctx, c.device, driver.LoopOptions{DirectIO: true})
	return l.Path, err
}

// setDevice is the directory that a registered cache device has.
func (c *Cache) setDevice(dev string) (string, error) {
	major, minor, err := block.Number(dev)
	if err != nil {
		return "", err
	}
	return filepath.Join(c.sys.device(major, minor), "bcache"), nil
}

func readSuperblock(dev string) (Superblock, error) {
	b, err := block.Read(dev, SuperblockOffset, SuperblockSize)
	if err != nil {
		return Superblock{}, err
	}
	return DecodeSuperblock(b)
}

// makeSet formats the device and registers it. The caller has made sure that nothing on
// it is of worth, and holds the lock.
func (c *Cache) makeSet(ctx context.Context, dev string) (Set, error) {
	// A set that the kernel has just refused or stopped keeps its claim a moment longer.
	err := poll(ctx, c.limit, dev+" is free", func() (bool, error) {
		f, err := block.Exclusive(dev)
		if errors.Is(err, driver.ErrBusy) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, f.Close()
	})
	if err != nil {
		return Set{}, err
	}
	size, err := block.Bytes(dev)
	if err != nil {
		return Set{}, err
	}
	sb, err := newCache(size, uuid.New(), uuid.New())
	if err != nil {
		return Set{}, err
	}
	if err := block.Write(dev, SuperblockOffset, sb.Encode()); err != nil {
		return Set{}, err
	}
	set := Set{Device: dev, Made: true}
	if set.UUID, err = c.registerSet(ctx, dev); err != nil {
		return Set{}, err
	}
	return set, c.tuneSet(set)
}

// registerSet hands the device to bcache and returns the UUID of its set.
func (c *Cache) registerSet(ctx context.Context, dev string) (string, error) {
	dir, err := c.setDevice(dev)
	if err != nil {
		return "", err
	}
	if err := c.register(dev); err != nil {
		return "", err
	}
	id := ""
	err = poll(ctx, c.limit, dev+" is a cache set", func() (bool, error) {
		id = linkBase(filepath.Join(dir, "set"))
		return id != "", nil
	})
	return id, err
}

// register hands a device with a superblock to bcache. One that udev has registered
// already is success.
func (c *Cache) register(dev string) error {
	err := writeAttr(c.sys.path("fs", "bcache", "register_quiet"), dev)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: %w", driver.ErrBusy, err)
	}
	if err != nil {
		return fmt.Errorf("register %s with bcache: %w; the kernel's log says why", dev, err)
	}
	return nil
}

func (c *Cache) setDir(set Set) string { return c.sys.path("fs", "bcache", set.UUID) }

func (c *Cache) tuneSet(set Set) error { return apply(c.setDir(set), setSettings[:]) }

// inUse tells whether devices are attached to the set.
func (c *Cache) inUse(set Set) bool {
	on, err := filepath.Glob(filepath.Join(c.setDir(set), "bdev*"))
	return err != nil || len(on) > 0
}

// stopSet takes the set down and waits until the kernel has let go of its device.
func (c *Cache) stopSet(ctx context.Context, set Set) error {
	dir, err := c.setDevice(set.Device)
	if err != nil {
		return err
	}
	if err := writeAttr(filepath.Join(c.setDir(set), "stop"), "1"); err != nil {
		return fmt.Errorf("stop cache set %s: %w", set.UUID, err)
	}
	return poll(ctx, c.limit, "cache set "+set.UUID+" is gone", func() (bool, error) {
		return !exists(c.setDir(set)) && !exists(dir), nil
	})
}

// remake replaces a set that nothing is attached to by an empty one on the same device.
func (c *Cache) remake(ctx context.Context, set Set) (Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inUse(set) {
		return Set{}, fmt.Errorf("make cache set %s anew: %w", set.UUID, driver.ErrBusy)
	}
	if err := c.stopSet(ctx, set); err != nil {
		return Set{}, err
	}
	return c.makeSet(ctx, set.Device)
}

// Close takes the cache set down and keeps its content. driver.ErrBusy while an image is
// attached; no set is success.
func (c *Cache) Close(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	dev := c.device
	st, err := os.Stat(dev)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("close cache set: %w", err)
	}
	file := st.Mode().IsRegular()
	if file {
		if c.loop == nil {
			return nil
		}
		l, err := c.loop.Find(ctx, dev)
		if errors.Is(err, driver.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("close cache set: %w", err)
		}
		dev = l.Path
	}
	dir, err := c.setDevice(dev)
	if err != nil {
		return fmt.Errorf("close cache set: %w", err)
	}
	if id := linkBase(filepath.Join(dir, "set")); id != "" {
		set := Set{UUID: id, Device: dev}
		if c.inUse(set) {
			return fmt.Errorf("close cache set %s: %w", id, driver.ErrBusy)
		}
		if err := c.stopSet(ctx, set); err != nil {
			return err
		}
	}
	if file {
		return c.loop.Detach(ctx, dev)
	}
	return nil
}
