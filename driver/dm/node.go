package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Times for udev, which works beside us. A node that it has not made then is made here.
const (
	udevControl = "/run/udev/control"
	udevWait    = 2 * time.Second
	udevPoll    = 5 * time.Millisecond
)

// nodes looks after /dev/mapper/NAME.
type nodes struct {
	dir  string // /dev/mapper
	udev func() bool
}

func newNodes() nodes {
	return nodes{dir: "/dev/mapper", udev: func() bool {
		_, err := os.Stat(udevControl)
		return err == nil
	}}
}

func (n nodes) path(name string) string { return filepath.Join(n.dir, name) }

// stands tells whether the node is there, as a block device or as a link to one
// (udev makes links), and is that of dev.
func (n nodes) stands(name string, dev uint64) bool {
	var st unix.Stat_t
	return unix.Stat(n.path(name), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev
}

// ensure returns when the node of dev is there. dev is a number as stat gives it.
func (n nodes) ensure(ctx context.Context, name string, dev uint64) error {
	if n.stands(name, dev) {
		return nil
	}
	if n.udev() && poll(ctx, udevWait, func() bool { return n.stands(name, dev) }) {
		return nil
	}
	// Made beside it and renamed, so that nobody sees a name without a node,
	// and a node that is left from another device is replaced.
	tmp := n.path("." + name + ".new")
	err := unix.Mknod(tmp, unix.S_IFBLK|0o660, int(dev))
	if errors.Is(err, unix.EEXIST) { // a crash left it
		if err := os.Remove(tmp); err != nil {
			return fmt.Errorf("device node of %s: %w", name, err)
		}
		err = unix.Mknod(tmp, unix.S_IFBLK|0o660, int(dev))
	}
	if err != nil {
		return fmt.Errorf("make device node %s: %w", n.path(name), err)
	}
	if err := unix.Rename(tmp, n.path(name)); err != nil {
		return fmt.Errorf("device node of %s: %w", name, errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// remove returns when the node is gone.
func (n nodes) remove(ctx context.Context, name string) error {
	path := n.path(name)
	gone := func() bool { _, err := os.Lstat(path); return errors.Is(err, os.ErrNotExist) }
	if gone() || n.udev() && poll(ctx, udevWait, gone) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("device node of %s: %w", name, err)
	}
	return nil
}

// poll looks again until ok, ctx or the time ends it.
func poll(ctx context.Context, wait time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(udevPoll)
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
