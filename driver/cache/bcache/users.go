package bcache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
)

// claim makes sure that nobody has the device open and claims it, until the file is closed.
//
// bcache accepts "stop" while the device is open and then waits for its last user, with
// the device neither there nor gone. It counts its openers but does not tell, so they
// are looked for: who claims it (device-mapper, a mount, a target), loop devices on it,
// which claim nothing, and file descriptors of processes (those that the agent's PID
// namespace shows; on a host, all).
//
// A nil file says that the device is going away already.
func (c *Cache) claim(b cached) (*os.File, error) {
	if b.name == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	f, err := block.Exclusive(b.path())
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err == nil {
		if user := c.user(b, f); user != "" {
			err = errors.Join(fmt.Errorf("%s: %w by %s", b.path(), driver.ErrBusy, user), f.Close())
			f = nil
		}
		return f, err
	}
	if user := c.user(b, nil); user != "" {
		err = fmt.Errorf("%w by %s", err, user)
	}
	return nil, err
}

// user names somebody who has the device open, except by the file own; "" for nobody.
func (c *Cache) user(b cached, own *os.File) string {
	if holders, err := os.ReadDir(c.sys.path("block", b.name, "holders")); err == nil && len(holders) > 0 {
		return holders[0].Name()
	}
	loops, _ := filepath.Glob(c.sys.path("block", "loop*", "loop", "backing_file"))
	for _, l := range loops {
		if backing, err := readAttr(l); err == nil && backing == b.path() {
			return filepath.Base(filepath.Dir(filepath.Dir(l)))
		}
	}
	self := ""
	if own != nil {
		self = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), own.Fd())
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || fd == self || (to != b.path() && !strings.HasPrefix(to, b.path()+"p")) {
			continue
		}
		return "process " + filepath.Base(filepath.Dir(filepath.Dir(fd)))
	}
	return ""
}
