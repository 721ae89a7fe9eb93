package fake

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// Initiator is an initiator in memory. Its sessions are the fabric's: another Initiator
// of the same name finds them again.
type Initiator struct {
	// Fail, if set, is asked before each operation (login, logout, sessions) on an IQN.
	Fail func(op, iqn string) error
	// Held, if set, says whether something stands on a disk.
	Held func(disk string) bool

	fabric *Fabric
	iqn    string
}

var _ driver.Initiator = (*Initiator)(nil)

// NewInitiator returns the initiator called iqn on the fabric.
func NewInitiator(f *Fabric, iqn string) *Initiator { return &Initiator{fabric: f, iqn: iqn} }

func (i *Initiator) begin(ctx context.Context, op, iqn string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if i.Fail != nil {
		if err := i.Fail(op, iqn); err != nil {
			return fmt.Errorf("%s %s: %w", op, iqn, err)
		}
	}
	return nil
}

// Name implements driver.Initiator.
func (i *Initiator) Name(ctx context.Context) (string, error) { return i.iqn, ctx.Err() }

// Login implements driver.Initiator.
func (i *Initiator) Login(ctx context.Context, p driver.Portal) (driver.Session, error) {
	if err := i.begin(ctx, "login", p.IQN); err != nil {
		return driver.Session{}, err
	}
	s, err := i.fabric.login(i.iqn, p)
	if err != nil {
		return driver.Session{}, fmt.Errorf("log in to %s at %s: %w", p.IQN, p.Address, err)
	}
	return s, nil
}

// Logout implements driver.Initiator.
func (i *Initiator) Logout(ctx context.Context, iqn, address string) error {
	if err := i.begin(ctx, "logout", iqn); err != nil {
		return err
	}
	f := i.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.initiator == i.iqn && s.IQN == iqn && s.Address == address && i.Held != nil && i.Held(s.Device) {
			return fmt.Errorf("log out of %s: disk %s: %w", iqn, s.Device, driver.ErrBusy)
		}
	}
	f.drop(i.iqn, iqn, address)
	return nil
}

// Sessions implements driver.Initiator.
func (i *Initiator) Sessions(ctx context.Context, prefix string) ([]driver.Session, error) {
	if err := i.begin(ctx, "sessions", prefix); err != nil {
		return nil, err
	}
	f := i.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []driver.Session
	for _, s := range f.sessions {
		if s.initiator == i.iqn && strings.HasPrefix(s.IQN, prefix) {
			all = append(all, s.Session)
		}
	}
	return all, nil
}
