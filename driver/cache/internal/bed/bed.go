//go:build kernel

// Package bed lays out a blank disk for the kernel tests of the cache drivers.
package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// SetSectors is how much of the disk, from its beginning, [Bed.Set] takes.
const SetSectors = 256 << 11

// Bed is a drivertest.CacheBed on the disk VMT_TEST_DISK (/dev/ubda), of at least
// 1 GiB. Everything is a linear device on it, so that all traffic can be counted.
type Bed struct {
	DM    *dm.Mapper
	Make  func(t *testing.T, b *Bed) driver.Cache
	cache driver.Cache
	disk  string
	next  uint64 // sector
	size  uint64
	count int
}

// New makes a bed. makeCache makes the driver under test.
func New(t *testing.T, makeCache func(t *testing.T, b *Bed) driver.Cache) *Bed {
	t.Helper()
	disk := os.Getenv("VMT_TEST_DISK")
	if disk == "" {
		disk = "/dev/ubda"
	}
	size, err := block.Bytes(disk)
	if err != nil {
		t.Fatal(err)
	}
	if size < 1<<30 {
		t.Fatalf("%s has %d MiB, the tests want 1024", disk, size>>20)
	}
	m := dm.New(command.Exec{})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &Bed{DM: m, Make: makeCache, disk: disk, next: SetSectors, size: uint64(size) / 512}
	b.cache = makeCache(t, b)
	return b
}

// Cache implements drivertest.CacheBed.
func (b *Bed) Cache() driver.Cache { return b.cache }

// Device makes the device vmthunder-test-NAME over sectors of the disk from start, and removes it
// at the end of the test.
func (b *Bed) Device(t *testing.T, name string, start, sectors uint64, readOnly bool) string {
	t.Helper()
	name = driver.Prefix + "test-" + name
	d, err := b.DM.Create(t.Context(), name, dm.NewTable(dm.Linear(sectors, b.disk, start)), driver.CreateOptions{UUID: driver.DeviceUUID(name), ReadOnly: readOnly})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Remove(t, name) })
	return d.Path
}

// Remove removes a device; one that is not there is fine.
func (b *Bed) Remove(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := driver.Teardown(context.WithoutCancel(t.Context()))
	defer cancel()
	// What the kernel takes down behind (a cache set, say) may hold the device a moment longer.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := b.DM.Remove(ctx, name)
		if err == nil {
			return
		}
		if !errors.Is(err, driver.ErrBusy) {
			t.Error(err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Error(err)
			return
		}
	}
}

// take sets aside sectors of the disk and makes a device of them.
func (b *Bed) take(t *testing.T, what string, sectors uint64, readOnly bool, fill func(path string)) string {
	t.Helper()
	start := b.next
	b.next += (sectors + 7) / 8 * 8
	if b.next > b.size {
		t.Fatalf("%s is too small: %d sectors wanted", b.disk, b.next)
	}
	b.count++
	name := fmt.Sprintf("%d-%s", b.count, what)
	if fill != nil {
		path := b.Device(t, name, start, sectors, false)
		fill(path)
		if readOnly {
			b.Remove(t, driver.Prefix+"test-"+name)
		} else {
			return path
		}
	}
	return b.Device(t, name, start, sectors, readOnly)
}

// Set is a device of 256 MiB at the beginning of the disk, always the same one.
func (b *Bed) Set(t *testing.T) string { return b.Device(t, "set", 0, SetSectors, false) }

// SetPath is where Set made its device.
func (b *Bed) SetPath() string { return "/dev/mapper/" + driver.Prefix + "test-set" }

// Upstream implements drivertest.CacheBed.
func (b *Bed) Upstream(t *testing.T, content []byte) string {
	t.Helper()
	return b.take(t, "upstream", uint64(len(content))/512, true, func(path string) {
		if err := block.Write(path, 0, content); err != nil {
			t.Fatal(err)
		}
	})
}

// Traffic implements drivertest.CacheBed.
func (b *Bed) Traffic(t *testing.T, upstream string) (read, written uint64) {
	t.Helper()
	st, err := dm.Stat(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return st.ReadSectors, st.WriteSectors
}

// Local implements drivertest.CacheBed. The devices are filled with ones.
func (b *Bed) Local(t *testing.T, needs []driver.LocalDevice) (paths []string) {
	t.Helper()
	for _, n := range needs {
		paths = append(paths, b.take(t, n.Suffix, n.Sectors, false, func(path string) {
			junk := make([]byte, min(n.Sectors*512, 1<<20))
			for i := range junk {
				junk[i] = 0xff
			}
			if err := block.Write(path, 0, junk); err != nil {
				t.Fatal(err)
			}
		}))
	}
	return paths
}

// Sectors implements drivertest.CacheBed.
func (b *Bed) Sectors(t *testing.T, path string) uint64 {
	t.Helper()
	n, err := block.Bytes(path)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(n) / 512
}

// ReadAt implements drivertest.CacheBed.
func (b *Bed) ReadAt(t *testing.T, path string, p []byte, off int64) {
	t.Helper()
	got, err := block.Read(path, off, len(p))
	if err != nil {
		t.Error(err)
	}
	copy(p, got)
}

// Open implements drivertest.CacheBed.
func (b *Bed) Open(t *testing.T, path string) func() {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}
