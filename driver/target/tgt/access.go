package tgt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/vmthunder/vmthunder/driver"
)

// guard is the name of the account that keeps CHAP on: the target's own.
func guard(iqn string) string { return iqn }

func secretKey(iqn, user string) string { return iqn + "\x00" + user }

// known says whether this Helper has set the secret of c.
func (h *Helper) known(iqn string, c driver.Credential) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.secrets[secretKey(iqn, c.User)] == sha256.Sum256([]byte(c.Secret))
}

func (h *Helper) remember(iqn string, c driver.Credential) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets[secretKey(iqn, c.User)] = sha256.Sum256([]byte(c.Secret))
}

func (h *Helper) forget(iqn, user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.secrets, secretKey(iqn, user))
}

// shutOut lets those in no longer who aren't in t, and ends their sessions.
func (h *Helper) shutOut(ctx context.Context, now target, t driver.Target) error {
	want := make(map[string]bool)
	for _, a := range t.ACLs {
		want[a.Initiator] = true
	}
	for _, a := range now.acls {
		if !want[a] {
			if err := h.unbindACL(ctx, now.tid, a); err != nil {
				return err
			}
		}
	}
	return h.endSessions(ctx, now, func(initiator string) bool { return !want[initiator] })
}

// letIn lets the initiators of t in.
func (h *Helper) letIn(ctx context.Context, now target, t driver.Target, undo *driver.Undo) error {
	for _, a := range t.ACLs {
		if slices.Contains(now.acls, a.Initiator) {
			continue
		}
		undo.Add(func(ctx context.Context) error { return h.unbindACL(ctx, now.tid, a.Initiator) })
		_, err := h.call(ctx, request{Mode: modeTarget, Op: opBind, TID: now.tid}, "initiator-name="+a.Initiator)
		if err != nil && !errors.Is(err, codeACLExists) {
			return fmt.Errorf("let in %s: %w", a.Initiator, err)
		}
	}
	return nil
}

func (h *Helper) unbindACL(ctx context.Context, tid int32, who string) error {
	// tgtd takes names and addresses by different words; a wrong one is just not found.
	for _, word := range []string{"initiator-name=", "initiator-address="} {
		_, err := h.call(ctx, request{Mode: modeTarget, Op: opUnbind, TID: tid}, word+who)
		if err != nil && !errors.Is(err, codeNoACL) && !errors.Is(err, codeNoTarget) {
			return fmt.Errorf("shut out %s: %w", who, err)
		}
	}
	return nil
}

// endSessions closes the connections of initiators that which chooses, and waits until
// their sessions are gone.
func (h *Helper) endSessions(ctx context.Context, now target, which func(initiator string) bool) error {
	return h.poll(ctx, func() (bool, error) {
		text, err := h.call(ctx, request{Mode: modeConnection, Op: opShow, TID: now.tid}, "")
		if errors.Is(err, codeNoTarget) {
			return true, nil
		}
		if err != nil {
			return true, fmt.Errorf("list connections: %w", err)
		}
		busy := false
		for _, c := range parseConnections(text) {
			if !which(c.initiator) {
				continue
			}
			busy = true
			_, err := h.call(ctx, request{Mode: modeConnection, Op: opDelete, TID: now.tid, SID: c.sid, CID: c.cid}, "")
			if err != nil && !errors.Is(err, codeNoSession) && !errors.Is(err, codeNoConnection) {
				return true, fmt.Errorf("end session of %s: %w", c.initiator, err)
			}
		}
		if !busy {
			// A session outlives its connection while commands are under way.
			t, err := h.find(ctx, now.iqn)
			if err != nil && !errors.Is(err, driver.ErrNotFound) {
				return true, err
			}
			busy = slices.ContainsFunc(t.nexus, which)
		}
		if busy {
			return false, fmt.Errorf("session stays: %w", driver.ErrBusy)
		}
		return true, nil
	})
}

