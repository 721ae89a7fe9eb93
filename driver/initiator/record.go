package initiator

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// portalGroup is that of all targets that this program makes.
const portalGroup = 1

// home is the folder of the database: open-iscsi's own default, used by Debian and Ubuntu, is
// /etc/iscsi, Red Hat's is /var/lib/iscsi.
func (i *Initiator) home() string {
	if i.opt.Home != "" {
		return i.opt.Home
	}
	for _, dir := range []string{"/etc/iscsi", "/var/lib/iscsi"} {
		if st, err := os.Stat(filepath.Join(dir, "nodes")); err == nil && st.IsDir() {
			return dir
		}
	}
	if st, err := os.Stat("/var/lib/iscsi"); err == nil && st.IsDir() {
		return "/var/lib/iscsi"
	}
	return "/etc/iscsi"
}

func (i *Initiator) targetDir(iqn string) string { return filepath.Join(i.home(), "nodes", iqn) }

// portalDir holds the records of a portal, one file per interface: IP,PORT,TPGT.
func (i *Initiator) portalDir(iqn string, addr netip.AddrPort) string {
	return filepath.Join(i.targetDir(iqn), fmt.Sprintf("%s,%d,%d", addr.Addr(), addr.Port(), portalGroup))
}

// seconds rounds up to whole seconds, which is all that a record takes.
func seconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}

// record is a node record as iscsiadm 2.1.8 writes it (idbm_print in usr/idbm.c). What is
// left out has iscsid's default. There are no retries: who calls knows better when to
// try again, and meanwhile a login that can't succeed would block the next one.
func (i *Initiator) record(p driver.Portal, addr netip.AddrPort) string {
	lines := [][2]string{
		{"node.name", p.IQN},
		{"node.tpgt", strconv.Itoa(portalGroup)},
		{"node.startup", "manual"},
		{"node.leading_login", "No"},
		{"iface.iscsi_ifacename", "default"},
		{"iface.transport_name", "tcp"},
		{"node.discovery_type", "static"},
		{"node.session.initial_cmdsn", "0"},
		{"node.session.initial_login_retry_max", "0"},
		{"node.session.xmit_thread_priority", "-20"},
		{"node.session.cmds_max", strconv.Itoa(commandsMax(i.opt.QueueDepth))},
		{"node.session.queue_depth", strconv.Itoa(i.opt.QueueDepth)},
		{"node.session.nr_sessions", "1"},
		{"node.session.auth.authmethod", "None"},
	}
	if p.User != "" {
		lines[len(lines)-1][1] = "CHAP"
		lines = append(lines, [2]string{"node.session.auth.username", p.User}, [2]string{"node.session.auth.password", p.Secret})
	}
	lines = append(lines, [][2]string{
		{"node.session.auth.chap_algs", "MD5"}, // what both targets have
		{"node.session.timeo.replacement_timeout", seconds(i.opt.ReplacementTimeout)},
		{"node.session.err_timeo.abort_timeout", "5"},
		{"node.session.err_timeo.lu_reset_timeout", "5"},
		{"node.session.err_timeo.tgt_reset_timeout", "5"},
		{"node.session.err_timeo.host_reset_timeout", "10"},
		{"node.session.iscsi.FastAbort", "Yes"},
		{"node.session.iscsi.InitialR2T", "No"},
		{"node.session.iscsi.ImmediateData", "Yes"},
		{"node.session.iscsi.FirstBurstLength", "262144"},
		{"node.session.iscsi.MaxBurstLength", "16776192"},
		{"node.session.iscsi.DefaultTime2Retain", "0"},
		{"node.session.iscsi.DefaultTime2Wait", "1"}, // 0 would try a lost session again a hundred times a second
		{"node.session.iscsi.MaxConnections", "1"},
		{"node.session.iscsi.MaxOutstandingR2T", "1"},
		{"node.session.iscsi.ERL", "0"},
		{"node.session.scan", "auto"},
		{"node.session.reopen_max", "0"},
		{"node.conn[0].address", addr.Addr().String()},
		{"node.conn[0].port", strconv.Itoa(int(addr.Port()))},
		{"node.conn[0].startup", "manual"},
		{"node.conn[0].tcp.window_size", "524288"},
		{"node.conn[0].tcp.type_of_service", "0"},
		{"node.conn[0].timeo.logout_timeout", "2"},
		{"node.conn[0].timeo.login_timeout", seconds(i.opt.LoginTimeout)},
		{"node.conn[0].timeo.auth_timeout", seconds(i.opt.LoginTimeout)},
		{"node.conn[0].timeo.noop_out_interval", seconds(i.opt.PingInterval)},
		{"node.conn[0].timeo.noop_out_timeout", seconds(i.opt.PingTimeout)},
		{"node.conn[0].iscsi.MaxXmitDataSegmentLength", "0"},
		{"node.conn[0].iscsi.MaxRecvDataSegmentLength", "262144"},
		{"node.conn[0].iscsi.HeaderDigest", "None"},
		{"node.conn[0].iscsi.DataDigest", "None"},
		{"node.conn[0].iscsi.IFMarker", "No"},
		{"node.conn[0].iscsi.OFMarker", "No"},
	}...)
	var b strings.Builder
	b.WriteString("# BEGIN RECORD 2.1.8\n")
	for _, l := range lines {
		b.WriteString(l[0] + " = " + l[1] + "\n")
	}
	b.WriteString("# END RECORD\n")
	return b.String()
}

// commandsMax is a power of two not below the depth, as libiscsi wants it.
func commandsMax(depth int) int {
	n := 128
	for n < depth {
		n *= 2
	}
	return n
}

// writeRecord puts the record of p into the database. Others read the database meanwhile,
// so the file comes in by a rename, from beside the targets' folders: further out may be
// another file system.
func (i *Initiator) writeRecord(p driver.Portal, addr netip.AddrPort) error {
	dir := i.portalDir(p.IQN, addr)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node record: %w", err)
	}
	f, err := os.CreateTemp(filepath.Join(i.home(), "nodes"), ".vmthunder-record-*") // mode 0600
	if err != nil {
		return fmt.Errorf("node record: %w", err)
	}
	_, err = f.WriteString(i.record(p, addr))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, "default"))
	}
	if err != nil {
		return fmt.Errorf("node record: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// removeRecord deletes the records of a portal, whoever wrote them and for whatever portal
// group, and the target's folder if it was its last.
func (i *Initiator) removeRecord(iqn string, addr netip.AddrPort) error {
	dir := i.targetDir(iqn)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node record: %w", err)
	}
	prefix := fmt.Sprintf("%s,%d", addr.Addr(), addr.Port())
	for _, e := range entries {
		if e.Name() == prefix || strings.HasPrefix(e.Name(), prefix+",") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("node record: %w", err)
			}
		}
	}
	err = unix.Rmdir(dir)
	if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("node record: remove %s: %w", dir, err)
	}
	return nil
}
