// Package tgt exports devices over iSCSI with tgtd, the target in user space. It
// speaks the protocol of tgtd's management socket itself instead of executing
// tgtadm, which would show secrets in its arguments.
//
// The IQN is a target's key; its number is any free one. LUN 0 is tgtd's own
// controller, the disk is LUN 1. Devices are opened with O_DIRECT, so that tgtd's
// page cache never stands between two hosts.
//
// tgtd's CHAP accounts belong to the daemon and are bound to targets, not to initiators:
// a user name can stand for one secret only on a node, and of two initiators of one
// target each could use the other's secret, though not without being let in by name as
// well. Every target has one more account, whose secret nobody knows: a target without
// accounts would let initiators in without CHAP.
//
// tgtd doesn't show secrets. A Helper remembers what it set and sets it anew after it
// was restarted itself; sessions don't notice.
//
// A changed device, mode or serial is a removal and a new creation, which ends all sessions.
package tgt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/internal/keylock"
	"github.com/vmthunder/vmthunder/driver/target/internal/spec"
)

const (
	diskLUN = 1
	ioFlags = "direct"

	pollStep = 20 * time.Millisecond
	pollTime = 10 * time.Second // for sessions and commands to end
)

// Helper implements driver.TargetHelper with tgtd.
type Helper struct {
	socket string
	locks  keylock.Locks // by IQN

	mu      sync.Mutex
	secrets map[string][32]byte // digest of what was set, by IQN and user
}

var _ driver.TargetHelper = (*Helper)(nil)

// New returns a helper that talks to tgtd's management socket, [DefaultSocket] if empty.
func New(socket string) *Helper {
	if socket == "" {
		socket = DefaultSocket
	}
	return &Helper{socket: socket, secrets: make(map[string][32]byte)}
}

// Name is the target_helper of cinder.conf.
func (h *Helper) Name() string { return "tgtadm" }

// Available returns nil if tgtd answers, or an error that wraps driver.ErrUnavailable
// and says what to do.
func (h *Helper) Available(ctx context.Context) error {
	_, err := h.call(ctx, request{Mode: modePortal, Op: opShow, TID: allTargets}, "")
	return err
}

func (h *Helper) do(ctx context.Context, iqn string, fn func() error) error {
	unlock, err := h.locks.Acquire(ctx, iqn)
	if err != nil {
		return fmt.Errorf("target %s: %w: an earlier change of it is not over: %w", iqn, driver.ErrBusy, err)
	}
	defer unlock()
	return fn()
}

// Ensure implements driver.TargetHelper.
func (h *Helper) Ensure(ctx context.Context, t driver.Target) (driver.TargetState, error) {
	if err := spec.Check(t); err != nil {
		return driver.TargetState{}, err
	}
	var state driver.TargetState
	err := h.do(ctx, t.IQN, func() error {
		if err := h.ensure(ctx, t); err != nil {
			return fmt.Errorf("export %s as %s: %w", t.Device, t.IQN, err)
		}
		now, err := h.find(ctx, t.IQN)
		state = now.state()
		return err
	})
	if err != nil {
		return driver.TargetState{}, err
	}
	return state, nil
}

func (h *Helper) ensure(ctx context.Context, t driver.Target) (err error) {
	if _, err := os.Stat(t.Device); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("device %s: %w", t.Device, driver.ErrNotFound)
	}
	if err := h.ensurePortal(ctx, t.Portal); err != nil {
		return err
	}
	now, err := h.find(ctx, t.IQN)
	if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	if err != nil || !matches(now, t) {
		if err == nil {
			if err := h.remove(ctx, t.IQN); err != nil {
				return err
			}
		}
		undo.Add(func(ctx context.Context) error { return h.remove(ctx, t.IQN) })
		if now, err = h.create(ctx, t); err != nil {
			return err
		}
	}
	// Who leaves goes before the accounts change, who comes is let in after.
	if err := h.shutOut(ctx, now, t); err != nil {
		return err
	}
	if err := h.syncAccounts(ctx, now, t, &undo); err != nil {
		return err
	}
	return h.letIn(ctx, now, t, &undo)
}

// matches says whether the lasting parts of a target stand as t wants them.
func matches(now target, t driver.Target) bool {
	d, ok := now.disk()
	return ok && len(now.accounts) > 0 && now.accounts[0] == guard(t.IQN) && d.online && d.path == t.Device && d.readOnly == t.ReadOnly &&
		d.flags == ioFlags && (t.Serial == "" || d.serial == t.Serial)
}

// create makes the target with its disk and its guard. Nobody can log in: no initiator is let in.
func (h *Helper) create(ctx context.Context, t driver.Target) (target, error) {
	tid, err := h.newTarget(ctx, t.IQN)
	if err != nil {
		return target{}, fmt.Errorf("make target: %w", err)
	}
	r := request{Mode: modeDevice, Op: opNew, TID: tid, LUN: diskLUN}
	if _, err := h.call(ctx, r, "path="+t.Device+",bsoflags="+ioFlags+",blocksize="+blockSize(t.Device)); err != nil {
		if errors.Is(err, codeInvalid) {
			err = fmt.Errorf("tgtd can't open it: %w", err)
		}
		return target{}, fmt.Errorf("make disk on %s: %w", t.Device, err)
	}
	params := "readonly=0"
	if t.ReadOnly {
		params = "readonly=1"
	}
	if t.Serial != "" {
		params += ",scsi_sn=" + t.Serial + ",scsi_id=" + t.Serial
	}
	r.Op = opUpdate
	if _, err := h.call(ctx, r, params); err != nil {
		return target{}, fmt.Errorf("set mode of disk: %w", err)
	}
	if err := h.bindGuard(ctx, tid, t.IQN); err != nil {
		return target{}, err
	}
	return h.find(ctx, t.IQN)
}

