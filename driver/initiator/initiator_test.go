package initiator

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

const testIQN = "iqn.2014-05.org.vmthunder:host1:image-6c1d6d41-8c2b-4bb1-8b53-6d9f3a6a0f0a"

func (f *fakeNode) portal() driver.Portal {
	return driver.Portal{Address: f.address(), IQN: testIQN, Credential: driver.Credential{User: "user-1", Secret: "top-secret-1"}}
}

func (f *fakeNode) read(p string) string {
	b, err := os.ReadFile(filepath.Join(f.dir, p))
	if err != nil {
		f.t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

// records lists what is in the database.
func (f *fakeNode) records() []string {
	var all []string
	for _, p := range []string{"etc/nodes/*", "etc/nodes/*/*", "etc/.vmthunder*"} {
		m, _ := filepath.Glob(filepath.Join(f.dir, p))
		all = append(all, m...)
	}
	return all
}

func TestLoginAndLogout(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	s, err := i.Login(t.Context(), f.portal())
	if err != nil {
		t.Fatal(err)
	}
	want := driver.Session{ID: 1, IQN: testIQN, Address: f.address(), State: driver.SessionLoggedIn, Device: filepath.Join(f.dir, "dev/sda")}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if got := f.read("sys/block/sda/queue/scheduler"); got != "none" && !strings.HasPrefix(got, "none") {
		t.Errorf("scheduler %q", got)
	}
	if again, err := i.Login(t.Context(), f.portal()); err != nil || again != s {
		t.Errorf("second login: %+v, %v", again, err)
	}
	if all, err := i.Sessions(t.Context(), driver.IQNPrefix); err != nil || len(all) != 1 || all[0] != s {
		t.Errorf("sessions: %+v, %v", all, err)
	}
	if all, err := i.Sessions(t.Context(), "iqn.other"); err != nil || len(all) != 0 {
		t.Errorf("sessions of others: %+v, %v", all, err)
	}
	for range 2 {
		if err := i.Logout(t.Context(), testIQN, f.address()); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.records(); len(r) > 0 {
		t.Errorf("records left: %v", r)
	}
	wantLines := []string{"iscsiadm -m node -T " + testIQN + " -p " + f.address() + " --login", "iscsiadm -m session -r 1 --logout"}
	if d := cmp.Diff(wantLines, f.lines); d != "" {
		t.Error(d)
	}
}

func TestSecretIsInTheRecordOnly(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	var record string
	var mode os.FileMode
	f.reply = func(string) error {
		m, _ := filepath.Glob(filepath.Join(f.dir, "etc/nodes/*/*/default"))
		b, err := os.ReadFile(m[0])
		st, err2 := os.Stat(m[0])
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		record, mode = string(b), st.Mode()
		return command.Failure(command.Cmd{Name: "iscsiadm"}, codeAuth, "login failed")
	}
	_, err := i.Login(t.Context(), f.portal())
	if !errors.Is(err, driver.ErrAuth) {
		t.Errorf("got %v, want ErrAuth", err)
	}
	if !strings.Contains(record, "node.session.auth.password = top-secret-1\n") || mode.Perm() != 0o600 {
		t.Errorf("record (mode %v):\n%s", mode, record)
	}
	if strings.Contains(err.Error()+strings.Join(f.lines, "\n"), "top-secret") {
		t.Error("the secret was told")
	}
	if r := f.records(); len(r) > 0 {
		t.Errorf("records left: %v", r)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	for code, want := range map[int]error{
		codeAuth: driver.ErrAuth, codeFatalLogin: driver.ErrNotFound, codeLogin: driver.ErrNotFound,
		codeTransport: driver.ErrUnreachable, codeTransTimeout: driver.ErrUnreachable, codePDUTimeout: driver.ErrUnreachable,
		codeNoTransport: driver.ErrUnavailable, codeNoDaemon: driver.ErrUnavailable,
	} {
		f := newFakeNode(t)
		f.reply = func(string) error { return command.Failure(command.Cmd{Name: "iscsiadm"}, code, "") }
		if _, err := f.initiator(Options{}).Login(t.Context(), f.portal()); !errors.Is(err, want) {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
	}
	f := newFakeNode(t)
	_ = f.target.Close()
	if _, err := f.initiator(Options{}).Login(t.Context(), f.portal()); !errors.Is(err, driver.ErrUnreachable) || len(f.lines) > 0 {
		t.Errorf("nobody listens: %v, executed %v", err, f.lines)
	}
}

func TestSessionExistsIsSuccess(t *testing.T) {
	f := newFakeNode(t)
	f.reply = func(iqn string) error {
		f.session(iqn, f.address(), "LOGGED_IN")
		return command.Failure(command.Cmd{Name: "iscsiadm"}, codeSessionExists, "")
	}
	if s, err := f.initiator(Options{}).Login(t.Context(), f.portal()); err != nil || s.ID != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestLostSessionIsExchanged(t *testing.T) {
	f := newFakeNode(t)
	f.session(testIQN, f.address(), "FREE")
	s, err := f.initiator(Options{ReplacementTimeout: time.Millisecond}).Login(t.Context(), f.portal())
	if err != nil || s.ID != 2 || s.State != driver.SessionLoggedIn {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestHeldDiskIsBusy(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	if _, err := i.Login(t.Context(), f.portal()); err != nil {
		t.Fatal(err)
	}
	f.mkdir("sys/block/sda/holders/dm-0")
	if err := i.Logout(t.Context(), testIQN, f.address()); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if f.read("sys/block/sda/device/delete") != "" || len(f.lines) != 1 {
		t.Error("the disk was touched")
	}
}

func TestLogoutLeavesOthersAlone(t *testing.T) {
	f := newFakeNode(t)
	f.session(testIQN, "10.0.0.9:3260", "LOGGED_IN")
	f.session(testIQN+"x", f.address(), "LOGGED_IN")
	f.session(testIQN, f.address(), "FAILED")
	i := f.initiator(Options{})
	other := f.portal()
	other.Address = "10.0.0.9:3260"
	if err := i.writeRecord(other, netip.MustParseAddrPort(other.Address)); err != nil {
		t.Fatal(err)
	}
	if err := i.Logout(t.Context(), testIQN, f.address()); err != nil {
		t.Fatal(err)
	}
	all, err := i.Sessions(t.Context(), "")
	if err != nil || len(all) != 2 || all[0].ID != 1 || all[1].ID != 2 {
		t.Errorf("left: %+v, %v", all, err)
	}
	if r := f.records(); len(r) != 2 { // the target's folder and the other portal's
		t.Errorf("records: %v", r)
	}
}

func TestUnfitPortals(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	for name, spoil := range map[string]func(*driver.Portal){
		"host name":      func(p *driver.Portal) { p.Address = "localhost:3260" },
		"path in name":   func(p *driver.Portal) { p.IQN = "iqn.2014-05.org/../../x" },
		"option as name": func(p *driver.Portal) { p.IQN = "--op=delete" },
		"line in secret": func(p *driver.Portal) { p.Secret = "top-secret\nnode.startup = automatic" },
		"no secret":      func(p *driver.Portal) { p.Secret = "" },
	} {
		p := f.portal()
		spoil(&p)
		_, err := i.Login(t.Context(), p)
		if err == nil || strings.Contains(err.Error(), "top-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.lines) > 0 || len(f.records()) > 0 {
		t.Error("something was done")
	}
}

// Every key of a record that we write is one that iscsiadm itself writes.
func TestRecordKeys(t *testing.T) {
	b, err := os.ReadFile("testdata/node-record.txt")
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		theirs[key] = value
	}
	i := New(&command.Recorder{}, Options{})
	p := driver.Portal{IQN: "iqn.2026-11.org.test:img1", Credential: driver.Credential{User: "user1", Secret: "secretsecret1"}}
	ours := i.record(p, netip.MustParseAddrPort("127.0.0.1:3260"))
	chosen := map[string]bool{ // where we want another value than that record has
		"node.tpgt": true, "node.session.queue_depth": true, "node.session.err_timeo.abort_timeout": true, "node.session.err_timeo.lu_reset_timeout": true,
		"node.session.err_timeo.tgt_reset_timeout": true, "node.session.err_timeo.host_reset_timeout": true, "node.session.iscsi.DefaultTime2Wait": true,
		"node.conn[0].timeo.logout_timeout": true, "node.conn[0].timeo.auth_timeout": true,
	}
	for line := range strings.Lines(ours) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		want, ok := theirs[key]
		if !ok {
			t.Errorf("%s is not in iscsiadm's record", key)
		}
		if value != want && !chosen[key] {
			t.Errorf("%s is %q, iscsiadm's is %q", key, value, want)
		}
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer l.Close()
	f := newFakeNode(t)
	p := f.portal()
	p.Address = l.Addr().String()
	i := f.initiator(Options{})
	s, err := i.Login(t.Context(), p)
	if err != nil || s.Address != p.Address {
		t.Fatalf("got %+v, %v", s, err)
	}
	if err := i.Logout(t.Context(), p.IQN, p.Address); err != nil || len(f.records()) > 0 {
		t.Errorf("%v, %v", err, f.records())
	}
}

func TestName(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	if n, err := i.Name(t.Context()); err != nil || n != "iqn.1993-08.org.debian:01:81493ae137e3" {
		t.Errorf("got %q, %v", n, err)
	}
	f.remove("etc/initiatorname.iscsi")
	if _, err := i.Name(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func FuzzName(f *testing.F) {
	f.Add("## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:81493ae137e3\n")
	f.Add("#InitiatorName=x\n InitiatorName = iqn.y \r\n")
	f.Fuzz(func(t *testing.T, s string) {
		if n := parseName(s); strings.ContainsAny(n, "\n") || n != strings.TrimSpace(n) || !strings.Contains(s, n) {
			t.Errorf("%q gives %q", s, n)
		}
	})
}

func TestPrune(t *testing.T) {
	f := newFakeNode(t)
	i := f.initiator(Options{})
	if _, err := i.Login(t.Context(), f.portal()); err != nil {
		t.Fatal(err)
	}
	const stale, other = testIQN + "1", "iqn.1999-01.com.example:disk"
	for _, iqn := range []string{stale, other} {
		f.file("etc/nodes/"+iqn+"/10.0.0.1,3260,1/default", "node.name = "+iqn+"\n")
	}
	if err := i.Prune(t.Context(), func(iqn string) bool { return strings.HasPrefix(iqn, driver.IQNPrefix) }); err != nil {
		t.Fatal(err)
	}
	for iqn, want := range map[string]bool{testIQN: true, stale: false, other: true} {
		if _, err := os.Stat(filepath.Join(f.dir, "etc/nodes", iqn)); (err == nil) != want {
			t.Errorf("%s: %v, wanted it to be there: %v", iqn, err, want)
		}
	}
}
