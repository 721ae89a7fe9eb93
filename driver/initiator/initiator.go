// Package initiator logs in to iSCSI targets with open-iscsi.
//
// Sessions and disks are read from /sys alone. The node record that iscsiadm
// wants is written into its database directly, because iscsiadm takes a CHAP secret only in its
// arguments; "iscsiadm --login" and "--logout" are all that is executed. iscsid
// logs in to many targets at once, and iscsiadm holds the lock of its database only
// while it reads, so logins to different targets run side by side.
package initiator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/internal/keylock"
)

const pollStep = 20 * time.Millisecond

// Options of an initiator. The zero value is right for a node.
type Options struct {
	Sys  string // /sys
	Dev  string // /dev
	Etc  string // /etc/iscsi
	Home string // of the node database: /etc/iscsi or /var/lib/iscsi, found if empty
	Lock string // of the node database: /run/lock/iscsi

	// LoginTimeout is what one login may take on the wire, 3 s if 0, rounded up to seconds.
	LoginTimeout time.Duration
	// ReplacementTimeout is for how long the commands of a lost session are held back
	// before they fail, 2 s if 0, rounded up to seconds.
	ReplacementTimeout time.Duration
	// PingInterval and PingTimeout tell a dead target from an idle one, 1 s each if 0.
	PingInterval, PingTimeout time.Duration
	// QueueDepth of the disk, 64 if 0.
	QueueDepth int
	// CommandTimeout is when the kernel begins to abort a command, 30 s if 0. It must
	// outlast a change of the target's own parent, while which the target holds commands.
	CommandTimeout time.Duration
	// LogoutTimeout bounds Logout beside its context, 20 s if 0.
	LogoutTimeout time.Duration
}