// blockSize is the logical block size of a device: O_DIRECT takes no smaller requests.
func blockSize(device string) string {
	var st unix.Stat_t
	if unix.Stat(device, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		dir := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		for _, queue := range []string{"queue", "../queue"} { // of the disk, where it is a partition
			if b, err := os.ReadFile(dir + queue + "/logical_block_size"); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	return "512"
}

// newTarget makes an empty target under a free number.
func (h *Helper) newTarget(ctx context.Context, iqn string) (int32, error) {
	for {
		all, err := h.targets(ctx)
		if err != nil {
			return 0, err
		}
		used := make(map[int32]bool, len(all))
		for _, t := range all {
			if t.iqn == iqn {
				return 0, driver.ErrExists
			}
			used[t.tid] = true
		}
		tid := int32(1)
		for used[tid] {
			tid++
		}
		_, err = h.call(ctx, request{Mode: modeTarget, Op: opNew, TID: tid}, "targetname="+iqn)
		if !errors.Is(err, codeTargetExists) {
			return tid, err
		}
		if err := ctx.Err(); err != nil { // somebody else was faster; look again
			return 0, err
		}
	}
}

// ensurePortal makes tgtd listen on address; portals belong to the daemon, not to a target,
// and stay when the target goes.
func (h *Helper) ensurePortal(ctx context.Context, address string) error {
	want, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("portal: %w", err)
	}
	check := func() (bool, error) {
		text, err := h.call(ctx, request{Mode: modePortal, Op: opShow, TID: allTargets}, "")
		return listens(parsePortals(text), want), err
	}
	ok, err := check()
	if err != nil {
		return fmt.Errorf("list portals: %w", err)
	}
	if ok {
		return nil
	}
	_, err = h.call(ctx, request{Mode: modePortal, Op: opNew, TID: allTargets}, "portal="+want.String())
	if err == nil {
		return nil
	}
	if ok, e := check(); ok && e == nil { // another call for the same address was faster
		return nil
	}
	return fmt.Errorf("listen on %s (does another program listen there?): %w", address, err)
}

// Remove implements driver.TargetHelper.
func (h *Helper) Remove(ctx context.Context, iqn string) error {
	if err := spec.IQN(iqn); err != nil {
		return err
	}
	return h.do(ctx, iqn, func() error {
		err := h.remove(ctx, iqn)
		if err != nil && (ctx.Err() != nil || timedOut(err)) && !errors.Is(err, driver.ErrBusy) {
			// The time was over in the middle of a question to tgtd, not between two: the
			// target has not let go all the same.
			err = fmt.Errorf("%w: %w", driver.ErrBusy, err)
		}
		if err != nil {
			return fmt.Errorf("remove target %s: %w", iqn, err)
		}
		return nil
	})
}

// remove ends sessions, then takes accounts, disk and target away, from whatever state.
func (h *Helper) remove(ctx context.Context, iqn string) error {
	now, err := h.find(ctx, iqn)
	if errors.Is(err, driver.ErrNotFound) {
		return h.dropAccount(ctx, iqn, guard(iqn))
	}
	if err != nil {
		return err
	}
	for _, a := range now.acls {
		if err := h.unbindACL(ctx, now.tid, a); err != nil {
			return err
		}
	}
	// tgtd exits if it destroys a target while a session is closing, so none may be left.
	if err := h.endSessions(ctx, now, func(string) bool { return true }); err != nil {
		return err
	}
	if err := h.takeAccounts(ctx, iqn, func(string) bool { return true }); err != nil {
		return err
	}
	if err := h.dropAccount(ctx, iqn, guard(iqn)); err != nil { // made and not bound
		return err
	}
	return h.poll(ctx, func() (bool, error) {
		_, err := h.call(ctx, request{Mode: modeTarget, Op: opDelete, TID: now.tid}, "")
		if errors.Is(err, codeNoTarget) {
			return true, nil
		}
		return !errors.Is(err, driver.ErrBusy), err
	})
}

// List implements driver.TargetHelper.
func (h *Helper) List(ctx context.Context, prefix string) ([]driver.TargetState, error) {
	all, err := h.targets(ctx)
	if err != nil {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	var states []driver.TargetState
	for _, t := range all {
		if strings.HasPrefix(t.iqn, prefix) {
			states = append(states, t.state())
		}
	}
	slices.SortFunc(states, func(a, b driver.TargetState) int { return strings.Compare(a.IQN, b.IQN) })
	return states, nil
}

func (h *Helper) targets(ctx context.Context) ([]target, error) {
	text, err := h.call(ctx, request{Mode: modeTarget, Op: opShow, TID: allTargets}, "")
	if err != nil {
		return nil, err
	}
	return parseTargets(text), nil
}

func (h *Helper) find(ctx context.Context, iqn string) (target, error) {
	all, err := h.targets(ctx)
	if err != nil {
		return target{}, err
	}
	for _, t := range all {
		if t.iqn == iqn {
			return t, nil
		}
	}
	return target{}, fmt.Errorf("target %s: %w", iqn, driver.ErrNotFound)
}

func (t target) state() driver.TargetState {
	s := driver.TargetState{IQN: t.iqn, LUN: diskLUN}
	if d, ok := t.disk(); ok {
		s.Device, s.ReadOnly = d.path, d.readOnly
	}
	s.ACLs = append(s.ACLs, t.acls...)
	slices.Sort(s.ACLs)
	s.Sessions = append(s.Sessions, t.nexus...)
	slices.Sort(s.Sessions)
	s.Sessions = slices.Compact(s.Sessions)
	return s
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
