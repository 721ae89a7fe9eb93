//go:build kernel

package target_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/initiator"
	"github.com/vmthunder/vmthunder/driver/target"
	"github.com/vmthunder/vmthunder/driver/target/lio"
	"github.com/vmthunder/vmthunder/driver/target/tgt"
)

func lioBed() *bed {
	return &bed{helper: func() driver.TargetHelper { return lio.New("") }, portal: "127.0.0.1:3260"}
}

func tgtBed() *bed {
	return &bed{helper: func() driver.TargetHelper { return tgt.New("") }, portal: "127.0.0.1:3261"}
}

func TestKernelLIO(t *testing.T) {
	prepare(t)
	b := lioBed()
	t.Run("Target", func(t *testing.T) { drivertest.Target(t, b) })
	t.Run("Initiator", func(t *testing.T) { drivertest.Initiator(t, b) })
	t.Run("NothingIsLeft", func(t *testing.T) {
		for _, pattern := range []string{"core/iblock_*", "iscsi/iqn.*"} {
			if left, _ := filepath.Glob(lio.DefaultRoot + "/" + pattern); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
		recordsGone(t)
	})
	t.Run("StuckDevice", func(t *testing.T) { stuckDevice(t, b) })
	t.Run("DeviceInUse", func(t *testing.T) {
		dev := b.Device(t)
		f, err := os.OpenFile(dev, os.O_RDONLY|os.O_EXCL, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = b.Target().Ensure(t.Context(), driver.Target{IQN: driver.IQNPrefix + "busy", Device: dev, Portal: b.portal})
		if !errors.Is(err, driver.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		if left, _ := filepath.Glob(lio.DefaultRoot + "/core/iblock_*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestKernelTgt(t *testing.T) {
	prepare(t)
	if err := os.MkdirAll("/run/tgtd", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tgt.New("").Available(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("without tgtd: %v, want ErrUnavailable", err)
	}
	daemon(t, "tgtd", "-f", "--iscsi", "portal=127.0.0.1:3262") // the portal of the tests is for Ensure to add
	b := tgtBed()
	await(t, "tgtd", func() bool { return tgt.New("").Available(t.Context()) == nil })
	t.Run("Target", func(t *testing.T) { drivertest.Target(t, b) })
	t.Run("Initiator", func(t *testing.T) { drivertest.Initiator(t, b) })
	t.Run("NothingIsLeft", func(t *testing.T) {
		for _, mode := range []string{"target", "account"} {
			if left := run(t, "tgtadm", "--lld", "iscsi", "--mode", mode, "--op", "show"); strings.TrimSpace(left) != "" {
				t.Errorf("left: %s", left)
			}
		}
		recordsGone(t)
	})
	t.Run("StuckDevice", func(t *testing.T) { stuckDevice(t, b) })
	t.Run("ManyAccounts", func(t *testing.T) { manyAccounts(t, b) })
	t.Run("Choose", func(t *testing.T) {
		for name, want := range map[string]string{"auto": "lioadm", "tgtadm": "tgtadm", "lioadm": "lioadm"} {
			h, reason, err := target.Choose(t.Context(), name, target.Options{})
			if err != nil || h.Name() != want || reason == "" {
				t.Errorf("%s: %v %q %v", name, h, reason, err)
			}
		}
		h, _, err := target.Choose(t.Context(), "auto", target.Options{ConfigRoot: t.TempDir()})
		if err != nil || h.Name() != "tgtadm" {
			t.Errorf("without LIO: %v %v", h, err)
		}
	})
}

// manyAccounts takes accounts from the middle of many, which tgtd itself does not survive,
// while the node's initiator stays.
func manyAccounts(t *testing.T, b *bed) {
	name, err := b.Initiator().Name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tt := driver.Target{IQN: driver.IQNPrefix + "many", Device: b.Device(t), Portal: b.portal, ReadOnly: true}
	h := b.Target()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(b.Initiator().Logout(ctx, tt.IQN, b.portal), h.Remove(ctx, tt.IQN)); err != nil {
			t.Error(err)
		}
	})
	for n := range 20 {
		id := string(rune('a' + n))
		tt.ACLs = append(tt.ACLs, driver.ACL{Initiator: "iqn.2026-11.org.test:" + id, Credential: driver.Credential{User: "user-" + id, Secret: "secret-of-user-" + id}})
	}
	own := driver.Credential{User: "user-own", Secret: "secret-of-own"}
	tt.ACLs = append(tt.ACLs, driver.ACL{Initiator: name, Credential: own})
	for len(tt.ACLs) > 1 {
		if _, err := h.Ensure(t.Context(), tt); err != nil {
			t.Fatal(err)
		}
		s, err := b.Initiator().Login(t.Context(), driver.Portal{Address: b.portal, IQN: tt.IQN, Credential: own})
		if err != nil {
			t.Fatalf("with %d initiators: %v", len(tt.ACLs), err)
		}
		if err := b.Initiator().Logout(t.Context(), s.IQN, s.Address); err != nil {
			t.Fatal(err)
		}
		middle := len(tt.ACLs) / 2
		tt.ACLs = slices.Delete(tt.ACLs, max(0, middle-3), middle)
	}
}

// stuckDevice removes a target whose device holds a read back, as one does whose own parent
// is gone: the caller gets an answer, and a later call succeeds.
func stuckDevice(t *testing.T, b *bed) {
	name, err := b.Initiator().Name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := driver.Credential{User: "user-stuck", Secret: "secret-of-stuck"}
	tt := driver.Target{IQN: driver.IQNPrefix + "stuck", Device: b.Device(t), Portal: b.portal, ReadOnly: true, ACLs: []driver.ACL{{Initiator: name, Credential: c}}}
	h, i := b.Target(), b.Initiator()
	if _, err := h.Ensure(t.Context(), tt); err != nil {
		t.Fatal(err)
	}
	s, err := i.Login(t.Context(), driver.Portal{Address: b.portal, IQN: tt.IQN, Credential: c})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "dmsetup", "suspend", filepath.Base(tt.Device))
	read := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(s.Device, os.O_RDONLY, 0)
		if err == nil {
			_, err = f.ReadAt(make([]byte, 4096), 1<<20)
			_ = f.Close()
		}
		read <- err
	}()
	await(t, "a read to get stuck", func() bool {
		text, err := os.ReadFile("/sys/block/" + filepath.Base(s.Device) + "/inflight")
		return err == nil && !strings.HasPrefix(strings.TrimSpace(string(text)), "0")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	start := time.Now()
	err = h.Remove(ctx, tt.IQN)
	t.Logf("removal gave up after %v: %v", time.Since(start), err)
	if !errors.Is(err, driver.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	run(t, "dmsetup", "resume", filepath.Base(tt.Device))
	if err := h.Remove(t.Context(), tt.IQN); err != nil {
		t.Error(err)
	}
	b.RemoveDevice(t, tt.Device)
	if err := i.Logout(t.Context(), tt.IQN, b.portal); err != nil {
		t.Error(err)
	}
	<-read
}

func recordsGone(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/etc/iscsi/nodes/*", "/etc/iscsi/.vmthunder*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestKernelInitiator looks at what only the kernel shows.
func TestKernelInitiator(t *testing.T) {
	prepare(t)
	b := lioBed()
	i := initiator.New(command.Exec{}, initiator.Options{})
	name, err := i.Name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := driver.Credential{User: "user-1", Secret: "secret-of-one"}
	tt := driver.Target{IQN: driver.IQNPrefix + "one", Device: b.Device(t), Portal: b.portal, ReadOnly: true, Serial: "0123456789abcdef", ACLs: []driver.ACL{{Initiator: name, Credential: c}}}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(i.Logout(ctx, tt.IQN, b.portal), b.Target().Remove(ctx, tt.IQN)); err != nil {
			t.Error(err)
		}
	})
	if _, err := b.Target().Ensure(t.Context(), tt); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s, err := i.Login(t.Context(), driver.Portal{Address: b.portal, IQN: tt.IQN, Credential: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("login took %v", time.Since(start))
	disk := "/sys/block/" + filepath.Base(s.Device)
	if ro := sysInt(t, disk+"/ro"); ro != 1 {
		t.Error("the disk of a read-only target is writable")
	}
	if tmo := sysInt(t, disk+"/device/timeout"); tmo != 30 {
		t.Errorf("command timeout is %d", tmo)
	}
	if q, err := os.ReadFile(disk + "/queue/scheduler"); err != nil || !strings.Contains(string(q), "[none]") {
		t.Errorf("scheduler is %s, %v", q, err)
	}
	if tmo, err := filepath.Glob("/sys/class/iscsi_session/session*/recovery_tmo"); err != nil || len(tmo) != 1 || sysInt(t, tmo[0]) != 2 {
		t.Errorf("replacement timeout of %v is not 2", tmo)
	}
	if page, err := os.ReadFile(disk + "/device/vpd_pg80"); err != nil || !strings.HasSuffix(strings.TrimRight(string(page), "\x00"), tt.Serial) {
		t.Errorf("serial page is %q, %v", page, err)
	}
	records, _ := filepath.Glob("/etc/iscsi/nodes/*/*/default")
	if len(records) != 1 {
		t.Fatalf("records: %v", records)
	}
	if st, err := os.Stat(records[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("record %v, %v", st, err)
	}

	t.Run("HeldDisk", func(t *testing.T) {
		run(t, "dmsetup", "create", "-r", "vmthunder-test-held", "--table", "0 8192 linear "+s.Device+" 0")
		err := i.Logout(t.Context(), tt.IQN, b.portal)
		run(t, "dmsetup", "remove", "vmthunder-test-held")
		if !errors.Is(err, driver.ErrBusy) {
			t.Errorf("logout under a device: %v, want ErrBusy", err)
		}
		if now, err := i.Sessions(t.Context(), tt.IQN); err != nil || len(now) != 1 || now[0] != s {
			t.Errorf("sessions: %+v, %v", now, err)
		}
	})
	t.Run("DiskDeletedByAnInterruptedLogout", func(t *testing.T) {
		if err := os.WriteFile(disk+"/device/delete", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		again, err := i.Login(t.Context(), driver.Portal{Address: b.portal, IQN: tt.IQN, Credential: c})
		if err != nil || again.ID != s.ID || again.Device == "" {
			t.Errorf("got %+v, %v", again, err)
		}
	})
	start = time.Now()
	if err := i.Logout(t.Context(), tt.IQN, b.portal); err != nil {
		t.Fatal(err)
	}
	t.Logf("logout took %v", time.Since(start))
	if _, err := os.Stat(disk); err == nil {
		t.Error("the disk is still there")
	}
}
