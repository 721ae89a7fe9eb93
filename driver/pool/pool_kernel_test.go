//go:build kernel

package pool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/loop"
	"github.com/vmthunder/vmthunder/driver/pool"
)

// These tests run as root on a node that may be taken apart, with a scratch disk.

func testDisk() string {
	if d := os.Getenv("VMT_TEST_DISK"); d != "" {
		return d
	}
	return "/dev/ubda"
}

const (
	name      = driver.Prefix + "test-pool"
	diskName  = driver.Prefix + "test-disk"
	diskBytes = 96 << 20
)

// kernel is a node whose pool is on a linear device of 96 MiB, or on a file.
type kernel struct {
	t    *testing.T
	m    *dm.Mapper
	l    *loop.Devices
	path string
}

// blank makes the test disk's first 96 MiB read as zeros.
func blank(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(testDisk(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 1<<20)
	for at := int64(0); at < diskBytes; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func newKernel(t *testing.T, file bool) *kernel {
	k := &kernel{t: t, m: dm.New(command.Exec{}), l: loop.New(command.Exec{})}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := errors.Join(k.m.Remove(ctx, diskName), k.m.Close()); err != nil {
			t.Error(err)
		}
	})
	if file {
		k.path = filepath.Join(t.TempDir(), "pool")
		if err := os.WriteFile(k.path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(k.path, diskBytes); err != nil {
			t.Fatal(err)
		}
		return k
	}
	blank(t)
	d, err := k.m.Create(ctx, diskName, dm.NewTable(dm.Linear(diskBytes/512, testDisk(), 0)), driver.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k.path = d.Path
	return k
}

func (k *kernel) pool() *pool.Pool {
	return pool.New(pool.Config{Device: k.path, Name: name}, k.m, k.l, command.Exec{})
}

// reboot takes all devices away, users before what they use.
func (k *kernel) reboot() {
	k.t.Helper()
	ctx := k.t.Context()
	for range 5 {
		list, err := k.m.List(ctx, driver.Prefix)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, d := range list {
			if d.Name != diskName {
				_ = k.m.Remove(ctx, d.Name) // in use: next time
			}
		}
	}
	if d, err := k.l.Find(ctx, k.path); err == nil {
		if err := k.l.Detach(ctx, d.Path); err != nil {
			k.t.Fatal(err)
		}
	}
	list, err := k.m.List(ctx, name)
	if err != nil || len(list) != 0 {
		k.t.Fatalf("still there: %v, %v", list, err)
	}
}

func (k *kernel) env() drivertest.PoolEnv {
	t := k.t
	write := func(path string, at int64, b []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_SYNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(b, at)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return drivertest.PoolEnv{
		Pool:    func() driver.Pool { return k.pool() },
		DM:      k.m,
		Open:    func(path string) (io.Closer, error) { return os.Open(path) },
		Reboot:  k.reboot,
		Foreign: func() { write(k.path, 0x438, []byte("\x53\xef")) },
		Missing: func() {
			if strings.HasPrefix(k.path, "/dev/mapper/") {
				if err := k.m.Remove(t.Context(), diskName); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Remove(k.path); err != nil {
				t.Fatal(err)
			}
		},
		Write: func(path string, _ uint32, blocks int, exceptions bool) {
			b := bytes.Repeat([]byte("data"), blocks<<16/4)
			if exceptions { // "SnAp", valid, version 1, chunks of 16 sectors
				copy(b, "SnAp\x01\x00\x00\x00\x01\x00\x00\x00\x10\x00\x00\x00")
			}
			write(path, 0, b)
		},
		Fill: func(path string) {
			st, err := k.pool().Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b := bytes.Repeat([]byte("full"), int(st.BlockBytes)/4)
			for i := range st.FreeBytes / st.BlockBytes {
				write(path, int64(i*st.BlockBytes), b)
			}
		},
	}
}

func TestKernelConformanceOnDisk(t *testing.T) {
	drivertest.Pool(t, func(t *testing.T) drivertest.PoolEnv { return newKernel(t, false).env() })
}

func TestKernelConformanceOnFile(t *testing.T) {
	drivertest.Pool(t, func(t *testing.T) drivertest.PoolEnv { return newKernel(t, true).env() })
}

// direct opens path past the page cache.
func direct(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pages returns n bytes at an address for direct I/O, filled from seed.
func pages(t *testing.T, n int, seed uint64) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	if seed != 0 {
		r := rand.New(rand.NewPCG(seed, seed))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A volume as the agent builds it: its bytes outlive the taking down of everything,
// a snapshot keeps its own, and a new thin device shows nothing of a deleted one.
func TestKernelBytes(t *testing.T) {
	k := newKernel(t, false)
	ctx := t.Context()
	p := k.pool()
	must(p.Open(ctx))(t)
	const sectors = 1 << 16
	want, later := pages(t, 4<<20, 1), pages(t, 4<<20, 2)
	got := pages(t, 4<<20, 0)
	base := func() driver.Device {
		return must(k.m.Create(ctx, driver.Prefix+"test-base", dm.NewTable(dm.Zero(sectors)), driver.CreateOptions{ReadOnly: true}))(t)
	}
	volume := func(cow string) driver.Device {
		target := dm.SnapshotTarget{Origin: base().Path, Cow: cow, ChunkSectors: 8}
		return must(k.m.Create(ctx, driver.Prefix+"test-volume", dm.NewTable(target.Segment(sectors)), driver.CreateOptions{}))(t)
	}
	write := func(path string, at int64, b []byte) {
		f := direct(t, path)
		_, err := f.WriteAt(b, at)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string, at int64) []byte {
		f := direct(t, path)
		_, err := f.ReadAt(got, at)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return got
	}
	const cow = driver.Prefix + "test-cow"
	if err := p.CreateThin(ctx, 1); err != nil {
		t.Fatal(err)
	}
	v := volume(must(p.Activate(ctx, cow, "", 1, sectors+4096))(t))
	write(v.Path, 1<<20, want)

	// A snapshot of the copy-on-write store is a snapshot of the volume.
	for _, err := range []error{
		k.m.Suspend(ctx, v.Name, driver.ReloadOptions{}), k.m.Suspend(ctx, cow, driver.ReloadOptions{}),
		p.SnapThin(ctx, 2, 1),
		k.m.Resume(ctx, cow), k.m.Resume(ctx, v.Name),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write(v.Path, 1<<20, later)
	k.reboot()
	must(p.Open(ctx))(t)
	v = volume(must(p.Activate(ctx, cow, "", 1, sectors+4096))(t))
	if !bytes.Equal(read(v.Path, 1<<20), later) {
		t.Error("the volume has other bytes after a reboot")
	}
	k.reboot()
	must(p.Open(ctx))(t)
	v = volume(must(p.Activate(ctx, cow, "", 2, sectors+4096))(t))
	if !bytes.Equal(read(v.Path, 1<<20), want) {
		t.Error("the snapshot has other bytes")
	}
	write(v.Path, 1<<20, later)
	k.reboot()
	must(p.Open(ctx))(t)
	for _, id := range []uint32{1, 2} {
		if err := p.DeleteThin(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if st := must(p.Status(ctx))(t); st.FreeBytes != st.TotalBytes {
		t.Errorf("after deleting all %+v", st)
	}
	// Zeroing of new blocks: a write of 4 KiB must not show the rest of the old block.
	if err := p.CreateThin(ctx, 3); err != nil {
		t.Fatal(err)
	}
	path := must(p.Activate(ctx, cow, "", 3, sectors))(t)
	st := must(p.Status(ctx))(t)
	for at := int64(0); at < 8<<20; at += int64(st.BlockBytes) {
		write(path, at, want[:4096])
	}
	for i, b := range read(path, 0) {
		if in := i % int(st.BlockBytes); in >= 4096 && b != 0 {
			t.Fatalf("byte %d of a new device is %#x", i, b)
		}
	}
	k.reboot()
}

// A full pool holds writes back, harms no volume, and goes on when there is room.
func TestKernelFull(t *testing.T) {
	k := newKernel(t, false)
	ctx := t.Context()
	p := k.pool()
	must(p.Open(ctx))(t)
	if b := must(os.ReadFile("/sys/module/dm_thin_pool/parameters/no_space_timeout"))(t); string(b) != "0\n" {
		t.Errorf("no_space_timeout is %q", b)
	}
	for _, id := range []uint32{1, 2} {
		if err := p.CreateThin(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	const cow, ballast = driver.Prefix + "test-cow", driver.Prefix + "test-ballast"
	path := must(p.Activate(ctx, cow, "", 1, 1<<17))(t)
	full := must(p.Activate(ctx, ballast, "", 2, 1<<20))(t)
	base := must(k.m.Create(ctx, driver.Prefix+"test-base", dm.NewTable(dm.Zero(1<<16)), driver.CreateOptions{ReadOnly: true}))(t)
	target := dm.SnapshotTarget{Origin: base.Path, Cow: path, ChunkSectors: 8}
	v := must(k.m.Create(ctx, driver.Prefix+"test-volume", dm.NewTable(target.Segment(1<<16)), driver.CreateOptions{}))(t)
	want := pages(t, 1<<20, 3)
	f := direct(t, v.Path)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	k.env().Fill(full)

	written := make(chan error, 1)
	go func() { _, err := f.WriteAt(want, 1<<20); written <- err }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if st := must(p.Status(ctx))(t); st.Mode == dm.PoolOutOfDataSpace {
			t.Logf("status of the full pool %+v", st)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pool does not run full")
		}
	}
	select {
	case err := <-written:
		t.Errorf("a write to a full pool returned: %v", err)
	default:
	}
	if err := p.CreateThin(ctx, 9); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("create in a full pool: %v", err)
	}
	if err := p.Deactivate(ctx, ballast); err != nil {
		t.Fatal(err)
	}
	if err := p.DeleteThin(ctx, 2); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-written:
		if err != nil {
			t.Errorf("the held-back write failed: %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the held-back write is still held back")
	}
	got := pages(t, 2<<20, 0)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got[:1<<20], want) || !bytes.Equal(got[1<<20:], want) {
		t.Errorf("the volume has other bytes, %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	lines := must(k.m.Status(ctx, v.Name))(t)
	if st, err := dm.ParseSnapshotStatus(lines[0].Params); err != nil || st.Invalid {
		t.Errorf("volume's status %+v, %v", st, err)
	}
	if st := must(p.Status(ctx))(t); st.Mode != dm.PoolReadWrite || st.FreeBytes == 0 {
		t.Errorf("afterwards %+v", st)
	}
	k.reboot()
}

// Metadata that is gone is never replaced by a new, empty pool.
func TestKernelLostMetadata(t *testing.T) {
	k := newKernel(t, false)
	ctx := t.Context()
	p := k.pool()
	must(p.Open(ctx))(t)
	k.reboot()
	f := direct(t, k.path)
	if _, err := f.WriteAt(pages(t, 4096, 0), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(ctx); !errors.Is(err, driver.ErrForeign) {
		t.Errorf("got %v", err)
	}
	// Damaged, but there: the kernel refuses it, and the error says what to do.
	f = direct(t, k.path)
	b := pages(t, 4096, 5)
	copy(b[32:], "\xba\x52\x9c\x01\x00\x00\x00\x00")
	if _, err := f.WriteAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := p.Open(ctx)
	if err == nil || !strings.Contains(err.Error(), "thin_repair") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	k.reboot()
}