// syncAccounts makes the bound accounts those of t, with its secrets.
func (h *Helper) syncAccounts(ctx context.Context, now target, t driver.Target, undo *driver.Undo) error {
	want := make(map[string]driver.Credential, len(t.ACLs))
	for _, a := range t.ACLs {
		if c, ok := want[a.User]; ok && c != a.Credential || a.User == guard(t.IQN) {
			return fmt.Errorf("CHAP user %s has two secrets: %w", a.User, driver.ErrExists)
		}
		want[a.User] = a.Credential
	}
	fits := make(map[string]bool)
	for _, user := range now.accounts {
		c, ok := want[user]
		fits[user] = user == guard(t.IQN) || ok && h.known(t.IQN, c)
	}
	if err := h.takeAccounts(ctx, t.IQN, func(user string) bool { return !fits[user] }); err != nil {
		return err
	}
	undo.Add(func(ctx context.Context) error {
		return h.takeAccounts(ctx, t.IQN, func(user string) bool { return !slices.Contains(now.accounts, user) })
	})
	for _, a := range t.ACLs {
		if fits[a.User] {
			continue
		}
		fits[a.User] = true
		if err := h.bindAccount(ctx, now.tid, t.IQN, a.Credential); err != nil {
			return err
		}
	}
	return nil
}

// takeAccounts unbinds and deletes the target's accounts that which chooses.
//
// tgtd keeps a target's accounts in an array of which it reads the first so many.
// Unbinding one in the middle leaves a hole: the last account is no longer found, and
// the next "show" ends tgtd with a null pointer. So all are unbound from the
// end up to the first that has to go, and those that stay are bound again.
func (h *Helper) takeAccounts(ctx context.Context, iqn string, which func(user string) bool) error {
	now, err := h.find(ctx, iqn)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	first := slices.IndexFunc(now.accounts, which)
	if first < 0 {
		return nil
	}
	tail := now.accounts[first:]
	for _, user := range slices.Backward(tail) {
		if err := h.accountOf(ctx, opUnbind, now.tid, user); err != nil && !errors.Is(err, codeNoUser) {
			return fmt.Errorf("unbind CHAP account %s: %w", user, err)
		}
	}
	for _, user := range tail {
		if which(user) {
			if err := h.dropAccount(ctx, iqn, user); err != nil {
				return err
			}
			continue
		}
		if err := h.accountOf(ctx, opBind, now.tid, user); err != nil && !errors.Is(err, codeUserExists) {
			return fmt.Errorf("bind CHAP account %s: %w", user, err)
		}
	}
	return nil
}

// accountOf binds an account to a target or unbinds it.
func (h *Helper) accountOf(ctx context.Context, op uint32, tid int32, user string) error {
	_, err := h.call(ctx, request{Mode: modeAccount, Op: op, TID: tid}, "user="+user)
	return err
}

// bindAccount makes an account with a secret, if it isn't known to be there, and binds it.
func (h *Helper) bindAccount(ctx context.Context, tid int32, iqn string, c driver.Credential) (err error) {
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	known := h.known(iqn, c)
	if !known {
		if err := h.dropAccount(ctx, iqn, c.User); err != nil {
			return err
		}
		undo.Add(func(ctx context.Context) error { return h.dropAccount(ctx, iqn, c.User) })
		r := request{Mode: modeAccount, Op: opNew, TID: allTargets}
		if _, err := h.call(ctx, r, "user="+c.User+",password="+c.Secret); err != nil {
			return fmt.Errorf("make CHAP account %s: %w", c.User, err)
		}
		h.remember(iqn, c)
	}
	err = h.accountOf(ctx, opBind, tid, c.User)
	if known && errors.Is(err, codeNoUser) { // tgtd was restarted since
		h.forget(iqn, c.User)
		return h.bindAccount(ctx, tid, iqn, c)
	}
	if err != nil && !errors.Is(err, codeUserExists) {
		return fmt.Errorf("bind CHAP account %s: %w", c.User, err)
	}
	return nil
}

func (h *Helper) bindGuard(ctx context.Context, tid int32, iqn string) error {
	h.forget(iqn, guard(iqn))
	return h.bindAccount(ctx, tid, iqn, driver.Credential{User: guard(iqn), Secret: rand.Text()})
}

// dropAccount deletes an account of iqn. tgtd would unbind it from all targets, with the
// holes that takeAccounts avoids, so one that another target has too is left alone.
func (h *Helper) dropAccount(ctx context.Context, iqn, user string) error {
	all, err := h.targets(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if slices.Contains(t.accounts, user) {
			return fmt.Errorf("CHAP user %s belongs to target %s (tgtd has one secret for a user on a node): %w", user, t.iqn, driver.ErrExists)
		}
	}
	h.forget(iqn, user)
	_, err = h.call(ctx, request{Mode: modeAccount, Op: opDelete, TID: allTargets}, "user="+user)
	if err != nil && !errors.Is(err, codeNoUser) {
		return fmt.Errorf("delete CHAP account %s: %w", user, err)
	}
	return nil
}
