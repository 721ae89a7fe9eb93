package tgt

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmthunder/vmthunder/driver"
)

const (
	testIQN = "iqn.2014-05.org.vmthunder:host1:image-6c1d6d41-8c2b-4bb1-8b53-6d9f3a6a0f0a"
	nodeA   = "iqn.2026-11.org.test:a"
	nodeB   = "iqn.2026-11.org.test:b"
	nodeC   = "iqn.2026-11.org.test:c"
)

func target1(t *testing.T, initiators ...string) driver.Target {
	dev := filepath.Join(t.TempDir(), "dev")
	if err := os.WriteFile(dev, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tt := driver.Target{IQN: testIQN, Device: dev, Portal: "10.0.0.1:3260", ReadOnly: true, Serial: "s-1"}
	for _, i := range initiators {
		id := i[len(i)-1:]
		tt.ACLs = append(tt.ACLs, driver.ACL{Initiator: i, Credential: driver.Credential{User: "u-" + id, Secret: "secret-of-" + id + "-1"}})
	}
	return tt
}

func ensure(t *testing.T, h *Helper, want driver.Target) driver.TargetState {
	t.Helper()
	s, err := h.Ensure(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fakeTgtd) dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	secrets := map[string]string{}
	for u, s := range f.accounts {
		if u != testIQN { // the guard's is random
			secrets[u] = s
		}
	}
	return f.show() + fmt.Sprint(secrets)
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	f := startFake(t)
	h := New(f.socket)
	want := target1(t, nodeA, nodeB)
	s := ensure(t, h, want)
	if d := cmp.Diff(driver.TargetState{IQN: testIQN, Device: want.Device, LUN: 1, ReadOnly: true, ACLs: []string{nodeA, nodeB}}, s); d != "" {
		t.Error(d)
	}
	f.log = nil
	ensure(t, h, want)
	if len(f.log) > 0 {
		t.Errorf("second Ensure changed %v", f.log)
	}
	before := f.dump()
	f.find(1).sessions[7] = nodeA
	ensure(t, New(f.socket), want) // after a restart of the agent
	if f.find(1).sessions[7] != nodeA {
		t.Error("a session was ended")
	}
	delete(f.find(1).sessions, 7)
	if d := cmp.Diff(before, f.dump()); d != "" {
		t.Error(d)
	}
}

func TestACLChangeLeavesOthersAlone(t *testing.T) {
	f := startFake(t)
	h := New(f.socket)
	want := target1(t, nodeA, nodeB, nodeC)
	ensure(t, h, want)
	f.find(1).sessions[7], f.find(1).sessions[8] = nodeA, nodeB
	want.ACLs = append(want.ACLs[:1:1], want.ACLs[2])
	want.ACLs[1].Secret = "another-secret"
	s := ensure(t, h, want)
	if d := cmp.Diff([]string{nodeA, nodeC}, s.ACLs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{nodeA}, s.Sessions); d != "" {
		t.Error(d)
	}
	if f.accounts["u-c"] != "another-secret" || len(f.accounts) != 3 {
		t.Errorf("accounts: %v", f.accounts)
	}
}

func TestChangedModeRebuilds(t *testing.T) {
	f := startFake(t)
	h := New(f.socket)
	want := target1(t, nodeA)
	ensure(t, h, want)
	f.find(1).sessions[7] = nodeA
	want.ReadOnly = false
	if s := ensure(t, h, want); s.ReadOnly || len(s.Sessions) > 0 {
		t.Errorf("got %+v", s)
	}
}

func TestPortalIsAdded(t *testing.T) {
	f := startFake(t)
	want := target1(t)
	want.Portal = "10.0.0.2:3261"
	ensure(t, New(f.socket), want)
	if d := cmp.Diff([]string{"10.0.0.1:3260", "10.0.0.2:3261"}, f.portals); d != "" {
		t.Error(d)
	}
}

func TestCrashAtEachStep(t *testing.T) {
	want := target1(t, nodeA, nodeB)
	clean := startFake(t)
	ensure(t, New(clean.socket), want)
	for n := 0; ; n++ {
		f := startFake(t)
		f.left = n
		_, err := New(f.socket).Ensure(t.Context(), want)
		f.left = -1
		ensure(t, New(f.socket), want)
		if d := cmp.Diff(clean.dump(), f.dump()); d != "" {
			t.Fatalf("after a crash at change %d:\n%s", n, d)
		}
		if err == nil {
			break
		}
	}
	for n := 0; ; n++ {
		f := startFake(t)
		ensure(t, New(f.socket), want)
		f.left = n
		err := New(f.socket).Remove(t.Context(), testIQN)
		f.left = -1
		if err := New(f.socket).Remove(t.Context(), testIQN); err != nil {
			t.Fatal(err)
		}
		if len(f.targets) > 0 {
			t.Fatalf("after a crash at change %d: %s", n, f.remains())
		}
		if err == nil {
			if r := f.remains(); r != "" {
				t.Fatal(r)
			}
			break
		}
	}
}

func TestFailureIsUndone(t *testing.T) {
	want := target1(t, nodeA, nodeB)
	for n := 0; ; n++ {
		f := startFake(t)
		f.failAt = n
		if _, err := New(f.socket).Ensure(t.Context(), want); err == nil {
			break
		}
		if r := f.remains(); r != "" {
			t.Fatalf("failed change %d left %s", n, r)
		}
	}
	more := want
	more.ACLs = append(more.ACLs[:2:2], target1(t, nodeC).ACLs...)
	for n := 0; ; n++ {
		f := startFake(t)
		h := New(f.socket)
		ensure(t, h, want)
		before := f.dump()
		f.failAt = n
		if _, err := h.Ensure(t.Context(), more); err == nil {
			break
		}
		if d := cmp.Diff(before, f.dump()); d != "" {
			t.Fatalf("failed change %d left %s", n, d)
		}
	}
}

func TestUserOfAnotherTargetIsNotTaken(t *testing.T) {
	f := startFake(t)
	h := New(f.socket)
	want := target1(t, nodeA)
	ensure(t, h, want)
	before := f.dump()
	other := want
	other.IQN += "x"
	if _, err := h.Ensure(t.Context(), other); !errors.Is(err, driver.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if d := cmp.Diff(before, f.dump()); d != "" {
		t.Error(d)
	}
}

func TestRestartOfTgtd(t *testing.T) {
	f := startFake(t)
	h := New(f.socket)
	want := target1(t, nodeA)
	ensure(t, h, want)
	before := f.dump()
	f.targets, f.accounts = nil, map[string]string{}
	ensure(t, h, want)
	if d := cmp.Diff(before, f.dump()); d != "" {
		t.Error(d)
	}
}

func TestUnavailable(t *testing.T) {
	h := New(filepath.Join(t.TempDir(), "nothing"))
	for name, err := range map[string]error{
		"available": h.Available(t.Context()),
		"remove":    h.Remove(t.Context(), testIQN),
	} {
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Ensure(t.Context(), target1(t)); !errors.Is(err, driver.ErrUnavailable) {
		t.Error(err)
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	for n := range 12 {
		f := startFake(t)
		f.left = n
		_, err := New(f.socket).Ensure(t.Context(), target1(t, nodeA, nodeB))
		if err != nil && strings.Contains(err.Error(), "secret-of") {
			t.Error(err)
		}
	}
}

func TestParseShow(t *testing.T) {
	b, err := os.ReadFile("testdata/show.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := []target{{
		tid: 1, iqn: "iqn.2026-11.org.test:t1", nexus: []string{"iqn.2026-11.org.test:node1"},
		luns:     []lun{{number: 0, serial: "beaf10", online: true}, {number: 1, serial: "0123456789abcdef", readOnly: true, online: true, path: "/dev/mapper/lin2", flags: "direct"}},
		accounts: []string{"tu1", "tu2"}, acls: []string{"iqn.2026-11.org.test:node1", "iqn.2026-11.org.test:node2"},
	}, {tid: 2, iqn: "iqn.2026-11.org.test:t2", luns: []lun{{number: 0, serial: "beaf20", online: true}}}}
	if d := cmp.Diff(want, parseTargets(string(b)), cmp.AllowUnexported(target{}, lun{})); d != "" {
		t.Error(d)
	}
	conn, err := os.ReadFile("testdata/connections.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]connection{{1, 0, "iqn.2026-11.org.test:node1"}}, parseConnections(string(conn)), cmp.AllowUnexported(connection{})); d != "" {
		t.Error(d)
	}
}

func TestListens(t *testing.T) {
	portals := parsePortals("Portal: 0.0.0.0:3260,1\nPortal: [::]:3260,1\nPortal: 127.0.0.1:3261,1\nPortal: rubbish\n")
	for addr, want := range map[string]bool{"10.0.0.1:3260": true, "[fd00::1]:3260": true, "127.0.0.1:3261": true, "10.0.0.1:3261": false} {
		if got := listens(portals, netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"show.txt", "connections.txt"} {
		b, err := os.ReadFile("testdata/" + n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, tt := range parseTargets(s) {
			tt.state()
		}
		parseConnections(s)
		parsePortals(s)
		_, _ = decode(strings.NewReader(s))
	})
}
