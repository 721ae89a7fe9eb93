package lio

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

const (
	// pingTime and pingTimeout (seconds, at least 3) are after how much silence an
	// initiator is pinged and how long it may take: a dead one's session is gone
	// within their sum instead of the 45 s that LIO has by default.
	pingTime    = "5"
	pingTimeout = "5"
	// noSecret unsets a CHAP secret; with authentication on, nobody gets in then.
	noSecret = "NULL"
	mapped   = "mapped" // name of the link from a mapped LUN to the target's
)

// aclName is the directory of an initiator: LIO compares names in lower case
// (RFC 3720 section 3.2.6.1).
func aclName(initiator string) string { return strings.ToLower(initiator) }

func aclPath(iqn, name string) string { return path.Join(tpgPath(iqn), "acls", name) }

// syncACLs makes exactly the initiators of t known to the target. Sessions of those that
// stay are not touched.
func (h *Helper) syncACLs(ctx context.Context, t driver.Target, undo *driver.Undo) error {
	want := make(map[string]driver.ACL, len(t.ACLs))
	for _, a := range t.ACLs {
		want[aclName(a.Initiator)] = a
	}
	have, err := h.fs.dirs(path.Join(tpgPath(t.IQN), "acls"))
	if err != nil {
		return fmt.Errorf("list ACLs: %w", err)
	}
	stands := make(map[string]bool)
	for _, name := range have {
		if stands[name] = true; want[name].Initiator == "" {
			if err := h.removeACL(ctx, t.IQN, name); err != nil {
				return err
			}
		}
	}
	for _, a := range t.ACLs {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := aclName(a.Initiator)
		if !stands[name] {
			undo.Add(func(ctx context.Context) error { return h.removeACL(ctx, t.IQN, name) })
		}
		if err := h.ensureACL(t, name, a.Credential); err != nil {
			return fmt.Errorf("let in %s: %w", a.Initiator, err)
		}
	}
	return nil
}

// ensureACL makes or finishes one ACL. The secret comes first: until the LUN is mapped
// there is nothing to be seen, and until the secret is set nobody gets in.
func (h *Helper) ensureACL(t driver.Target, name string, c driver.Credential) error {
	p := aclPath(t.IQN, name)
	if err := ensureDir(h.fs, p); err != nil {
		return err
	}
	protect := "0"
	if t.ReadOnly {
		protect = "1"
	}
	lun := path.Join(p, lunName)
	steps := []func() error{
		func() error { return set(h.fs, path.Join(p, "auth/userid"), c.User) },
		func() error { return set(h.fs, path.Join(p, "auth/password"), c.Secret) },
		func() error { return set(h.fs, path.Join(p, "attrib/nopin_timeout"), pingTime) },
		func() error { return set(h.fs, path.Join(p, "attrib/nopin_response_timeout"), pingTimeout) },
		func() error { return ensureDir(h.fs, lun) },
		func() error { return h.ensureLink(lunPath(t.IQN), lun, mapped) },
		func() error { return set(h.fs, path.Join(lun, "write_protect"), protect) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// removeACL ends the initiator's session and forgets it. The session goes
// first, so that the initiator sees a lost path, which it can queue on, and not errors of a
// LUN that vanished under it.
func (h *Helper) removeACL(ctx context.Context, iqn, name string) error {
	p := aclPath(iqn, name)
	info, err := h.fs.read(path.Join(p, "info"))
	if err != nil && !gone(err) {
		return fmt.Errorf("read ACL %s: %w", name, err)
	}
	if err == nil && parseSession(info) != sessionNone {
		if err := h.endSession(ctx, p); err != nil {
			return fmt.Errorf("end session of %s: %w", name, err)
		}
	}
	if err := h.removeACLDirs(p); err != nil {
		return fmt.Errorf("shut out %s: %w", name, err)
	}
	return nil
}

// endSession locks the initiator out and drops its session. A change of an
// ACL's queue depth is what makes LIO close the session of one initiator
// (core_tpg_set_initiator_node_queue_depth).
func (h *Helper) endSession(ctx context.Context, p string) error {
	if err := h.fs.write(path.Join(p, "auth/password"), noSecret); err != nil {
		return err
	}
	depth, err := h.fs.read(path.Join(p, "cmdsn_depth"))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(depth))
	if err != nil || n < 2 {
		n = 2
	}
	if err := h.fs.write(path.Join(p, "cmdsn_depth"), strconv.Itoa(n-1)); err != nil {
		return err
	}
	return h.waitSessionGone(ctx, p)
}

func (h *Helper) waitSessionGone(ctx context.Context, acl string) error {
	return h.poll(ctx, func() (bool, error) {
		info, err := h.fs.read(path.Join(acl, "info"))
		if gone(err) || err == nil && parseSession(info) == sessionNone {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		return false, fmt.Errorf("session stays: %w", driver.ErrBusy)
	})
}

// removeACLDirs takes an ACL's directory down. The kernel waits in the last step until
// no session holds it.
func (h *Helper) removeACLDirs(p string) error {
	dirs, err := h.fs.dirs(p)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !strings.HasPrefix(d, "lun_") {
			continue // the kernel's own groups go with the ACL
		}
		if err := h.removeLinked(path.Join(p, d)); err != nil {
			return err
		}
	}
	return removeDir(h.fs, p)
}

// removeLinked removes the links in a directory and the directory.
func (h *Helper) removeLinked(p string) error {
	links, err := h.fs.links(p)
	if err != nil && !gone(err) {
		return err
	}
	for _, l := range links {
		if err := h.fs.unlink(path.Join(p, l)); err != nil && !gone(err) {
			return err
		}
	}
	return removeDir(h.fs, p)
}

// ensureLink makes the link dir/name to target, unless a link stands in dir.
func (h *Helper) ensureLink(target, dir, name string) error {
	links, err := h.fs.links(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if len(links) > 0 {
		return nil
	}
	if err := h.fs.symlink(target, path.Join(dir, name)); err != nil {
		return fmt.Errorf("link %s: %w", dir, err)
	}
	return nil
}
