package tgt

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeTgtd is as much of tgtd as this package relies on, with its faults: it
// "crashes" on a show that meets a hole in a target's accounts, and on the removal of a
// target with sessions.
type fakeTgtd struct {
	t        *testing.T
	socket   string
	mu       sync.Mutex
	targets  []*fakeTarget
	accounts map[string]string // user: secret
	portals  []string
	log      []string // changes, without parameters' values
	left     int      // changes until every one fails; negative: never
	failAt   int      // number of the one change that fails; negative: none
}

type fakeTarget struct {
	tid      int32
	iqn      string
	luns     map[uint64]*lun
	bound    [16]string // users, "" is a hole
	n        int
	acls     []string
	sessions map[uint64]string
}

func startFake(t *testing.T) *fakeTgtd {
	f := &fakeTgtd{t: t, socket: filepath.Join(t.TempDir(), "socket.0"), accounts: map[string]string{}, portals: []string{"10.0.0.1:3260"}, left: -1, failAt: -1}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(c) })
		}
	})
	return f
}

func (f *fakeTgtd) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // a test's
	var r request
	if binary.Read(c, binary.NativeEndian, &r) != nil {
		return
	}
	params := make([]byte, int(r.Len)-binary.Size(r))
	if _, err := io.ReadFull(c, params); err != nil {
		return
	}
	if n := len(params); n > 0 && params[n-1] != 0 {
		f.t.Error("parameters are not terminated")
	}
	text, code := f.handle(r, strings.TrimRight(string(params), "\x00"))
	h := response{Err: uint32(code), Len: 8}
	if code == 0 && text != "" {
		h.Len += uint32(len(text) + 1)
		text += "\x00"
	}
	_ = binary.Write(c, binary.NativeEndian, h)
	_, _ = io.WriteString(c, text)
}

func (f *fakeTgtd) find(tid int32) *fakeTarget {
	for _, t := range f.targets {
		if t.tid == tid {
			return t
		}
	}
	return nil
}

func option(params, key string) string {
	for p := range strings.SplitSeq(params, ",") {
		if v, ok := strings.CutPrefix(p, key+"="); ok {
			return v
		}
	}
	return ""
}

func (f *fakeTgtd) handle(r request, params string) (string, Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := strings.TrimRight(string(r.LLD[:]), "\x00"); got != "iscsi" {
		f.t.Errorf("driver %q", got)
	}
	if r.Op != opShow {
		if f.left == 0 || f.failAt == 0 {
			f.failAt--
			return "", 1
		}
		f.left--
		f.failAt--
		f.log = append(f.log, fmt.Sprintf("mode %d op %d %s", r.Mode, r.Op, strings.Split(params, ",password=")[0]))
	}
	t := f.find(r.TID)
	switch {
	case r.Mode == modePortal && r.Op == opShow:
		var b strings.Builder
		for _, p := range f.portals {
			fmt.Fprintf(&b, "Portal: %s,1\n", p)
		}
		return b.String(), 0
	case r.Mode == modePortal && r.Op == opNew:
		f.portals = append(f.portals, option(params, "portal"))
		return "", 0
	case r.Mode == modeAccount:
		return "", f.account(r, t, option(params, "user"), option(params, "password"))
	case r.Mode == modeTarget && r.Op == opShow:
		return f.show(), 0
	case r.Mode == modeTarget && r.Op == opNew:
		for _, o := range f.targets {
			if o.tid == r.TID || o.iqn == option(params, "targetname") {
				return "", codeTargetExists
			}
		}
		f.targets = append(f.targets, &fakeTarget{tid: r.TID, iqn: option(params, "targetname"), luns: map[uint64]*lun{0: {}}, sessions: map[uint64]string{}})
		return "", 0
	case t == nil:
		return "", codeNoTarget
	case r.Mode == modeTarget && r.Op == opDelete:
		if len(t.sessions) > 0 {
			f.t.Error("target removed with a session: tgtd would have ended")
		}
		f.targets = slices.DeleteFunc(f.targets, func(o *fakeTarget) bool { return o == t })
		return "", 0
	case r.Mode == modeTarget && r.Op == opBind:
		if t.n == 0 {
			f.t.Error("initiator let in while CHAP is off")
		}
		t.acls = append(t.acls, option(params, "initiator-name"))
		return "", 0
	case r.Mode == modeTarget && r.Op == opUnbind:
		i := slices.Index(t.acls, option(params, "initiator-name"))
		if i < 0 {
			return "", codeNoACL
		}
		t.acls = slices.Delete(t.acls, i, i+1)
		return "", 0
	case r.Mode == modeDevice && r.Op == opNew:
		t.luns[r.LUN] = &lun{number: r.LUN, path: option(params, "path"), flags: option(params, "bsoflags"), online: true, serial: "beaf"}
		return "", 0
	case r.Mode == modeDevice && r.Op == opUpdate:
		t.luns[r.LUN].readOnly = option(params, "readonly") == "1"
		if s := option(params, "scsi_sn"); s != "" {
			t.luns[r.LUN].serial = s
		}
		return "", 0
	case r.Mode == modeConnection && r.Op == opShow:
		var b strings.Builder
		for sid, who := range t.sessions {
			fmt.Fprintf(&b, "Session: %d\n    Connection: 0\n        Initiator: %s\n        IP Address: 10.0.0.9\n", sid, who)
		}
		return b.String(), 0
	case r.Mode == modeConnection && r.Op == opDelete:
		delete(t.sessions, r.SID)
		return "", 0
	}
	return "", codeInvalid
}

