package initiator

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/internal/attr"
)

// session is one of /sys/class/iscsi_session with what hangs below it: see
// drivers/scsi/scsi_transport_iscsi.c.
type session struct {
	driver.Session
	addr  netip.AddrPort // of the persistent portal
	host  string         // SCSI host: hostN
	disks []string       // names in /sys/block
}

// attribute reads one line of /sys, "" if it isn't there (any more).
func attribute(path ...string) string {
	text, err := attr.Read(filepath.Join(path...))
	text = strings.TrimSpace(text)
	if err != nil || text == "(null)" {
		return ""
	}
	return text
}

// below lists the names in a directory of /sys, none if it isn't there (any more).
func below(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sessions reads all sessions, in order of their ids.
func (i *Initiator) sessions() ([]session, error) {
	class := filepath.Join(i.opt.Sys, "class/iscsi_session")
	entries, err := os.ReadDir(class)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the module was never loaded: no session
	}
	if err != nil {
		return nil, err
	}
	var all []session
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Name(), "session")
		n, err := strconv.Atoi(id)
		if !ok || err != nil {
			continue
		}
		if s, ok := i.readSession(filepath.Join(class, e.Name()), n); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b session) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// readSession reads one session; false if it has no name yet or is gone.
func (i *Initiator) readSession(dir string, id int) (session, bool) {
	s := session{Session: driver.Session{ID: id, IQN: attribute(dir, "targetname"), State: driver.SessionState(attribute(dir, "state"))}}
	if s.IQN == "" || s.State == "" {
		return s, false
	}
	conn := filepath.Join(i.opt.Sys, "class/iscsi_connection", fmt.Sprintf("connection%d:0", id))
	ip, err1 := netip.ParseAddr(attribute(conn, "persistent_address"))
	port, err2 := strconv.ParseUint(attribute(conn, "persistent_port"), 10, 16)
	if err1 == nil && err2 == nil {
		s.addr = netip.AddrPortFrom(ip, uint16(port))
		s.Address = s.addr.String()
	}
	// The link leads to .../hostN/sessionM/iscsi_session/sessionM.
	to, err := os.Readlink(dir)
	if err != nil {
		return s, false
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(dir), to)
	}
	device := filepath.Dir(filepath.Dir(to))
	s.host = filepath.Base(filepath.Dir(device))
	s.disks = disksBelow(device)
	slices.Sort(s.disks)
	if len(s.disks) > 0 {
		s.Device = filepath.Join(i.opt.Dev, s.disks[0])
	}
	return s, true
}

// disksBelow finds the disks of a session's device: targetH:C:T/H:C:T:L/block/NAME.
func disksBelow(device string) []string {
	var disks []string
	for _, target := range below(device) {
		if !strings.HasPrefix(target, "target") {
			continue
		}
		for _, unit := range below(filepath.Join(device, target)) {
			if strings.Count(unit, ":") == 3 {
				disks = append(disks, below(filepath.Join(device, target, unit, "block"))...)
			}
		}
	}
	return disks
}

// find returns the session with a target at an address, or ErrNotFound.
func (i *Initiator) find(iqn string, addr netip.AddrPort) (driver.Session, error) {
	all, err := i.matching(iqn, addr)
	if err != nil {
		return driver.Session{}, err
	}
	if len(all) == 0 {
		return driver.Session{}, fmt.Errorf("session: %w", driver.ErrNotFound)
	}
	return all[0].Session, nil
}

// matching returns the sessions with a target at an address, logged in ones first.
func (i *Initiator) matching(iqn string, addr netip.AddrPort) ([]session, error) {
	all, err := i.sessions()
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	all = slices.DeleteFunc(all, func(s session) bool { return s.IQN != iqn || s.addr != addr })
	slices.SortStableFunc(all, func(a, b session) int {
		return cmp.Compare(rank(a.State), rank(b.State))
	})
	return all, nil
}

func rank(s driver.SessionState) int {
	if s == driver.SessionLoggedIn {
		return 0
	}
	return 1
}
