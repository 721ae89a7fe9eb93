//go:build kernel

package loop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/loop"
)

// These tests run as root on a node that may be taken apart, with a scratch disk.

func testDisk() string {
	if d := os.Getenv("VMT_TEST_DISK"); d != "" {
		return d
	}
	return "/dev/ubda"
}

func open(path string) (io.Closer, error) { return os.Open(path) }

func claim(path string) (io.Closer, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
}

// linear makes a device-mapper device over the first sectors of the test disk.
func linear(t *testing.T, name string, sectors uint64, ro bool) driver.Device {
	t.Helper()
	m := dm.New(command.Exec{})
	d, err := m.Create(t.Context(), name, dm.NewTable(dm.Linear(sectors, testDisk(), 0)), driver.CreateOptions{ReadOnly: ro})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := driver.Teardown(t.Context())
		defer cancel()
		if err := m.Remove(ctx, name); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestKernelConformance(t *testing.T) {
	drivertest.Loop(t, func(t *testing.T) (driver.Loop, drivertest.LoopEnv) {
		d := linear(t, "vmthunder-test-disk", 2048, false)
		files := 0
		return loop.New(command.Exec{}), drivertest.LoopEnv{
			File: func(t *testing.T, bytes uint64) string {
				files++
				path := filepath.Join(t.TempDir(), fmt.Sprint(files))
				if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			},
			Disk: d.Path, DiskAlias: fmt.Sprintf("/dev/dm-%d", d.Minor), DiskBytes: 2048 * 512,
			Open: open, Claim: claim,
		}
	})
}

// A file on a file system and the block device below it are different backings.
func TestKernelFileIsNotItsDisk(t *testing.T) {
	l := loop.New(command.Exec{})
	ctx := t.Context()
	disk := linear(t, "vmthunder-test-fs", 1<<15, false)
	if _, err := (command.Exec{}).Run(ctx, command.Cmd{Name: "mkfs.ext4", Args: []string{"-q", "-F", disk.Path}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount(disk.Path, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := l.Attach(ctx, file, driver.LoopOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := l.Find(ctx, disk.Path); err == nil {
		t.Errorf("the disk was found as %+v", found)
	}
	if err := l.Detach(ctx, d.Path); err != nil {
		t.Error(err)
	}
}

// The page layer: buffered, with exactly the read-ahead that was asked for. Reads
// from the backing are counted by the kernel.
func TestKernelReadAhead(t *testing.T) {
	l := loop.New(command.Exec{})
	ctx := t.Context()
	for _, c := range []struct {
		readAhead uint64
		min, max  uint64 // sectors read from below for one read of 4 KiB
	}{{0, 8, 8}, {256, 9, 256}} {
		disk := linear(t, fmt.Sprintf("vmthunder-test-ra%d", c.readAhead), 1<<15, true)
		d, err := l.Attach(ctx, disk.Path, driver.LoopOptions{ReadOnly: true, ReadAheadSectors: c.readAhead})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		before, err := dm.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		after, err := dm.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		if n := after.ReadSectors - before.ReadSectors; n < c.min || n > c.max {
			t.Errorf("read-ahead %d: read %d sectors, want %d to %d", c.readAhead, n, c.min, c.max)
		} else {
			t.Logf("read-ahead %d: one read of 4 KiB read %d sectors", c.readAhead, n)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Detach(ctx, d.Path); err != nil {
			t.Error(err)
		}
	}
}

// What is read through the page layer is what is on the disk, once for two readers.
func TestKernelBytes(t *testing.T) {
	l := loop.New(command.Exec{})
	ctx := t.Context()
	disk := linear(t, "vmthunder-test-bytes", 1<<13, false)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i>>12 ^ i*7)
	}
	w, err := os.OpenFile(disk.Path, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := l.Attach(ctx, disk.Path, driver.LoopOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Detach(ctx, d.Path); err != nil {
			t.Error(err)
		}
	}()
	var first uint64
	for i := range 2 {
		f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0) // past the loop device's own pages
		if err != nil {
			t.Fatal(err)
		}
		m, err := unix.Mmap(-1, 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, m); err != nil || !bytes.Equal(m, want) {
			t.Errorf("pass %d: other bytes, %v", i, err)
		}
		if err := errors.Join(unix.Munmap(m), f.Close()); err != nil {
			t.Error(err)
		}
		st, err := dm.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = st.ReadSectors
		} else if st.ReadSectors != first {
			t.Errorf("the second pass read %d sectors more", st.ReadSectors-first)
		}
	}
	// The kernel lets it be opened for writing, and fails each write.
	if w, err := os.OpenFile(d.Path, os.O_WRONLY, 0); err == nil {
		if _, err := w.Write(make([]byte, 4096)); err == nil {
			t.Error("a read-only loop device was written to")
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A volume's snapshot cuts every read into pieces of its chunk, 4 KiB, which a read-ahead
// takes for a stream: it then fetches what nobody has asked for. Without one, what comes
// from below is what was asked for.
func TestKernelReadInPieces(t *testing.T) {
	const sectors, asked = 1 << 15, 128
	l := loop.New(command.Exec{})
	ctx := t.Context()
	m := dm.New(command.Exec{})
	for _, readAhead := range []uint64{0, 256} {
		disk := linear(t, fmt.Sprintf("vmthunder-test-pieces%d", readAhead), sectors, true)
		d, err := l.Attach(ctx, disk.Path, driver.LoopOptions{ReadOnly: true, ReadAheadSectors: readAhead})
		if err != nil {
			t.Fatal(err)
		}
		cow := linear(t, fmt.Sprintf("vmthunder-test-cow%d", readAhead), sectors, false)
		name := fmt.Sprintf("vmthunder-test-snap%d", readAhead)
		snap, err := m.Create(ctx, name, driver.Table{{Length: sectors, Type: "snapshot", Params: d.Path + " " + cow.Path + " N 8"}}, driver.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before, err := dm.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		for at := range int64(4) {
			readDirect(t, snap.Path, (at*2+1)<<20, asked*512)
		}
		after, err := dm.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		n := after.ReadSectors - before.ReadSectors
		t.Logf("read-ahead %d: four reads of %d sectors read %d below", readAhead, asked, n)
		if readAhead == 0 && n != 4*asked {
			t.Errorf("four reads of %d sectors read %d below", asked, n)
		}
		if readAhead > 0 && n <= 4*asked {
			t.Errorf("read-ahead %d has read %d sectors for 4 × %d: this kernel does without, and the default may be thought over", readAhead, n, asked)
		}
		if err := m.Remove(ctx, name); err != nil {
			t.Error(err)
		}
		if err := l.Detach(ctx, d.Path); err != nil {
			t.Error(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// readDirect reads past the page cache.
func readDirect(t *testing.T, path string, at int64, size int) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	if n, err := unix.Pread(fd, buf, at); err != nil || n != size {
		t.Fatalf("read %d bytes at %d: %d, %v", size, at, n, err)
	}
}
