package lio

import (
	"strconv"
	"strings"
)

// device is what a backstore's file info tells: iblock_show_configfs_dev_params in
// drivers/target/target_core_iblock.c.
type device struct {
	path         string // as given with udev_path, "" if none was
	readOnly     bool
	major, minor uint32 // 0:0 while the device isn't open
}

func parseDevice(info string) device {
	var d device
	for line := range strings.Lines(info) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "iBlock device:"); ok {
			if _, p, ok := strings.Cut(rest, "UDEV PATH: "); ok {
				p, ro, _ := strings.Cut(p, "  readonly: ")
				d.path, d.readOnly = strings.TrimSpace(p), strings.TrimSpace(ro) == "1"
			}
		}
		f := strings.Fields(line)
		if len(f) >= 4 && f[0] == "Major:" && f[2] == "Minor:" {
			major, err1 := strconv.ParseUint(f[1], 10, 32)
			minor, err2 := strconv.ParseUint(f[3], 10, 32)
			if err1 == nil && err2 == nil {
				d.major, d.minor = uint32(major), uint32(minor)
			}
		}
	}
	return d
}

// session is the state of an ACL's session.
type session int

const (
	sessionNone   session = iota // nobody is logged in
	sessionOther                 // one that comes or goes
	sessionLogged                // in full feature phase
)

// parseSession reads an ACL's file info: lio_target_nacl_info_show in
// drivers/target/iscsi/iscsi_target_configfs.c. The initiator chooses its alias,
// so the first line of the state that follows it counts, and nothing else.
func parseSession(info string) session {
	if strings.HasPrefix(info, "No active iSCSI Session") || strings.TrimSpace(info) == "" {
		return sessionNone
	}
	for line := range strings.Lines(info) {
		if state, ok := strings.CutPrefix(line, "Session State: "); ok {
			if strings.TrimSpace(state) == "TARG_SESS_STATE_LOGGED_IN" {
				return sessionLogged
			}
			return sessionOther
		}
	}
	return sessionOther
}

// parseSerial reads wwn/vpd_unit_serial.
func parseSerial(s string) string {
	_, serial, _ := strings.Cut(s, "Serial Number:")
	return strings.TrimSpace(serial)
}
