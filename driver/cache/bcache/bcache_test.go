package bcache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
)

var (
	image = uuid.MustParse("0e0b8bd3-8c25-4f2e-9c3a-5b7f1f0a9d11")
	other = uuid.MustParse("6a3c2f7e-1d54-4a8b-8a57-0c1f0f5f3b22")
)

func clean(sb Superblock, set uuid.UUID) Superblock {
	sb.Set = set
	sb.Flags |= uint64(StateClean) << stateShift
	return sb
}

func TestKeep(t *testing.T) {
	set, lost := uuid.New(), uuid.New()
	base := newBacking(image, uuid.New())
	dirty := base
	dirty.Flags |= uint64(StateDirty) << stateShift
	dirty.Set = set
	stale := dirty
	stale.Flags |= uint64(StateStale) << stateShift
	offset := clean(base, set)
	offset.Version = VersionBackingOffset
	for name, c := range map[string]struct {
		sb    Superblock
		image uuid.UUID
		set   string
		want  bool
	}{
		"content in this set":     {clean(base, set), image, set.String(), true},
		"never attached":          {base, image, set.String(), true},
		"content in another set":  {clean(base, lost), image, set.String(), false},
		"no set":                  {clean(base, set), image, "", false},
		"never attached, no set":  {base, image, "", true},
		"another image's":         {clean(base, set), other, set.String(), false},
		"dirty":                   {dirty, image, set.String(), false},
		"stale":                   {stale, image, set.String(), false},
		"another place of data":   {offset, image, set.String(), false},
		"a cache device":          {Superblock{Version: VersionCacheUUID, Label: label(image), BlockSectors: 8}, image, set.String(), false},
		"another block size":      {Superblock{Version: VersionBacking, Label: label(image), BlockSectors: 1}, image, set.String(), false},
		"no label at all":         {Superblock{Version: VersionBacking, BlockSectors: 8}, image, set.String(), false},
		"zero set uuid, no set":   {clean(base, uuid.Nil), image, "", false},
		"zero set uuid and a set": {clean(base, uuid.Nil), image, set.String(), false},
	} {
		if got := keep(c.sb, c.image, c.set); got != c.want {
			t.Errorf("%s: keep = %v", name, got)
		}
	}
}

func TestPrepare(t *testing.T) {
	set := uuid.New()
	sb := filepath.Join(t.TempDir(), "sb")
	if err := os.WriteFile(sb, make([]byte, LocalSectors*512), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := driver.CacheSpec{ImageID: image.String(), Sectors: 64, Local: []string{sb}}
	do := func(id uuid.UUID, fresh bool) Superblock {
		t.Helper()
		s := spec
		s.Fresh = fresh
		if err := prepare(id, s, Set{UUID: set.String()}); err != nil {
			t.Fatal(err)
		}
		got, err := readSuperblock(sb)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := do(image, false) // blank
	if first.Label != label(image) || first.State() != StateNone {
		t.Fatalf("superblock on a blank device: %+v", first)
	}
	// The kernel attaches it.
	if err := block.Write(sb, SuperblockOffset, clean(first, set).Encode()); err != nil {
		t.Fatal(err)
	}
	if got := do(image, false); got.UUID != first.UUID || got.State() != StateClean {
		t.Errorf("a superblock that is good was replaced: %+v", got)
	}
	fresh := do(image, true)
	if fresh.UUID == first.UUID || fresh.State() != StateNone || fresh.Set != uuid.Nil {
		t.Errorf("fresh kept the generation: %+v", fresh)
	}
	if got := do(other, false); got.UUID == fresh.UUID || got.Label != label(other) {
		t.Errorf("another image got the generation: %+v", got)
	}
	if err := block.Write(sb, 0, make([]byte, 8192)); err != nil {
		t.Fatal(err)
	}
	if got := do(image, false); got.UUID == first.UUID {
		t.Error("a forgotten generation came back")
	}
	spec.Local[0] += "-missing"
	if err := prepare(image, spec, Set{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing device: %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := driver.CacheSpec{ImageID: image.String(), Sectors: 64, Local: []string{"/dev/sb"}}
	if _, err := check(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*driver.CacheSpec){
		"id":      func(s *driver.CacheSpec) { s.ImageID = "x" },
		"empty":   func(s *driver.CacheSpec) { s.Sectors = 0 },
		"sectors": func(s *driver.CacheSpec) { s.Sectors = 63 },
		"local":   func(s *driver.CacheSpec) { s.Local = nil },
	} {
		s := good
		change(&s)
		if _, err := check(s); err == nil {
			t.Errorf("bad %s was accepted", name)
		}
	}
}

func TestTable(t *testing.T) {
	got := table(driver.CacheSpec{Sectors: 64, Upstream: "/dev/mapper/up", Local: []string{"/dev/mapper/sb"}})
	want := driver.Table{
		{Start: 0, Length: 16, Type: "linear", Params: "/dev/mapper/sb 0"},
		{Start: 16, Length: 64, Type: "linear", Params: "/dev/mapper/up 0"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChosen(t *testing.T) {
	for in, want := range map[string]string{
		"writethrough writeback [writearound] none": "writearound",
		"[all] meta-only": "all",
		"0":               "0",
		"":                "",
		"[":               "[",
		"a [b":            "a [b",
	} {
		if got := chosen(in); got != want {
			t.Errorf("chosen(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	dir := t.TempDir()
	put := func(name, value string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("set", "4.0M\n")
	put("so", "none [all]\n")
	if err := apply(dir, []setting{{"set", "0", false}, {"so", "all", false}, {"missing", "1", true}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"set": "0.0M", "so": "none [all]"} { // a file is not truncated, an attribute has no length
		if got, err := readAttr(filepath.Join(dir, name)); got != want || err != nil {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
	if err := apply(dir, []setting{{"missing", "1", false}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing attribute: %v", err)
	}
}

func TestPollEnds(t *testing.T) {
	err := poll(t.Context(), 5*time.Millisecond, "nothing", func() (bool, error) { return false, nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("poll = %v", err)
	}
	n := 0
	if err := poll(t.Context(), time.Minute, "three", func() (bool, error) { n++; return n == 3, nil }); err != nil || n != 3 {
		t.Errorf("poll = %v after %d", err, n)
	}
	broken := errors.New("broken")
	if err := poll(t.Context(), time.Minute, "an error", func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("poll = %v", err)
	}
}

func TestAvailable(t *testing.T) {
	c := New(Config{})
	if err := c.Available(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("without a device: %v", err)
	}
	c = New(Config{Device: "/dev/vdb"})
	c.sys = sysfs(t.TempDir())
	if err := os.MkdirAll(c.sys.path("fs", "bcache", "register"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Available(t.Context()); err != nil {
		t.Errorf("loaded: %v", err)
	}
}