func (o *Options) setDefaults() {
	for _, s := range []struct {
		p *string
		v string
	}{{&o.Sys, "/sys"}, {&o.Dev, "/dev"}, {&o.Etc, "/etc/iscsi"}, {&o.Lock, "/run/lock/iscsi"}} {
		if *s.p == "" {
			*s.p = s.v
		}
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{
		{&o.LoginTimeout, 3 * time.Second},
		{&o.ReplacementTimeout, 2 * time.Second},
		{&o.PingInterval, time.Second},
		{&o.PingTimeout, time.Second},
		{&o.CommandTimeout, 30 * time.Second},
		{&o.LogoutTimeout, 20 * time.Second},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if o.QueueDepth <= 0 {
		o.QueueDepth = 64
	}
}

// Initiator implements driver.Initiator with open-iscsi.
type Initiator struct {
	run   command.Runner
	opt   Options
	locks keylock.Locks // by IQN

	behind    sync.WaitGroup // logins whose callers may have gone
	lockMu    sync.Mutex     // of breakLock
	lockStale time.Duration
}

var _ driver.Initiator = (*Initiator)(nil)

// New returns an initiator that executes iscsiadm with run.
func New(run command.Runner, o Options) *Initiator {
	o.setDefaults()
	return &Initiator{run: run, opt: o, lockStale: lockPatience}
}

// Name implements driver.Initiator: from initiatorname.iscsi, as iscsid reads it.
func (i *Initiator) Name(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	path := filepath.Join(i.opt.Etc, "initiatorname.iscsi")
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: initiator's name: %w; is open-iscsi installed?", driver.ErrUnavailable, err)
	}
	name := parseName(string(b))
	if name == "" {
		return "", fmt.Errorf("%w: %s has no InitiatorName", driver.ErrUnavailable, path)
	}
	return name, nil
}

func parseName(text string) string {
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		key, value, ok := strings.Cut(s.Text(), "=")
		if ok && strings.TrimSpace(key) == "InitiatorName" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

var (
	nameForm = regexp.MustCompile(`^(iqn|eui|naa)\.[A-Za-z0-9][A-Za-z0-9.:_-]*$`)
	wordForm = regexp.MustCompile(`^[!-~]*$`) // printable, no space: one line of a record
)

const maxName = 223 // bytes, RFC 3720 section 3.2.6.1

// check returns the portal's address, or what is wrong with p, without its secret.
func check(p driver.Portal) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(p.Address)
	if err != nil {
		return addr, fmt.Errorf("portal address %q is not IP:PORT", p.Address)
	}
	if len(p.IQN) > maxName || !nameForm.MatchString(p.IQN) {
		return addr, fmt.Errorf("target name %q is not an iSCSI name", p.IQN)
	}
	if !wordForm.MatchString(p.User) || !wordForm.MatchString(p.Secret) || (p.User == "") != (p.Secret == "") {
		return addr, fmt.Errorf("CHAP name or secret for target %s has unfit characters or is missing", p.IQN)
	}
	return addr, nil
}

// Login implements driver.Initiator. A session that is not logged in is given the
// replacement timeout to recover, then it is exchanged for a new one.
func (i *Initiator) Login(ctx context.Context, p driver.Portal) (driver.Session, error) {
	addr, err := check(p)
	if err != nil {
		return driver.Session{}, err
	}
	unlock, err := i.locks.Acquire(ctx, p.IQN)
	if err != nil {
		return driver.Session{}, fmt.Errorf("log in to %s: %w: an earlier change of it is not over: %w", p.IQN, driver.ErrBusy, err)
	}
	s, err := i.loginOrLeave(ctx, p, addr, unlock)
	if err != nil {
		return driver.Session{}, fmt.Errorf("log in to %s at %s: %w", p.IQN, p.Address, err)
	}
	return s, nil
}

// loginOrLeave returns when ctx ends, even if iscsiadm does not: that is waited for and
// undone behind the caller's back, with the target locked until then.
func (i *Initiator) loginOrLeave(ctx context.Context, p driver.Portal, addr netip.AddrPort, unlock func()) (driver.Session, error) {
	type outcome struct {
		session driver.Session
		err     error
	}
	done := make(chan outcome)
	i.behind.Go(func() {
		defer unlock()
		s, err := i.login(ctx, p, addr)
		select {
		case done <- outcome{s, err}:
		case <-ctx.Done():
			if err == nil { // nobody is there to take it; if it stays, whoever looks next sees it
				down, cancel := driver.Teardown(ctx)
				defer cancel()
				_ = i.logout(down, p.IQN, addr)
			}
		}
	})
	select {
	case o := <-done:
		return o.session, o.err
	case <-ctx.Done():
		return driver.Session{}, ctx.Err()
	}
}

func (i *Initiator) login(ctx context.Context, p driver.Portal, addr netip.AddrPort) (s driver.Session, err error) {
	s, err = i.find(p.IQN, addr)
	if err == nil && s.State == driver.SessionLoggedIn {
		return i.finish(ctx, s, addr)
	}
	if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return s, err
	}
	stale := err == nil
	if err := i.probe(ctx, addr); err != nil {
		return s, err
	}
	if stale {
		if s, err = i.recovered(ctx, p.IQN, addr); err == nil {
			return i.finish(ctx, s, addr)
		}
		if err := i.logout(ctx, p.IQN, addr); err != nil {
			return s, err
		}
	}
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	undo.Add(func(ctx context.Context) error { return i.logout(ctx, p.IQN, addr) })
	if err := i.writeRecord(p, addr); err != nil {
		return s, err
	}
	if err := i.iscsiadm(ctx, "-m", "node", "-T", p.IQN, "-p", addr.String(), "--login"); err != nil && exitCode(err) != codeSessionExists {
		return s, explain(err)
	}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	if s, err = i.find(p.IQN, addr); err != nil {
		return s, fmt.Errorf("logged in, but there is no session: %w", err)
	}
	return i.finish(ctx, s, addr)
}

// probe tells at once whether anybody listens: iscsid takes the whole login timeout
// to report a refused connection.
func (i *Initiator) probe(ctx context.Context, addr netip.AddrPort) error {
	d := net.Dialer{Timeout: i.opt.LoginTimeout}
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("%w: %w", driver.ErrUnreachable, err)
	}
	return c.Close()
}

// recovered waits for iscsid to bring a lost session back.
func (i *Initiator) recovered(ctx context.Context, iqn string, addr netip.AddrPort) (s driver.Session, err error) {
	ctx, cancel := context.WithTimeout(ctx, i.opt.ReplacementTimeout)
	defer cancel()
	err = poll(ctx, func() (bool, error) {
		if s, err = i.find(iqn, addr); err != nil {
			return true, err
		}
		if s.State == driver.SessionLoggedIn {
			return true, nil
		}
		return false, fmt.Errorf("%w: session is %s", driver.ErrUnreachable, s.State)
	})
	return s, err
}

// Sessions implements driver.Initiator.
func (i *Initiator) Sessions(ctx context.Context, prefix string) ([]driver.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := i.sessions()
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var out []driver.Session
	for _, s := range all {
		if strings.HasPrefix(s.IQN, prefix) {
			out = append(out, s.Session)
		}
	}
	return out, nil
}

// poll calls check until it says true or ctx ends, and returns its last error.
func poll(ctx context.Context, check func() (bool, error)) error {
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
