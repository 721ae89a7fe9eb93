package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmthunder/vmthunder/driver"
)

// ISCSIBed is one node that exports to itself: the ground for the suites of targets and
// initiators.
type ISCSIBed interface {
	// Target and Initiator return drivers; each call may return a new one, as after a
	// restart of the agent.
	Target() driver.TargetHelper
	Initiator() driver.Initiator
	// Portal is where the target listens and the initiator reaches it.
	Portal() string
	// Device makes a small device with content of its own.
	Device(t *testing.T) string
	// RemoveDevice fails the test if the device is still held.
	RemoveDevice(t *testing.T, path string)
	// Content of a device, or of a session's disk, past any page cache.
	Content(t *testing.T, path string) []byte
	// Write writes a few bytes to a session's disk.
	Write(t *testing.T, path string) error
	// Cut makes the portal unreachable, as a power cut would; Heal takes it back.
	Cut(t *testing.T)
	Heal(t *testing.T)
}

// iscsiTime bounds one step of a suite; on a slow machine only.
const iscsiTime = 60 * time.Second

// logoutBound is what a logout may take at most when the target is dead.
const logoutBound = 15 * time.Second

const otherInitiator = "iqn.2026-11.org.test:somebody-else"

// iscsiTest is one subtest with a target of its own.
type iscsiTest struct {
	*testing.T
	bed    ISCSIBed
	ctx    context.Context //nolint:containedctx // of one test
	target driver.Target
}

// start makes a device and describes a target that lets the bed's initiator in.
func start(t *testing.T, bed ISCSIBed, id int) *iscsiTest {
	ctx, cancel := context.WithTimeout(t.Context(), 2*iscsiTime)
	t.Cleanup(cancel)
	return startIn(ctx, t, bed, id)
}

func startIn(ctx context.Context, t *testing.T, bed ISCSIBed, id int) *iscsiTest {
	t.Helper()
	name, err := bed.Initiator().Name(ctx)
	if err != nil || name == "" {
		t.Fatalf("initiator's name: %q, %v", name, err)
	}
	image := fmt.Sprintf("6c1d6d41-8c2b-4bb1-8b53-6d9f3a6a%04d", id)
	it := &iscsiTest{T: t, bed: bed, ctx: ctx}
	it.target = driver.Target{
		IQN: driver.ImageIQN("Node_1", image), Device: bed.Device(t), Portal: bed.Portal(), ReadOnly: true, Serial: image,
		ACLs: []driver.ACL{{Initiator: name, Credential: driver.Credential{User: "user-" + image, Secret: "secret-" + image[len(image)-6:]}}},
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), iscsiTime)
		defer cancel()
		if err := bed.Initiator().Logout(ctx, it.target.IQN, it.target.Portal); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if err := bed.Target().Remove(ctx, it.target.IQN); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return it
}

// portal is where the bed's initiator logs in.
func (t *iscsiTest) portal() driver.Portal {
	return driver.Portal{Address: t.target.Portal, IQN: t.target.IQN, Credential: t.target.ACLs[0].Credential}
}

