package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// Target is a target helper in memory. Its state is the fabric's and its node's: another
// Target of the same node finds everything again.
type Target struct {
	// Fail, if set, is asked before each operation (ensure, remove, list) on an IQN.
	Fail func(op, iqn string) error
	// Exists, if set, says whether a device is there.
	Exists func(device string) bool

	fabric *Fabric
	node   string
	name   string
}

var _ driver.TargetHelper = (*Target)(nil)

// NewTarget returns the target helper of a node on the fabric, called name (lioadm or tgtadm).
func NewTarget(f *Fabric, node, name string) *Target {
	return &Target{fabric: f, node: node, name: name}
}

// Name implements driver.TargetHelper.
func (t *Target) Name() string { return t.name }

// Exports says whether a device of the node is held open by a target.
func (t *Target) Exports(device string) bool {
	t.fabric.mu.Lock()
	defer t.fabric.mu.Unlock()
	for _, o := range t.fabric.targets {
		if o.helper.node == t.node && o.Device == device {
			return true
		}
	}
	return false
}

func (t *Target) begin(ctx context.Context, op, iqn string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.Fail != nil {
		if err := t.Fail(op, iqn); err != nil {
			return fmt.Errorf("%s target %s: %w", op, iqn, err)
		}
	}
	return nil
}

// Ensure implements driver.TargetHelper.
func (t *Target) Ensure(ctx context.Context, want driver.Target) (driver.TargetState, error) {
	if err := t.begin(ctx, "ensure", want.IQN); err != nil {
		return driver.TargetState{}, err
	}
	if t.Exists != nil && !t.Exists(want.Device) {
		return driver.TargetState{}, fmt.Errorf("export %s: %w", want.Device, driver.ErrNotFound)
	}
	f := t.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.targets {
		if o.helper.node != t.node && o.IQN == want.IQN {
			return driver.TargetState{}, fmt.Errorf("target %s is on another node: %w", want.IQN, driver.ErrExists)
		}
		if o.helper.node == t.node && o.IQN != want.IQN && o.Device == want.Device {
			return driver.TargetState{}, fmt.Errorf("device %s is exported as %s: %w", want.Device, o.IQN, driver.ErrBusy)
		}
	}
	want.ACLs = slices.Clone(want.ACLs)
	f.targets[want.IQN] = &fabricTarget{Target: want, helper: t}
	f.settle()
	return f.state(want.IQN), nil
}

// Remove implements driver.TargetHelper.
func (t *Target) Remove(ctx context.Context, iqn string) error {
	if err := t.begin(ctx, "remove", iqn); err != nil {
		return err
	}
	f := t.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.targets[iqn]; o != nil && o.helper.node == t.node {
		delete(f.targets, iqn)
		f.settle()
	}
	return nil
}

// List implements driver.TargetHelper.
func (t *Target) List(ctx context.Context, prefix string) ([]driver.TargetState, error) {
	if err := t.begin(ctx, "list", prefix); err != nil {
		return nil, err
	}
	f := t.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []driver.TargetState
	for iqn, o := range f.targets {
		if o.helper.node == t.node && strings.HasPrefix(iqn, prefix) {
			all = append(all, f.state(iqn))
		}
	}
	slices.SortFunc(all, func(a, b driver.TargetState) int { return strings.Compare(a.IQN, b.IQN) })
	return all, nil
}

// state describes a target that stands.
func (f *Fabric) state(iqn string) driver.TargetState {
	t := f.targets[iqn]
	s := driver.TargetState{IQN: iqn, Device: t.Device, ReadOnly: t.ReadOnly}
	if t.helper.name == "tgtadm" {
		s.LUN = 1
	}
	for _, a := range t.ACLs {
		s.ACLs = append(s.ACLs, a.Initiator)
	}
	for _, o := range f.sessions {
		if o.IQN == iqn && o.State == driver.SessionLoggedIn {
			s.Sessions = append(s.Sessions, o.initiator)
		}
	}
	slices.Sort(s.ACLs)
	slices.Sort(s.Sessions)
	return s
}
