package drivertest

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// Initiator is the conformance suite of initiators.
func Initiator(t *testing.T, bed ISCSIBed) {
	t.Run("LoginTwice", func(t *testing.T) {
		it := start(t, bed, 31)
		it.ensure(it.target)
		s := it.login()
		if again := it.login(); again != s {
			t.Errorf("second login gave %+v, first %+v", again, s)
		}
		if now, ok := it.session(); !ok || now != s {
			t.Errorf("listed as %+v", now)
		}
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, s.Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("LogoutTwice", func(t *testing.T) {
		it := start(t, bed, 32)
		it.ensure(it.target)
		it.login()
		for range 2 {
			if err := bed.Initiator().Logout(it.ctx, it.target.IQN, it.target.Portal); err != nil {
				t.Fatal(err)
			}
			if s, ok := it.session(); ok {
				t.Fatalf("still there: %+v", s)
			}
		}
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, it.login().Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("WrongSecret", func(t *testing.T) {
		it := start(t, bed, 33)
		it.ensure(it.target)
		p := it.portal()
		p.Secret = "wrong-secret-1"
		if _, err := bed.Initiator().Login(it.ctx, p); !errors.Is(err, driver.ErrAuth) {
			t.Errorf("got %v, want ErrAuth", err)
		}
		if s, ok := it.session(); ok {
			t.Errorf("refused, but there is %+v", s)
		}
		it.login()
	})
	t.Run("UnknownTarget", func(t *testing.T) {
		it := start(t, bed, 34)
		it.ensure(it.target) // somebody listens
		p := it.portal()
		p.IQN += "-unknown"
		if _, err := bed.Initiator().Login(it.ctx, p); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if err := bed.Initiator().Logout(it.ctx, p.IQN, p.Address); err != nil {
			t.Errorf("logout of what isn't there: %v", err)
		}
	})
	t.Run("NobodyListens", func(t *testing.T) {
		it := start(t, bed, 35)
		p := it.portal()
		addr := netip.MustParseAddrPort(p.Address)
		p.Address = netip.AddrPortFrom(addr.Addr(), addr.Port()+1000).String()
		if _, err := bed.Initiator().Login(it.ctx, p); !errors.Is(err, driver.ErrUnreachable) {
			t.Errorf("got %v, want ErrUnreachable", err)
		}
	})
	t.Run("DeadTarget", func(t *testing.T) {
		it := start(t, bed, 36)
		it.ensure(it.target)
		it.login()
		bed.Cut(t)
		defer bed.Heal(t)
		it.lost()
		if s, ok := it.session(); !ok || s.State != driver.SessionFailed && s.State != driver.SessionFree {
			t.Errorf("session is %+v", s)
		}
		if _, err := bed.Initiator().Login(it.ctx, it.portal()); !errors.Is(err, driver.ErrUnreachable) {
			t.Errorf("login: %v, want ErrUnreachable", err)
		}
		it.logoutBounded()
	})
	t.Run("TargetDiesUnnoticed", func(t *testing.T) {
		it := start(t, bed, 37)
		it.ensure(it.target)
		it.login()
		bed.Cut(t)
		defer bed.Heal(t)
		it.logoutBounded() // before anything has noticed
	})
	t.Run("TargetComesBack", func(t *testing.T) {
		it := start(t, bed, 38)
		it.ensure(it.target)
		s := it.login()
		bed.Cut(t)
		it.lost()
		bed.Heal(t)
		it.await("recovery of the session", func() bool {
			now, ok := it.session()
			return ok && now.State == driver.SessionLoggedIn
		})
		if again := it.login(); again != s {
			t.Errorf("login gave %+v, was %+v", again, s)
		}
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, s.Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("LoginAgainAfterLoss", func(t *testing.T) {
		it := start(t, bed, 39)
		it.ensure(it.target)
		it.login()
		if err := bed.Target().Remove(it.ctx, it.target.IQN); err != nil {
			t.Fatal(err)
		}
		it.lost()
		it.target.ACLs[0].Secret = "a-new-secret-1" // the old session could not recover with it
		it.ensure(it.target)
		if s := it.login(); !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, s.Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("CanceledContext", func(t *testing.T) {
		it := start(t, bed, 40)
		it.ensure(it.target)
		ctx, cancel := context.WithCancel(it.ctx)
		cancel()
		if _, err := bed.Initiator().Login(ctx, it.portal()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if s, ok := it.session(); ok {
			t.Errorf("there is %+v", s)
		}
	})
}

func (t *iscsiTest) logoutBounded() {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, logoutBound)
	defer cancel()
	if err := t.bed.Initiator().Logout(ctx, t.target.IQN, t.target.Portal); err != nil {
		t.Fatal(err)
	}
	if s, ok := t.session(); ok {
		t.Errorf("still there: %+v", s)
	}
}
