package initiator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// diskTime is how long a logged in session may take to show its disk.
const diskTime = 20 * time.Second

// finish waits until the session's disk can be used, and tunes it.
func (i *Initiator) finish(ctx context.Context, s driver.Session, addr netip.AddrPort) (driver.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, diskTime)
	defer cancel()
	rescanned := false
	err := poll(ctx, func() (bool, error) {
		all, err := i.matching(s.IQN, addr)
		if err != nil {
			return true, err
		}
		if len(all) == 0 || all[0].State != driver.SessionLoggedIn {
			return true, fmt.Errorf("%w: session was lost before its disk came", driver.ErrUnreachable)
		}
		s = all[0].Session
		if len(all[0].disks) == 0 {
			// iscsid scans after a login. A session whose disk was deleted by an
			// interrupted Logout has to be scanned again.
			if !rescanned && s.State == driver.SessionLoggedIn && attribute(i.opt.Sys, "class/iscsi_session", fmt.Sprintf("session%d", s.ID), "target_state") == "SCANNED" {
				rescanned = true
				_ = os.WriteFile(filepath.Join(i.opt.Sys, "class/scsi_host", all[0].host, "scan"), []byte("- - -"), 0)
			}
			return false, errors.New("session has no disk")
		}
		if size, err := strconv.ParseUint(attribute(i.opt.Sys, "block", all[0].disks[0], "size"), 10, 64); err != nil || size == 0 {
			return false, fmt.Errorf("size of disk %s is not known", all[0].disks[0])
		}
		if _, err := os.Stat(s.Device); err != nil {
			return false, err
		}
		return true, nil
	})
	if err != nil {
		return s, err
	}
	return s, i.tune(filepath.Base(s.Device))
}

// tune sets the disk up as a path to a remote one. There is nothing to gain from a local
// elevator; a kernel built without the choice keeps what it has.
func (i *Initiator) tune(disk string) error {
	dir := filepath.Join(i.opt.Sys, "block", disk)
	if strings.Contains(attribute(dir, "queue/scheduler"), "none") {
		if err := write(filepath.Join(dir, "queue/scheduler"), "none"); err != nil {
			return fmt.Errorf("tune disk %s: %w", disk, err)
		}
	}
	timeout := filepath.Join(dir, "device/timeout")
	if want := seconds(i.opt.CommandTimeout); attribute(timeout) != want {
		if err := write(timeout, want); err != nil {
			return fmt.Errorf("tune disk %s: %w", disk, err)
		}
	}
	return nil
}

// write writes to a file of /sys, which must be there.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// holders returns what stands on a disk: device-mapper, bcache and the like.
func (i *Initiator) holders(disk string) []string {
	entries, _ := os.ReadDir(filepath.Join(i.opt.Sys, "block", disk, "holders"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// deleteDisk takes a disk out of the kernel. Requests under way are waited for; on a lost
// session they fail when its replacement timeout is over. The wait is inside of
// the kernel, so it is done aside, and ctx ends it for the caller.
func (i *Initiator) deleteDisk(ctx context.Context, disk string) error {
	done := make(chan error, 1)
	go func() {
		err := write(filepath.Join(i.opt.Sys, "block", disk, "device/delete"), "1")
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("delete disk %s: %w", disk, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("delete disk %s: %w: %w", disk, driver.ErrBusy, ctx.Err())
	}
}
