package lio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
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

func acl(initiator string) driver.ACL {
	return driver.ACL{Initiator: initiator, Credential: driver.Credential{User: "u-" + initiator[len(initiator)-1:], Secret: "secret-of-" + initiator[len(initiator)-1:] + "-1"}}
}

func target(initiators ...string) driver.Target {
	t := driver.Target{IQN: testIQN, Device: "/dev/mapper/x", Portal: "10.0.0.1:3260", ReadOnly: true, Serial: "s-1"}
	for _, i := range initiators {
		t.ACLs = append(t.ACLs, acl(i))
	}
	return t
}

func newTest() (*Helper, *fakeFS) {
	f := newFakeFS()
	return &Helper{fs: f, number: func(string) (uint32, uint32, error) { return 254, 0, nil }}, f
}

func ensure(t *testing.T, h *Helper, want driver.Target) driver.TargetState {
	t.Helper()
	s, err := h.Ensure(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fakeFS) values() map[string]string {
	m := map[string]string{}
	for p, n := range f.nodes {
		m[p] = n.value
	}
	return m
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	h, f := newTest()
	s := ensure(t, h, target(nodeA, nodeB))
	want := driver.TargetState{IQN: testIQN, Device: "/dev/mapper/x", ReadOnly: true, ACLs: []string{nodeA, nodeB}}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	f.log = nil
	ensure(t, h, target(nodeA, nodeB))
	if len(f.log) > 0 {
		t.Errorf("second Ensure changed %v", f.log)
	}
	for p, v := range map[string]string{
		"enable": "1\n", "attrib/authentication": "1\n", "attrib/generate_node_acls": "0\n", "attrib/demo_mode_write_protect": "1\n", "attrib/prod_mode_write_protect": "1\n",
		"acls/" + nodeA + "/auth/userid": "u-a\n", "acls/" + nodeA + "/auth/password": "secret-of-a-1\n", "acls/" + nodeA + "/lun_0/write_protect": "1\n",
	} {
		if got := f.nodes[tpgPath(testIQN)+"/"+p].value; got != v {
			t.Errorf("%s is %q, want %q", p, got, v)
		}
	}
}

// The target lets nobody in before all is in place, and each initiator only with a secret.
func TestEnabledLast(t *testing.T) {
	h, f := newTest()
	ensure(t, h, target(nodeA))
	if last := f.log[len(f.log)-1]; last != "write "+tpgPath(testIQN)+"/enable" {
		t.Errorf("last change is %s", last)
	}
}

func TestACLChangeLeavesOthersAlone(t *testing.T) {
	h, f := newTest()
	ensure(t, h, target(nodeA, nodeB))
	f.login(testIQN, nodeA)
	f.login(testIQN, nodeB)
	f.log = nil
	s := ensure(t, h, target(nodeA, nodeC))
	if d := cmp.Diff([]string{nodeA, nodeC}, s.ACLs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{nodeA}, s.Sessions); d != "" {
		t.Error(d)
	}
	for _, l := range f.log {
		if !strings.Contains(l, nodeB) && !strings.Contains(l, nodeC) {
			t.Errorf("unneeded change: %s", l)
		}
	}
	out := slices.Index(f.log, "write "+aclPath(testIQN, nodeB)+"/auth/password")
	kick := slices.Index(f.log, "write "+aclPath(testIQN, nodeB)+"/cmdsn_depth")
	unmap := slices.Index(f.log, "unlink "+aclPath(testIQN, nodeB)+"/lun_0/mapped")
	if out < 0 || kick < out || unmap < kick {
		t.Errorf("want secret, session, LUN to go in this order: %v", f.log)
	}

	changed := target(nodeA, nodeC)
	changed.ACLs[0].Secret = "another-secret"
	f.log = nil
	ensure(t, h, changed)
	if d := cmp.Diff([]string{"write " + aclPath(testIQN, nodeA) + "/auth/password"}, f.log); d != "" {
		t.Error(d)
	}
}

func TestChangedDeviceModeOrSerialRebuilds(t *testing.T) {
	for name, change := range map[string]func(*driver.Target){
		"device": func(t *driver.Target) { t.Device = "/dev/mapper/y" },
		"mode":   func(t *driver.Target) { t.ReadOnly = false },
		"serial": func(t *driver.Target) { t.Serial = "s-2" },
	} {
		h, f := newTest()
		ensure(t, h, target(nodeA))
		f.login(testIQN, nodeA)
		want := target(nodeA)
		change(&want)
		s := ensure(t, h, want)
		if s.Device != want.Device || s.ReadOnly != want.ReadOnly || len(s.Sessions) != 0 {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

func TestPortalMovesInPlace(t *testing.T) {
	h, f := newTest()
	ensure(t, h, target(nodeA))
	f.login(testIQN, nodeA)
	want := target(nodeA)
	want.Portal = "10.0.0.2:3260"
	s := ensure(t, h, want)
	if len(s.Sessions) != 1 {
		t.Error("the session was ended")
	}
	if got, _ := f.dirs(tpgPath(testIQN) + "/np"); !slices.Equal(got, []string{"10.0.0.2:3260"}) {
		t.Errorf("listens on %v", got)
	}
}

// A crash after each change, on the way up and on the way down, is healed by the next call.
func TestCrashAtEachStep(t *testing.T) {
	for n := 0; ; n++ {
		h, f := newTest()
		f.left = n
		_, err := h.Ensure(t.Context(), target(nodeA, nodeB))
		f.left = -1
		h2 := &Helper{fs: f, number: h.number}
		s := ensure(t, h2, target(nodeA, nodeB))
		if len(s.ACLs) != 2 || f.nodes[tpgPath(testIQN)+"/enable"].value != "1\n" {
			t.Fatalf("after a crash at change %d: %+v", n, s)
		}
		clean, cf := newTest()
		ensure(t, clean, target(nodeA, nodeB))
		if d := cmp.Diff(cf.values(), f.values()); d != "" {
			t.Fatalf("after a crash at change %d:\n%s", n, d)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
	}
	for n := 0; ; n++ {
		h, f := newTest()
		ensure(t, h, target(nodeA, nodeB))
		f.login(testIQN, nodeA)
		f.left = n
		err := h.Remove(t.Context(), testIQN)
		f.left = -1
		list, lerr := h.List(t.Context(), driver.IQNPrefix)
		if lerr != nil || err != nil && len(list) != 1 && len(f.made()) > 1 { // the empty adapter is no target
			t.Fatalf("after a crash at change %d: %v, %v, left %v", n, list, lerr, f.made())
		}
		if err := h.Remove(t.Context(), testIQN); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if left := f.made(); len(left) > 0 {
				t.Fatalf("left: %v", left)
			}
			break
		}
	}
}

// A creation that fails leaves nothing; a failing change leaves the target as it was.
func TestFailureIsUndone(t *testing.T) {
	h, f := newTest()
	total := func() int {
		h, f := newTest()
		ensure(t, h, target(nodeA, nodeB))
		return len(f.log)
	}()
	for n := range total {
		h, f = newTest()
		h.fs = &failOnce{fakeFS: f, at: n}
		if _, err := h.Ensure(t.Context(), target(nodeA, nodeB)); !errors.Is(err, errOnce) {
			t.Fatalf("change %d: %v", n, err)
		}
		if left := f.made(); len(left) > 0 {
			t.Fatalf("failed change %d left %v", n, left)
		}
	}
	h, f = newTest()
	ensure(t, h, target(nodeA))
	before := maps.Clone(f.values())
	h.fs = &failOnce{fakeFS: f, at: 6}
	if _, err := h.Ensure(t.Context(), target(nodeA, nodeB)); !errors.Is(err, errOnce) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, f.values()); d != "" {
		t.Error(d)
	}
}

var errOnce = errors.New("fails once")

// failOnce fails the change number at and no other.
type failOnce struct {
	*fakeFS
	at int
}

func (f *failOnce) once() error {
	f.at--
	if f.at == -1 {
		return errOnce
	}
	return nil
}

func (f *failOnce) mkdir(p string) error {
	if f.nodes[p] == nil {
		if err := f.once(); err != nil {
			return err
		}
	}
	return f.fakeFS.mkdir(p)
}

func (f *failOnce) symlink(to, p string) error {
	if err := f.once(); err != nil {
		return err
	}
	return f.fakeFS.symlink(to, p)
}

func (f *failOnce) write(p, v string) error {
	if err := f.once(); err != nil {
		return err
	}
	return f.fakeFS.write(p, v)
}

func TestForeignBackstoreIsLeftAlone(t *testing.T) {
	h, f := newTest()
	for _, p := range []string{"iscsi", "core/iblock_0", "core/iblock_0/disk1", "iscsi/" + testIQN, tpgPath(testIQN), lunPath(testIQN)} {
		if err := f.mkdir(p); err != nil {
			t.Fatal(err)
		}
	}
	f.nodes["core/iblock_0/disk1/enable"].value = "1\n"
	if err := f.symlink("core/iblock_0/disk1", lunPath(testIQN)+"/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ensure(t.Context(), target(nodeA)); !errors.Is(err, driver.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if err := h.Remove(t.Context(), testIQN); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"core/iblock_0", "core/iblock_0/disk1"}, f.made()); d != "" {
		t.Error(d)
	}
}

func TestUnavailable(t *testing.T) {
	h := New(t.TempDir())
	if _, err := h.Ensure(t.Context(), target()); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("got %v", err)
	}
	if err := h.Remove(t.Context(), testIQN); err != nil {
		t.Error(err)
	}
	if l, err := h.List(t.Context(), ""); err != nil || len(l) > 0 {
		t.Error(l, err)
	}
}

func TestCanceledBeforeStart(t *testing.T) {
	h, f := newTest()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Ensure(ctx, target(nodeA)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := f.made(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// No message of a failure holds a secret.
func TestErrorsHoldNoSecret(t *testing.T) {
	for n := range 40 {
		h, f := newTest()
		f.left = n
		_, err := h.Ensure(t.Context(), target(nodeA, nodeB))
		if s := fmt.Sprintf("%v %+v", err, target(nodeA)); strings.Contains(s, "secret-of") {
			t.Fatalf("%s", s)
		}
	}
}

func TestParse(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if d := parseDevice(read("backstore-info.txt")); d != (device{"/dev/mapper/lin", true, 254, 0}) {
		t.Errorf("got %+v", d)
	}
	if s := parseSession(read("acl-info-session.txt")); s != sessionLogged {
		t.Errorf("got %v", s)
	}
	if s := parseSession(read("acl-info-none.txt")); s != sessionNone {
		t.Errorf("got %v", s)
	}
	for link, want := range map[string]string{
		"../../../../../../target/core/iblock_7/iqn.x:a":                      "core/iblock_7/iqn.x:a",
		"../../../../../core/iblock_7/iqn.x:a":                                "core/iblock_7/iqn.x:a",
		"/sys/kernel/config/target/core/iblock_7/iqn.x:a":                     "core/iblock_7/iqn.x:a",
		"../../../../../../../sys/kernel/config/target/core/iblock_7/iqn.x:a": "core/iblock_7/iqn.x:a",
	} {
		if got := belowTarget(link); got != want {
			t.Errorf("%s: got %s", link, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"backstore-info.txt", "acl-info-session.txt", "acl-info-none.txt"} {
		b, err := os.ReadFile("testdata/" + n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, s string) {
		parseDevice(s)
		parseSession(s)
		if strings.ContainsAny(parseSerial(s), "\n") && !strings.Contains(s, "\n") {
			t.Error("made up a line")
		}
	})
}
