package initiator

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vmthunder/vmthunder/driver"
)

// Logout implements driver.Initiator. A disk on which something still stands (a
// device-mapper table) is ErrBusy and is left alone. On a dead session it takes at most
// the ping interval and timeout and the replacement timeout, and what iscsid takes.
func (i *Initiator) Logout(ctx context.Context, iqn, address string) error {
	addr, err := check(driver.Portal{Address: address, IQN: iqn})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, i.opt.LogoutTimeout)
	defer cancel()
	unlock, err := i.locks.Acquire(ctx, iqn)
	if err != nil {
		return fmt.Errorf("log out of %s: %w: an earlier change of it is not over: %w", iqn, driver.ErrBusy, err)
	}
	defer unlock()
	if err := i.logout(ctx, iqn, addr); err != nil {
		return fmt.Errorf("log out of %s at %s: %w", iqn, address, err)
	}
	return nil
}

func (i *Initiator) logout(ctx context.Context, iqn string, addr netip.AddrPort) error {
	all, err := i.matching(iqn, addr)
	if err != nil {
		return err
	}
	for _, s := range all {
		for _, disk := range s.disks {
			if h := i.holders(disk); len(h) > 0 {
				return fmt.Errorf("%w: %v stands on disk %s", driver.ErrBusy, h, disk)
			}
		}
	}
	for _, s := range all {
		for _, disk := range s.disks {
			if err := i.deleteDisk(ctx, disk); err != nil {
				return err
			}
		}
		if err := i.endSession(ctx, s); err != nil {
			return err
		}
	}
	return i.removeRecord(iqn, addr)
}

// endSession has iscsid end a session, by its id, and waits until it and its disks are gone.
// iscsid refuses while it is just connecting, so it is asked again.
func (i *Initiator) endSession(ctx context.Context, s session) error {
	err := poll(ctx, func() (bool, error) {
		if i.sessionGone(s) {
			return true, nil
		}
		err := i.iscsiadm(ctx, "-m", "session", "-r", strconv.Itoa(s.ID), "--logout")
		switch exitCode(err) {
		case codeSessionNotFound, codeNothingFound:
			return true, nil
		case codeInternal, codeNotConnected, codeAgain:
			return false, fmt.Errorf("%w: %w", driver.ErrBusy, err)
		}
		if err != nil {
			err = explain(err)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		if !i.sessionGone(s) {
			return false, fmt.Errorf("session %d stays: %w", s.ID, driver.ErrBusy)
		}
		for _, disk := range s.disks {
			// The name may have gone to another session's disk meanwhile.
			if _, err := os.Stat(filepath.Join(i.opt.Sys, "block", disk)); err == nil && i.ownedBy(disk, s) {
				return false, fmt.Errorf("disk %s stays: %w", disk, driver.ErrBusy)
			}
		}
		return true, nil
	})
}

func (i *Initiator) sessionGone(s session) bool {
	_, err := os.Stat(filepath.Join(i.opt.Sys, "class/iscsi_session", fmt.Sprintf("session%d", s.ID)))
	return os.IsNotExist(err)
}

// ownedBy says whether a disk hangs below the session's SCSI host.
func (i *Initiator) ownedBy(disk string, s session) bool {
	real, err := filepath.EvalSymlinks(filepath.Join(i.opt.Sys, "block", disk))
	if err != nil {
		return false
	}
	for dir := real; len(dir) > 1; dir = filepath.Dir(dir) {
		if filepath.Base(dir) == fmt.Sprintf("session%d", s.ID) {
			return true
		}
	}
	return false
}