func (t *iscsiTest) ensure(want driver.Target) driver.TargetState {
	t.Helper()
	s, err := t.bed.Target().Ensure(t.ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	if s.IQN != want.IQN || s.Device != want.Device || s.ReadOnly != want.ReadOnly {
		t.Fatalf("state %+v is not what was asked for", s)
	}
	var names []string
	for _, a := range want.ACLs {
		names = append(names, a.Initiator)
	}
	slices.Sort(names)
	if d := cmp.Diff(names, s.ACLs); d != "" {
		t.Fatal(d)
	}
	return s
}

func (t *iscsiTest) login() driver.Session {
	t.Helper()
	s, err := t.bed.Initiator().Login(t.ctx, t.portal())
	if err != nil {
		t.Fatal(err)
	}
	if s.State != driver.SessionLoggedIn || s.Device == "" || s.IQN != t.target.IQN || s.Address != t.target.Portal {
		t.Fatalf("session is %+v", s)
	}
	return s
}

// session returns the initiator's session with the target, if there is one.
func (t *iscsiTest) session() (driver.Session, bool) {
	t.Helper()
	all, err := t.bed.Initiator().Sessions(t.ctx, t.target.IQN)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 1 {
		t.Fatalf("more than one session: %+v", all)
	}
	if len(all) == 0 {
		return driver.Session{}, false
	}
	return all[0], true
}

// await polls until ok, for there is no event to wait for.
func (t *iscsiTest) await(what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(iscsiTime)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lost waits until the session is no longer logged in.
func (t *iscsiTest) lost() {
	t.Helper()
	t.await("loss of the session", func() bool {
		s, ok := t.session()
		return !ok || s.State != driver.SessionLoggedIn
	})
}

func (t *iscsiTest) find() (driver.TargetState, bool) {
	t.Helper()
	all, err := t.bed.Target().List(t.ctx, t.target.IQN)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.IQN == t.target.IQN {
			return s, true
		}
	}
	return driver.TargetState{}, false
}

// refused fails unless the initiator isn't let in. tgtd says "no such target" to one it doesn't know.
func (t *iscsiTest) refused() {
	t.Helper()
	_, err := t.bed.Initiator().Login(t.ctx, t.portal())
	if !errors.Is(err, driver.ErrAuth) && !errors.Is(err, driver.ErrNotFound) {
		t.Fatalf("login: %v, want ErrAuth or ErrNotFound", err)
	}
	if s, ok := t.session(); ok {
		t.Fatalf("refused, but there is %+v", s)
	}
}

// Target is the conformance suite of target helpers.
func Target(t *testing.T, bed ISCSIBed) {
	t.Run("EnsureTwice", func(t *testing.T) {
		it := start(t, bed, 1)
		first := it.ensure(it.target)
		s := it.login()
		again := it.ensure(it.target)
		first.Sessions = []string{it.target.ACLs[0].Initiator}
		if d := cmp.Diff(first, again); d != "" {
			t.Error(d)
		}
		if now, ok := it.session(); !ok || now != s {
			t.Errorf("session changed from %+v to %+v", s, now)
		}
		if l, ok := it.find(); !ok || cmp.Diff(again, l) != "" {
			t.Errorf("listed as %+v", l)
		}
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, s.Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("ACLChangeLeavesOthersAlone", func(t *testing.T) {
		it := start(t, bed, 2)
		it.ensure(it.target)
		s := it.login()
		more := it.target
		more.ACLs = append([]driver.ACL{{Initiator: otherInitiator, Credential: driver.Credential{User: "user-other", Secret: "secret-other-1"}}}, more.ACLs...)
		it.ensure(more)
		it.ensure(it.target)
		if now, ok := it.session(); !ok || now != s {
			t.Errorf("session changed from %+v to %+v", s, now)
		}
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, s.Device)) {
			t.Error("the disk has other bytes than the device")
		}
	})
	t.Run("ACLRemovalEndsSession", func(t *testing.T) {
		it := start(t, bed, 3)
		it.ensure(it.target)
		it.login()
		none := it.target
		none.ACLs = nil
		if s := it.ensure(none); len(s.Sessions) > 0 {
			t.Errorf("sessions left: %v", s.Sessions)
		}
		it.lost()
		if err := bed.Initiator().Logout(it.ctx, it.target.IQN, it.target.Portal); err != nil {
			t.Fatal(err)
		}
		it.refused()
		it.ensure(it.target)
		it.login()
	})
	t.Run("UnknownInitiator", func(t *testing.T) {
		it := start(t, bed, 4)
		other := it.target
		other.ACLs = []driver.ACL{{Initiator: otherInitiator, Credential: it.target.ACLs[0].Credential}}
		it.ensure(other)
		it.refused()
	})
	t.Run("SecretHoldsFromNextLogin", func(t *testing.T) {
		it := start(t, bed, 5)
		it.ensure(it.target)
		s := it.login()
		changed := it.target
		changed.ACLs = slices.Clone(it.target.ACLs)
		changed.ACLs[0].Secret = "another-secret"
		it.ensure(changed)
		if now, ok := it.session(); !ok || now != s {
			t.Errorf("session changed from %+v to %+v", s, now)
		}
		if err := bed.Initiator().Logout(it.ctx, it.target.IQN, it.target.Portal); err != nil {
			t.Fatal(err)
		}
		if _, err := bed.Initiator().Login(it.ctx, it.portal()); !errors.Is(err, driver.ErrAuth) {
			t.Errorf("old secret: %v, want ErrAuth", err)
		}
		it.target = changed
		it.login()
	})
	t.Run("ReadOnly", func(t *testing.T) {
		it := start(t, bed, 6)
		before := bed.Content(t, it.target.Device)
		it.ensure(it.target)
		if err := bed.Write(t, it.login().Device); err == nil {
			t.Error("a read-only disk took a write")
		}
		if !bytes.Equal(before, bed.Content(t, it.target.Device)) {
			t.Error("the device changed")
		}
	})
	t.Run("Writable", func(t *testing.T) {
		it := start(t, bed, 7)
		it.target.ReadOnly = false
		before := bed.Content(t, it.target.Device)
		it.ensure(it.target)
		s := it.login()
		if err := bed.Write(t, s.Device); err != nil {
			t.Fatal(err)
		}
		if after := bed.Content(t, it.target.Device); bytes.Equal(before, after) || !bytes.Equal(after, bed.Content(t, s.Device)) {
			t.Error("the write did not reach the device")
		}
	})
	t.Run("ModeChangeRebuilds", func(t *testing.T) {
		it := start(t, bed, 8)
		it.target.ReadOnly = false
		it.ensure(it.target)
		it.target.ReadOnly = true
		it.ensure(it.target)
		if err := bed.Write(t, it.login().Device); err == nil {
			t.Error("a read-only disk took a write")
		}
	})
	t.Run("RemoveUnderSession", func(t *testing.T) {
		it := start(t, bed, 9)
		it.ensure(it.target)
		it.login()
		for range 2 {
			if err := bed.Target().Remove(it.ctx, it.target.IQN); err != nil {
				t.Fatal(err)
			}
		}
		bed.RemoveDevice(t, it.target.Device)
		if s, ok := it.find(); ok {
			t.Errorf("still listed: %+v", s)
		}
		it.lost()
		ctx, cancel := context.WithTimeout(it.ctx, logoutBound)
		defer cancel()
		if err := bed.Initiator().Logout(ctx, it.target.IQN, it.target.Portal); err != nil {
			t.Error(err)
		}
	})
	t.Run("MissingDevice", func(t *testing.T) {
		it := start(t, bed, 10)
		it.target.Device += "-missing"
		if _, err := bed.Target().Ensure(it.ctx, it.target); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if s, ok := it.find(); ok {
			t.Errorf("listed: %+v", s)
		}
	})
	t.Run("ManyAtOnce", func(t *testing.T) { manyAtOnce(t, bed) })
}

// manyAtOnce makes, uses and removes targets at one portal side by side.
func manyAtOnce(t *testing.T, bed ISCSIBed) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*iscsiTime)
	t.Cleanup(cancel)
	var all []*iscsiTest
	for n := range 4 {
		all = append(all, startIn(ctx, t, bed, 20+n))
	}
	h, i := bed.Target(), bed.Initiator()
	sessions := make([]driver.Session, len(all))
	each := func(what string, do func(n int, it *iscsiTest) error) {
		t.Helper()
		began := time.Now()
		var wg sync.WaitGroup
		for n, it := range all {
			wg.Go(func() {
				if err := do(n, it); err != nil {
					t.Errorf("%s %d: %v", what, n, err)
				}
			})
		}
		defer func() { t.Logf("%s of %d at once: %v", what, len(all), time.Since(began).Round(time.Millisecond)) }()
		if wg.Wait(); t.Failed() {
			t.FailNow()
		}
	}
	each("ensure", func(_ int, it *iscsiTest) error { _, err := h.Ensure(ctx, it.target); return err })
	each("login", func(n int, it *iscsiTest) (err error) { sessions[n], err = i.Login(ctx, it.portal()); return err })
	for n, it := range all {
		if !bytes.Equal(bed.Content(t, it.target.Device), bed.Content(t, sessions[n].Device)) {
			t.Errorf("disk %s has other bytes than its device", sessions[n].Device)
		}
	}
	each("logout", func(_ int, it *iscsiTest) error { return i.Logout(ctx, it.target.IQN, it.target.Portal) })
	each("remove", func(_ int, it *iscsiTest) error { return h.Remove(ctx, it.target.IQN) })
	for _, it := range all {
		bed.RemoveDevice(t, it.target.Device)
	}
}
