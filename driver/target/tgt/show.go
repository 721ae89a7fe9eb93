package tgt

import (
	"net/netip"
	"strconv"
	"strings"
)

// target is one of tgtd's targets, as tgt_target_show_all in tgt's usr/target.c prints it.
type target struct {
	tid      int32
	iqn      string
	nexus    []string // initiators logged in
	luns     []lun
	accounts []string // bound, in tgtd's own order, which matters (see syncAccounts)
	acls     []string // initiator names and addresses let in
}

type lun struct {
	number   uint64
	serial   string
	readOnly bool
	online   bool
	path     string // "" if there is none
	flags    string
}

// disk returns the target's LUN 1; LUN 0 is tgtd's controller.
func (t target) disk() (lun, bool) {
	for _, l := range t.luns {
		if l.number == diskLUN {
			return l, true
		}
	}
	return lun{}, false
}

// parseTargets reads the answer to "show all targets". Depth of indentation tells
// sections (4) from their entries (8) and what belongs to these (12 and more).
func parseTargets(text string) []target {
	var all []target
	var section string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		word := strings.TrimLeft(line, " ")
		indent := len(line) - len(word)
		if indent == 0 {
			if rest, ok := strings.CutPrefix(line, "Target "); ok {
				id, iqn, _ := strings.Cut(rest, ": ")
				if n, err := strconv.ParseInt(id, 10, 32); err == nil {
					all = append(all, target{tid: int32(n), iqn: iqn})
				}
			}
			section = ""
			continue
		}
		if len(all) == 0 {
			continue
		}
		t := &all[len(all)-1]
		switch {
		case indent == 4:
			section = word
		case section == "LUN information:":
			parseLUN(t, indent, word)
		case section == "I_T nexus information:" && indent == 12:
			if rest, ok := strings.CutPrefix(word, "Initiator: "); ok {
				name, _, _ := strings.Cut(rest, " alias: ")
				t.nexus = append(t.nexus, name)
			}
		case section == "Account information:" && indent == 8:
			if !strings.HasSuffix(word, " (outgoing)") {
				t.accounts = append(t.accounts, word)
			}
		case section == "ACL information:" && indent == 8:
			t.acls = append(t.acls, word)
		}
	}
	return all
}

func parseLUN(t *target, indent int, word string) {
	key, value, _ := strings.Cut(word, ": ")
	if indent == 8 && key == "LUN" {
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			t.luns = append(t.luns, lun{number: n})
		}
		return
	}
	if indent != 12 || len(t.luns) == 0 {
		return
	}
	l := &t.luns[len(t.luns)-1]
	switch key {
	case "SCSI SN":
		l.serial = value
	case "Online":
		l.online = value == "Yes"
	case "Readonly":
		l.readOnly = value == "Yes"
	case "Backing store path":
		if value != "None" {
			l.path = value
		}
	case "Backing store flags":
		l.flags = strings.TrimSpace(value)
	}
}

// connection of a session; iscsi_target_show_connections in tgt's usr/iscsi/target.c.
type connection struct {
	sid       uint64
	cid       uint32
	initiator string
}

func parseConnections(text string) []connection {
	var all []connection
	var sid uint64
	var open bool
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Session":
			n, err := strconv.ParseUint(value, 10, 64)
			sid, open = n, err == nil
		case "Connection":
			if n, err := strconv.ParseUint(value, 10, 32); err == nil && open {
				all = append(all, connection{sid: sid, cid: uint32(n)})
			}
		case "Initiator":
			if len(all) > 0 && all[len(all)-1].initiator == "" {
				all[len(all)-1].initiator = value
			}
		}
	}
	return all
}

// parsePortals reads lines "Portal: IP:PORT,TPGT".
func parsePortals(text string) []netip.AddrPort {
	var all []netip.AddrPort
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Portal: ")
		if !ok {
			continue
		}
		addr, _, _ := strings.Cut(rest, ",")
		if a, err := netip.ParseAddrPort(addr); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// listens says whether one of portals takes connections to want.
func listens(portals []netip.AddrPort, want netip.AddrPort) bool {
	for _, p := range portals {
		if p.Port() == want.Port() && (p.Addr() == want.Addr() || p.Addr().IsUnspecified() && p.Addr().Is4() == want.Addr().Is4()) {
			return true
		}
	}
	return false
}
