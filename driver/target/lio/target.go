package lio

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/vmthunder/vmthunder/driver"
)

const (
	// loginTime (seconds, 5 to 30) is what one login may take; a stuck one holds the listener.
	loginTime = "5"
	// commandDepth is how many commands a session may have under way.
	commandDepth = "128"
)

// attributes of the portal group. Only known initiators get in, with a secret, and
// discovery tells nobody of the target.
func attributes(t driver.Target) [][2]string {
	protect := "0"
	if t.ReadOnly {
		protect = "1"
	}
	return [][2]string{
		{"authentication", "1"},
		{"generate_node_acls", "0"},
		{"demo_mode_write_protect", "1"},
		{"demo_mode_discovery", "0"},
		{"prod_mode_write_protect", protect}, // of LUNs as they are mapped
		{"login_timeout", loginTime},
		{"default_cmdsn_depth", commandDepth},
	}
}

// standsFor says whether the target's lasting parts stand, finished and as t wants them:
// the backstore, the portal group and the LUN.
func (h *Helper) standsFor(t driver.Target) (bool, error) {
	links, err := h.fs.links(lunPath(t.IQN))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read LUN: %w", err)
	}
	if len(links) != 1 {
		return false, nil
	}
	store, err := h.fs.readlink(path.Join(lunPath(t.IQN), links[0]))
	if err != nil {
		return false, fmt.Errorf("read LUN: %w", err)
	}
	if path.Base(store) != t.IQN {
		return false, fmt.Errorf("LUN is on backstore %s, which is not ours: %w", store, driver.ErrExists)
	}
	return h.backstoreMatches(store, t)
}

// createTarget makes all but portals and ACLs, disabled.
func (h *Helper) createTarget(ctx context.Context, t driver.Target) error {
	store, err := h.createBackstore(t)
	if err != nil {
		return err
	}
	for _, dir := range []string{targetPath(t.IQN), tpgPath(t.IQN)} {
		if err := ensureDir(h.fs, dir); err != nil {
			return h.available(err)
		}
	}
	if err := h.setAttributes(t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ensureDir(h.fs, lunPath(t.IQN)); err != nil {
		return err
	}
	return h.ensureLink(store, lunPath(t.IQN), storeLink)
}

func (h *Helper) setAttributes(t driver.Target) error {
	for _, a := range attributes(t) {
		if err := set(h.fs, path.Join(tpgPath(t.IQN), "attrib", a[0]), a[1]); err != nil {
			return err
		}
	}
	return nil
}

// syncPortals makes the target listen where t says and nowhere else.
func (h *Helper) syncPortals(t driver.Target) error {
	dir := path.Join(tpgPath(t.IQN), "np")
	if err := ensureDir(h.fs, path.Join(dir, t.Portal)); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("listen on %s: %w: another program (tgtd?) listens there: %w", t.Portal, driver.ErrBusy, err)
		}
		return fmt.Errorf("listen on %s: %w", t.Portal, err)
	}
	portals, err := h.fs.dirs(dir)
	if err != nil {
		return fmt.Errorf("list portals: %w", err)
	}
	for _, p := range portals {
		if p != t.Portal {
			if err := removeDir(h.fs, path.Join(dir, p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes the target and its backstore away, from whatever state they are in.
func (h *Helper) remove(ctx context.Context, iqn string) error {
	groups, err := h.fs.dirs(targetPath(iqn))
	if err != nil && !gone(err) {
		return err
	}
	for _, g := range groups {
		if !strings.HasPrefix(g, "tpgt_") {
			continue
		}
		if err := h.removeGroup(ctx, path.Join(targetPath(iqn), g)); err != nil {
			return err
		}
	}
	if err := removeDir(h.fs, targetPath(iqn)); err != nil {
		return err
	}
	store, err := h.findBackstore(iqn)
	if err != nil {
		if gone(err) {
			return nil // LIO is not even loaded
		}
		return err
	}
	if store != "" {
		if err := h.removeBackstore(ctx, store); err != nil {
			return err
		}
	}
	return h.removeHBA()
}

// removeGroup takes a portal group down: no new logins, no sessions, then the parts.
func (h *Helper) removeGroup(ctx context.Context, tpg string) error {
	if err := set(h.fs, path.Join(tpg, "enable"), "0"); err != nil && !gone(err) {
		return err
	}
	acls, err := h.fs.dirs(path.Join(tpg, "acls"))
	if err != nil && !gone(err) {
		return err
	}
	for _, a := range acls {
		p := path.Join(tpg, "acls", a)
		if err := h.waitSessionGone(ctx, p); err != nil {
			return fmt.Errorf("end session of %s: %w", a, err)
		}
		if err := h.removeACLDirs(p); err != nil {
			return err
		}
	}
	luns, err := h.fs.dirs(path.Join(tpg, "lun"))
	if err != nil && !gone(err) {
		return err
	}
	for _, l := range luns {
		if err := h.removeLinked(path.Join(tpg, "lun", l)); err != nil {
			return err
		}
	}
	portals, err := h.fs.dirs(path.Join(tpg, "np"))
	if err != nil && !gone(err) {
		return err
	}
	for _, p := range portals {
		if err := removeDir(h.fs, path.Join(tpg, "np", p)); err != nil {
			return err
		}
	}
	return removeDir(h.fs, tpg)
}

// state reads a target, or an orphaned backstore, from configfs.
func (h *Helper) state(iqn string) (driver.TargetState, error) {
	s := driver.TargetState{IQN: iqn}
	store, err := h.findBackstore(iqn)
	if err != nil {
		return s, err
	}
	if store != "" {
		info, err := h.fs.read(path.Join(store, "info"))
		if err != nil && !gone(err) {
			return s, fmt.Errorf("read target %s: %w", iqn, err)
		}
		d := parseDevice(info)
		s.Device, s.ReadOnly = d.path, d.readOnly
	}
	acls, err := h.fs.dirs(path.Join(tpgPath(iqn), "acls"))
	if gone(err) {
		if store == "" {
			if _, err := h.fs.dirs(targetPath(iqn)); gone(err) {
				return s, fmt.Errorf("target %s: %w", iqn, driver.ErrNotFound)
			}
		}
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read target %s: %w", iqn, err)
	}
	slices.Sort(acls)
	for _, a := range acls {
		info, err := h.fs.read(path.Join(aclPath(iqn, a), "info"))
		if gone(err) {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("read target %s: %w", iqn, err)
		}
		s.ACLs = append(s.ACLs, a)
		if parseSession(info) == sessionLogged {
			s.Sessions = append(s.Sessions, a)
		}
	}
	return s, nil
}
