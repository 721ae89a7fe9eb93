//go:build kernel

package target_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/initiator"
)

// These tests run as root on a node that may be taken apart, with a scratch disk; the node
// exports parts of the disk to itself over its loopback interface.

const (
	partSectors = 8192 // 4 MiB a device
	stepTime    = 60 * time.Second
)

func testDisk() string {
	if d := os.Getenv("VMT_TEST_DISK"); d != "" {
		return d
	}
	return "/dev/ubda"
}

// bed is a drivertest.ISCSIBed on the node's kernel.
type bed struct {
	helper func() driver.TargetHelper
	portal string
	n      atomic.Int64
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	r, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: name, Args: args, Env: []string{"DM_DISABLE_UDEV=1"}})
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Stdout)
}

// daemon runs a program until the end of the test.
func daemon(t *testing.T, name string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := command.Exec{}.Run(ctx, command.Cmd{Name: name, Args: args, Timeout: time.Hour})
		done <- err
	}()
	t.Cleanup(func() {
		select {
		case err := <-done:
			t.Errorf("%s ended early: %v", name, err)
		default:
			cancel()
			<-done
		}
	})
}

// prepare makes the node ready: modules, configfs, loopback, the initiator's daemon.
func prepare(t *testing.T) {
	for _, m := range []string{"dm_mod", "sd_mod", "iscsi_tcp", "target_core_mod", "target_core_iblock", "iscsi_target_mod"} {
		run(t, "modprobe", m)
	}
	const configfs = "/sys/kernel/config"
	if _, err := os.Stat(configfs + "/target"); err != nil {
		if err := unix.Mount("configfs", configfs, "configfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(configfs, unix.MNT_DETACH) })
	}
	for _, dir := range []string{"/etc/target", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	loopback(t, true)
	const name = "/etc/iscsi/initiatorname.iscsi"
	old, err := os.ReadFile(name)
	if err := errors.Join(err, os.WriteFile(name, []byte("InitiatorName=iqn.2026-11.org.test:node1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(name, old, 0o600) })
	daemon(t, "iscsid", "-f")
	await(t, "iscsid", func() bool {
		text, err := os.ReadFile("/proc/net/unix")
		return err == nil && strings.Contains(string(text), "ISCSIADM_ABSTRACT_NAMESPACE")
	})
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(stepTime)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// loopback sets the loopback interface up or down.
func loopback(t *testing.T, up bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
	flags := r.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) Target() driver.TargetHelper { return b.helper() }
func (b *bed) Initiator() driver.Initiator { return initiator.New(command.Exec{}, initiator.Options{}) }
func (b *bed) Portal() string              { return b.portal }
func (b *bed) Cut(t *testing.T)            { loopback(t, false) }
func (b *bed) Heal(t *testing.T)           { loopback(t, true) }

// Device makes a linear device over a part of the disk of its own, with random bytes.
func (b *bed) Device(t *testing.T) string {
	t.Helper()
	n := b.n.Add(1)
	name := fmt.Sprintf("vmthunder-test-iscsi-%d", n)
	run(t, "dmsetup", "create", name, "--table", fmt.Sprintf("0 %d linear %s %d", partSectors, testDisk(), n%16*partSectors))
	path := "/dev/mapper/" + name
	t.Cleanup(func() {
		if _, err := os.Stat(path); err == nil {
			b.RemoveDevice(t, path)
		}
	})
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, partSectors*512)
	_, _ = rand.Read(content)
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// RemoveDevice doesn't retry: the device has to be free.
func (b *bed) RemoveDevice(t *testing.T, path string) {
	t.Helper()
	r, err := command.Exec{}.Run(context.WithoutCancel(t.Context()), command.Cmd{Name: "dmsetup", Args: []string{"remove", filepath.Base(path)}, Env: []string{"DM_DISABLE_UDEV=1"}})
	if err != nil {
		t.Errorf("%v\n%s", err, r.Stderr)
	}
}

// aligned returns memory that O_DIRECT takes.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & 4095)
	return b[off : off+n]
}

func (b *bed) Content(t *testing.T, path string) []byte {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := aligned(partSectors * 512)
	for off := 0; off < len(p); {
		n, err := unix.Pread(fd, p[off:], int64(off))
		if err != nil || n == 0 {
			t.Fatalf("read %s at %d: %d, %v", path, off, n, err)
		}
		off += n
	}
	if n, err := unix.Pread(fd, aligned(4096), int64(len(p))); n != 0 || err != nil {
		t.Fatalf("%s is longer than it should be: %d, %v", path, n, err)
	}
	return p
}

// Write goes past what the initiator's kernel believes: the target has to refuse.
func (b *bed) Write(t *testing.T, path string) error {
	t.Helper()
	ro, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ro)
	if err := unix.IoctlSetPointerInt(ro, unix.BLKROSET, 0); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	p := aligned(4096)
	copy(p, "written over iSCSI")
	_, err = unix.Pwrite(fd, p, 4096)
	return err
}

// sysInt reads a number from /sys.
func sysInt(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
