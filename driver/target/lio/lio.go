// Package lio exports devices over iSCSI with the kernel's own target, LIO,
// which it drives through configfs; no program is executed.
//
// One target is these directories below /sys/kernel/config/target:
//
//	core/iblock_2014/IQN                       backstore: holds the device open, exclusively
//	iscsi/IQN/tpgt_1/lun/lun_0/backstore       link to it
//	iscsi/IQN/tpgt_1/np/IP:PORT                where it listens; targets share a listener
//	iscsi/IQN/tpgt_1/acls/INITIATOR            who gets in, with auth/userid and auth/password
//	iscsi/IQN/tpgt_1/acls/INITIATOR/lun_0/...  link to the target's lun_0, write protected if read-only
//
// Everything is made before tpgt_1/enable is set, so that nobody gets in while it is half made.
// What a crash left half made is finished by the next Ensure or taken away by Remove.
//
// A change of ACLs, secrets or portal is made in place. A secret holds from
// the next login on. A change of device, mode or serial is a removal and a new creation,
// which ends all sessions: LIO can't exchange the device beneath a LUN.
//
// See the kernel's drivers/target/target_core_fabric_configfs.c and
// drivers/target/iscsi/iscsi_target_configfs.c.
package lio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/internal/keylock"
	"github.com/vmthunder/vmthunder/driver/target/internal/spec"
)

const (
	// DefaultRoot is where LIO's configfs stands.
	DefaultRoot = "/sys/kernel/config/target"

	lunName   = "lun_0"
	storeLink = "backstore"

	pollStep = 20 * time.Millisecond
	pollTime = 10 * time.Second // for sessions and references to go
	grace    = 5 * time.Second  // for the undoing of a creation whose context ended
)

// Helper implements driver.TargetHelper with LIO.
type Helper struct {
	fs     configFS
	number func(device string) (major, minor uint32, err error)
	locks  keylock.Locks // by IQN
}

var _ driver.TargetHelper = (*Helper)(nil)

// New returns a helper that works below root, [DefaultRoot] if it is empty.
func New(root string) *Helper {
	if root == "" {
		root = DefaultRoot
	}
	return &Helper{fs: kernelFS{root}, number: blockNumber}
}

// Name is the target_helper of cinder.conf.
func (h *Helper) Name() string { return "lioadm" }

// Available returns nil if this node can export with LIO, or an error that wraps
// driver.ErrUnavailable and says what to do.
func (h *Helper) Available(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := h.fs.dirs("core"); err != nil {
		return fmt.Errorf("%w: no LIO in configfs (%w): modprobe target_core_mod; mount -t configfs configfs /sys/kernel/config",
			driver.ErrUnavailable, err)
	}
	// Making the directory loads iscsi_target_mod.
	if err := ensureDir(h.fs, "iscsi"); err != nil {
		return fmt.Errorf("%w: no iSCSI fabric (%w): modprobe iscsi_target_mod", driver.ErrUnavailable, err)
	}
	return nil
}

// available explains err as a missing module, if it can be one.
func (h *Helper) available(err error) error {
	if _, e := h.fs.dirs("core"); e != nil || gone(err) || errors.Is(err, os.ErrInvalid) {
		return fmt.Errorf("%w: %w: modprobe target_core_mod target_core_iblock iscsi_target_mod", driver.ErrUnavailable, err)
	}
	return err
}

func targetPath(iqn string) string { return path.Join("iscsi", iqn) }
func tpgPath(iqn string) string    { return path.Join("iscsi", iqn, "tpgt_1") }
func lunPath(iqn string) string    { return path.Join(tpgPath(iqn), "lun", lunName) }

// do runs fn with the target locked. LIO closes sessions only when their commands
// have come back, and a device that queues commands without a path keeps the caller of
// rmdir in the kernel for as long; do returns then, and the target stays locked
// until the kernel lets go.
func (h *Helper) do(ctx context.Context, iqn string, fn func() error) error {
	unlock, err := h.locks.Acquire(ctx, iqn)
	if err != nil {
		return fmt.Errorf("target %s: %w: an earlier change of it is not over: %w", iqn, driver.ErrBusy, err)
	}
	done := make(chan error, 1)
	go func() { defer unlock(); done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	wait := time.NewTimer(grace)
	defer wait.Stop()
	select {
	case err := <-done:
		return err
	case <-wait.C:
		return fmt.Errorf("target %s: %w: the kernel waits for commands of its device: %w", iqn, driver.ErrBusy, ctx.Err())
	}
}

// poll calls check until it says true or ctx or pollTime is over, and returns its last error.
func (h *Helper) poll(ctx context.Context, check func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	tick := time.NewTicker(pollStep)
	defer tick.Stop()
	for {
		ok, err := check()
		if ok {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Ensure implements driver.TargetHelper.
func (h *Helper) Ensure(ctx context.Context, t driver.Target) (driver.TargetState, error) {
	if err := spec.Check(t); err != nil {
		return driver.TargetState{}, err
	}
	var state driver.TargetState
	err := h.do(ctx, t.IQN, func() (err error) {
		if err = h.ensure(ctx, t); err != nil {
			return fmt.Errorf("export %s as %s: %w", t.Device, t.IQN, err)
		}
		state, err = h.state(t.IQN)
		return err
	})
	if err != nil {
		return driver.TargetState{}, err
	}
	return state, nil
}

func (h *Helper) ensure(ctx context.Context, t driver.Target) (err error) {
	if err := h.Available(ctx); err != nil {
		return err
	}
	if _, _, err := h.number(t.Device); err != nil {
		return err
	}
	stands, err := h.standsFor(t)
	if err != nil {
		return err
	}
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	if !stands {
		// Another device or mode, or a half-made one: from the ground up.
		if err := h.remove(ctx, t.IQN); err != nil {
			return err
		}
		undo.Add(func(ctx context.Context) error { return h.remove(ctx, t.IQN) })
		if err := h.createTarget(ctx, t); err != nil {
			return err
		}
	}
	if err := h.setAttributes(t); err != nil {
		return err
	}
	if err := h.syncPortals(t); err != nil {
		return err
	}
	if err := h.syncACLs(ctx, t, &undo); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return set(h.fs, path.Join(tpgPath(t.IQN), "enable"), "1")
}

// Remove implements driver.TargetHelper.
func (h *Helper) Remove(ctx context.Context, iqn string) error {
	if err := spec.IQN(iqn); err != nil {
		return err
	}
	return h.do(ctx, iqn, func() error {
		if err := h.remove(ctx, iqn); err != nil {
			return fmt.Errorf("remove target %s: %w", iqn, err)
		}
		return nil
	})
}

// List implements driver.TargetHelper. A backstore without a target is listed too.
func (h *Helper) List(ctx context.Context, prefix string) ([]driver.TargetState, error) {
	iqns, err := h.names(prefix)
	if err != nil {
		return nil, err
	}
	var states []driver.TargetState
	for _, iqn := range iqns {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := h.state(iqn)
		if errors.Is(err, driver.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	return states, nil
}

// names returns the targets and orphaned backstores whose IQN begins with prefix.
func (h *Helper) names(prefix string) ([]string, error) {
	targets, err := h.fs.dirs("iscsi")
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	stores, err := h.fs.dirs(ownHBA)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("list backstores: %w", err)
	}
	all := slices.DeleteFunc(append(targets, stores...), func(n string) bool {
		return !strings.HasPrefix(n, prefix) || spec.IQN(n) != nil
	})
	slices.Sort(all)
	return slices.Compact(all), nil
}