func (f *fakeTgtd) account(r request, t *fakeTarget, user, secret string) Code {
	_, there := f.accounts[user]
	switch r.Op {
	case opNew:
		if there {
			return codeUserExists
		}
		f.accounts[user] = secret
		return 0
	case opDelete:
		if !there {
			return codeNoUser
		}
		for _, t := range f.targets {
			if slices.Contains(t.bound[:], user) {
				f.t.Errorf("account %s deleted while bound", user)
			}
		}
		delete(f.accounts, user)
		return 0
	}
	if !there {
		return codeNoUser
	}
	if t == nil {
		return codeNoTarget
	}
	i := slices.Index(t.bound[:], user)
	if r.Op == opUnbind {
		if i < 0 {
			return codeNoUser
		}
		t.bound[i] = ""
		t.n--
		if t.n == 0 && len(t.acls) > 0 {
			f.t.Error("CHAP went off while initiators are let in")
		}
		return 0
	}
	if i >= 0 {
		return codeUserExists
	}
	t.bound[slices.Index(t.bound[:], "")] = user
	t.n++
	return 0
}

func (f *fakeTgtd) show() string {
	var b strings.Builder
	yes := map[bool]string{true: "Yes", false: "No"}
	for _, t := range f.targets {
		fmt.Fprintf(&b, "Target %d: %s\n    System information:\n        Driver: iscsi\n        State: ready\n    I_T nexus information:\n", t.tid, t.iqn)
		for sid, who := range t.sessions {
			fmt.Fprintf(&b, "        I_T nexus: %d\n            Initiator: %s alias: x\n            Connection: 0\n                IP Address: 10.0.0.9\n", sid, who)
		}
		b.WriteString("    LUN information:\n")
		for n := range uint64(2) {
			if l := t.luns[n]; l != nil {
				fmt.Fprintf(&b, "        LUN: %d\n            SCSI SN: %s\n            Online: %s\n            Readonly: %s\n            Backing store path: %s\n            Backing store flags: %s\n",
					n, l.serial, yes[l.online], yes[l.readOnly], l.path, l.flags)
			}
		}
		b.WriteString("    Account information:\n")
		for _, user := range t.bound[:t.n] {
			if user == "" {
				f.t.Error("hole in the accounts: tgtd would have crashed")
			}
			fmt.Fprintf(&b, "        %s\n", user)
		}
		b.WriteString("    ACL information:\n")
		for _, a := range t.acls {
			fmt.Fprintf(&b, "        %s\n", a)
		}
	}
	return b.String()
}

// left returns what a removal left behind.
func (f *fakeTgtd) remains() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.targets) == 0 && len(f.accounts) == 0 {
		return ""
	}
	return fmt.Sprintf("%d targets, accounts %v", len(f.targets), f.accounts)
}
