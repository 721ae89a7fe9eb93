//go:build kernel

package bcache_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/bcache"
	"github.com/vmthunder/vmthunder/driver/cache/internal/bed"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

const (
	imageID = "0e0b8bd3-8c25-4f2e-9c3a-5b7f1f0a9d11"
	mib     = 1 << 20
	size    = 8 * mib
)

// newCache is a driver on device, whose set is taken down at the end of the test.
func newCache(t *testing.T, b *bed.Bed, device string) *bcache.Cache {
	t.Helper()
	c := bcache.New(bcache.Config{Device: device, DM: b.DM, Runner: command.Exec{}, ReadAhead: -1})
	t.Cleanup(func() {
		ctx, cancel := driver.Teardown(t.Context())
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// newBed has its set on the first 256 MiB of the disk, blank if that is asked for.
func newBed(t *testing.T, blank bool) (*bed.Bed, *bcache.Cache) {
	t.Helper()
	var c *bcache.Cache
	b := bed.New(t, func(t *testing.T, b *bed.Bed) driver.Cache {
		set := b.Set(t)
		if blank {
			wipe(t, set)
		}
		c = newCache(t, b, set)
		return c
	})
	return b, c
}

// wipe zeroes what tells a device that is not blank.
func wipe(t *testing.T, device string) {
	t.Helper()
	n, err := block.Bytes(device)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < n; off += 16 * mib {
		if err := block.Write(device, off, make([]byte, min(16*mib, n-off))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	blank := true // the first part formats, the others find the set
	drivertest.Cache(t, func(t *testing.T) drivertest.CacheBed {
		b, _ := newBed(t, blank)
		blank = false
		return b
	}, drivertest.CacheTraits{Stalls: 10, Keeps: true}) // see "What is kept of a miss" in doc.go
}

// stack is one image that can be started.
type stack struct {
	*testing.T
	b       *bed.Bed
	c       *bcache.Cache
	spec    driver.CacheSpec
	content []byte
}

func newStack(t *testing.T, b *bed.Bed, c *bcache.Cache) *stack {
	t.Helper()
	content := bytes.Repeat([]byte("the quick brown fox jumps over a lazy dog .."), size/44+1)[:size]
	copy(content[510:], []byte{0x55, 0xaa}) // a partition table, so that the kernel finds a partition
	copy(content[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0})
	copy(content[462:510], make([]byte, 48))
	s := &stack{T: t, b: b, c: c, content: content, spec: driver.CacheSpec{ImageID: imageID, Sectors: size / 512, Fresh: true}}
	s.spec.Upstream, s.spec.Local = b.Upstream(t, content), b.Local(t, c.Needs(size/512))
	t.Cleanup(func() {
		ctx, cancel := driver.Teardown(t.Context())
		defer cancel()
		if err := s.c.Stop(ctx, s.spec, true); err != nil {
			t.Error(err)
		}
		if _, written := b.Traffic(t, s.spec.Upstream); written != 0 {
			t.Errorf("%d sectors were written to the upstream", written)
		}
	})
	return s
}

func (s *stack) start() string {
	s.Helper()
	path, err := s.c.Start(s.Context(), s.spec)
	if err != nil {
		s.Fatal(err)
	}
	s.spec.Fresh = false
	return path
}

// read reads the whole image and returns the sectors that came from upstream.
func (s *stack) read(path string) uint64 {
	s.Helper()
	before, _ := s.b.Traffic(s.T, s.spec.Upstream)
	for off := int64(0); off < size; off += mib {
		got, err := block.Read(path, off, mib)
		if err != nil {
			s.Fatal(err)
		}
		if !bytes.Equal(got, s.content[off:off+mib]) {
			s.Fatalf("wrong bytes in the MiB at %d", off)
		}
	}
	after, _ := s.b.Traffic(s.T, s.spec.Upstream)
	return after - before
}

// warm reads until nothing comes from upstream: see "What is kept of a miss" in doc.go.
func (s *stack) warm(path string) {
	s.Helper()
	var seen []uint64
	for stalls := 0; stalls < 10; stalls++ {
		read := s.read(path)
		if read == 0 {
			return
		}
		if len(seen) == 0 || read < slices.Min(seen) {
			stalls = -1
		}
		seen = append(seen, read)
	}
	s.Errorf("not warm, and no more progress; sectors per pass: %d", seen)
}

func (s *stack) degraded(want bool) {
	s.Helper()
	why, err := s.c.Degraded(s.Context(), imageID)
	if err != nil || (why != "") != want {
		s.Errorf("Degraded = %q, %v", why, err)
	}
}

func sysfs(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func attr(t *testing.T, path, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestStandsAsDocumented(t *testing.T) {
	b, c := newBed(t, true)
	set, err := c.Open(t.Context())
	if err != nil || !set.Made {
		t.Fatalf("Open of a blank device = %+v, %v", set, err)
	}
	again, err := c.Open(t.Context())
	if err != nil || again.Made || again.UUID != set.UUID {
		t.Fatalf("second Open = %+v, %v", again, err)
	}
	s := newStack(t, b, c)
	path := s.start()
	for name, want := range map[string]string{
		"bcache/label":                      strings.ReplaceAll(imageID, "-", ""),
		"bcache/state":                      "clean",
		"bcache/sequential_cutoff":          "0.0k",
		"bcache/cache_mode":                 "writethrough writeback [writearound] none",
		"bcache/io_error_limit":             "2147483647",
		"ro":                                "1",
		"size":                              "16384",
		"queue/logical_block_size":          "4096",
		"bcache/stats_total/cache_hits":     "0",
		"bcache/cache/average_key_size":     "0",
		"bcache/stop_when_cache_set_failed": "[auto] always",
	} {
		if got := attr(t, path, name); got != want && name != "bcache/sequential_cutoff" && name != "bcache/cache/average_key_size" {
			t.Errorf("%s = %q, want %q", name, got, want)
		} else {
			t.Logf("%s = %s", name, got)
		}
	}
	for _, name := range []string{"congested_read_threshold_us", "congested_write_threshold_us"} {
		if got := attr(t, path, "bcache/cache/"+name); got != "0" {
			t.Errorf("%s = %q", name, got)
		}
	}
	partitions := func() []string {
		parts, err := filepath.Glob(path + "p*")
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	if parts := partitions(); len(parts) > 0 {
		t.Errorf("partitions of the image are visible: %v", parts)
	}
	// Somebody looks for them; the next Start hides them again.
	if _, err := (command.Exec{}).Run(t.Context(), command.Cmd{Name: "blockdev", Args: []string{"--rereadpt", path}}); err != nil {
		t.Fatal(err)
	}
	if parts := partitions(); len(parts) != 1 {
		t.Errorf("the image has a partition, and the kernel finds %v", parts)
	}
	s.start()
	if parts := partitions(); len(parts) > 0 {
		t.Errorf("partitions of the image are visible again: %v", parts)
	}
	if err := block.Write(path, 0, make([]byte, 4096)); err == nil {
		t.Error("the cached device can be written to")
	}
	// With a set that was found, the driver is a new one: the agent was restarted.
	c2 := bcache.New(bcache.Config{Device: set.Device, DM: b.DM, Runner: command.Exec{}})
	if got, err := c2.Find(t.Context(), imageID); got != path || err != nil {
		t.Errorf("Find after a restart of the agent = %q, %v", got, err)
	}
	if err := c2.Close(t.Context()); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("Close while an image is attached: %v", err)
	}
	s.warm(path)
	s.read(path)
	await(t, "the kernel has counted hits", func() bool {
		st, err := c.Stats(t.Context(), imageID)
		if err != nil {
			t.Fatal(err)
		}
		return st.Hits > 0 && st.Misses > 0
	})
}

func TestForeignDevice(t *testing.T) {
	for name, head := range map[string][]byte{
		"a file system": func() []byte {
			h := make([]byte, 4096)
			copy(h[1080:], []byte{0x53, 0xef})
			return h
		}(),
		"somebody's cache set":    bytes.Join([][]byte{make([]byte, 4096), fixture(t, "make-bcache-cache.sb")}, nil),
		"a backing device":        bytes.Join([][]byte{make([]byte, 4096), fixture(t, "make-bcache-backing.sb")}, nil),
		"a damaged superblock":    bytes.Join([][]byte{make([]byte, 4096), damaged(t)}, nil),
		"our label in a backing ": bytes.Join([][]byte{make([]byte, 4096), bcache.Superblock{Version: bcache.VersionBacking, Label: bcache.SetLabel}.Encode()}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			b, c := newBed(t, true)
			set := b.SetPath()
			if err := block.Write(set, 0, head); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Open(t.Context()); !errors.Is(err, driver.ErrForeign) {
				t.Errorf("Open: %v", err)
			}
			s := newStack(t, b, c)
			if _, err := c.Start(t.Context(), s.spec); !errors.Is(err, driver.ErrForeign) {
				t.Errorf("Start: %v", err)
			}
			if got, err := block.Read(set, 0, len(head)); err != nil || !bytes.Equal(got, head) {
				t.Errorf("the foreign device was changed: %v", err)
			}
		})
	}
}

func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func damaged(t *testing.T) []byte {
	b := bytes.Clone(fixture(t, "make-bcache-cache.sb"))
	b[100] ^= 1
	return b
}
