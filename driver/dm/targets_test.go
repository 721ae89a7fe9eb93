package dm

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// capturedLines returns the captured lines of a kind (table or status) and target type.
func capturedLines(t testing.TB, kind, typ string) []driver.Segment {
	t.Helper()
	b, err := os.ReadFile("testdata/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []driver.Segment
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if f[0] != kind || f[3] != typ {
			continue
		}
		n, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, driver.Segment{Length: n, Type: typ, Params: f[4]})
	}
	if len(out) == 0 {
		t.Fatalf("no %s lines of %s", kind, typ)
	}
	return out
}

// What a kernel prints as a table is what the constructor makes of the parsed values.
func TestTargetsRoundTrip(t *testing.T) {
	for _, typ := range []string{"linear", "switch", "snapshot", "multipath", "thin-pool", "thin", "cache"} {
		for _, s := range capturedLines(t, "table", typ) {
			again, err := reparse(s)
			if err != nil {
				t.Errorf("%+v: %v", s, err)
				continue
			}
			if got := strings.Join(SplitParams(again.Params), " "); got != strings.TrimSpace(s.Params) || again.Length != s.Length {
				t.Errorf("%q became %q", s.Params, got)
			}
		}
	}
}

// reparse parses a segment and makes it again.
func reparse(s driver.Segment) (driver.Segment, error) {
	var v interface {
		Segment(uint64) driver.Segment
	}
	var err error
	switch s.Type {
	case "linear":
		v, err = ParseLinear(s)
	case "snapshot":
		v, err = ParseSnapshot(s)
	case "switch":
		v, err = ParseSwitch(s)
	case "multipath":
		v, err = ParseMultipath(s)
	case "thin-pool":
		v, err = ParseThinPool(s)
	case "thin":
		v, err = ParseThin(s)
	case "cache":
		v, err = ParseCache(s)
	case "flashcache":
		v, err = ParseFlashcache(s)
	default:
		return s, errors.New("no such type")
	}
	if err != nil {
		return s, err
	}
	return v.Segment(s.Length), nil
}

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		got  driver.Segment
		want string
	}{
		{Linear(8, "/dev/sda", 5), "linear /dev/sda 5"},
		{Linear(8, `/dev/a b\c`, 5), `linear /dev/a\ b\\c 5`},
		{Zero(8), "zero "},
		{Error(8), "error "},
		{SnapshotTarget{Origin: "/dev/a", Cow: "/dev/b", ChunkSectors: 16}.Segment(8), "snapshot /dev/a /dev/b P 16"},
		{SnapshotTarget{Origin: "/dev/a", Cow: "/dev/b", ChunkSectors: 8, Transient: true}.Segment(8), "snapshot /dev/a /dev/b N 8"},
		{SwitchTarget{Devices: []string{"/dev/a", "7:1"}, RegionSectors: 8}.Segment(8), "switch 2 8 0 /dev/a 0 7:1 0"},
		{MultipathTarget{Device: "/dev/sda", QueueIfNoPath: true}.Segment(8), "multipath 1 queue_if_no_path 0 1 1 round-robin 0 1 1 /dev/sda 1"},
		{MultipathTarget{Device: "/dev/sda", Selector: "service-time"}.Segment(8), "multipath 0 0 1 1 service-time 0 1 2 /dev/sda 1 1"},
		{MultipathTarget{QueueIfNoPath: true}.Segment(8), "multipath 1 queue_if_no_path 0 0 0"},
		{ThinPoolTarget{Metadata: "/m", Data: "/d", BlockSectors: 128, LowWater: 9}.Segment(8), "thin-pool /m /d 128 9 0"},
		{
			ThinPoolTarget{Metadata: "/m", Data: "/d", BlockSectors: 128, SkipBlockZeroing: true, ErrorIfNoSpace: true}.Segment(8),
			"thin-pool /m /d 128 0 2 skip_block_zeroing error_if_no_space",
		},
		{ThinTarget{Pool: "/p", ID: 77}.Segment(8), "thin /p 77"},
		{
			CacheTarget{Metadata: "/m", Cache: "/c", Origin: "/o", BlockSectors: 64, Mode: "writethrough"}.Segment(8),
			"cache /m /c /o 64 1 writethrough smq 0",
		},
		{
			FlashcacheTarget{Disk: "/d", Cache: "/c", Name: "n", Mode: FlashcacheWriteAround, Start: FlashcacheForceCreate, BlockSectors: 8}.Segment(8),
			"flashcache /d /c n 3 3 8",
		},
		{
			FlashcacheTarget{Disk: "/d", Cache: "/c", Name: "n", Mode: FlashcacheWriteAround, Start: FlashcacheReload, BlockSectors: 8}.Segment(8),
			"flashcache /d /c n 3 1",
		},
	} {
		if got := c.got.Type + " " + c.got.Params; got != c.want || c.got.Length != 8 {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if c.got.Type == "zero" || c.got.Type == "error" {
			continue
		}
		if again, err := reparse(c.got); err != nil || again != c.got {
			t.Errorf("%q becomes %+v, %v", c.want, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for typ, bad := range map[string][]string{
		"linear":    {"", "8:0", "8:0 x", "8:0 1 2", "8:0 -1"},
		"snapshot":  {"8:0 8:1 P", "8:0 8:1 X 8", "8:0 8:1 P 8 9"},
		"switch":    {"", "0 8 0", "1 0 0 7:0 0", "2 8 0 7:0 0", "1 8 0 7:0 5", "1 8 0 7:0 0 7:1 0"},
		"multipath": {"", "1", "1 queue_if_no_path 0 1 1", "99999999999 a", "0 0 2 1 rr 0 1 1 8:0 1 rr 0 1 1 8:1 1"},
		"thin-pool": {"1:1 1:2", "1:1 1:2 128 0 3 a b"},
		"thin":      {"1:1", "1:1 16777216", "1:1 5 1:2"},
		"cache":     {"1:1 1:2 1:3 64 1", "1:1 1:2 1:3 64 1 writethrough smq 2 a"},
	} {
		for _, params := range bad {
			if _, err := reparse(driver.Segment{Length: 8, Type: typ, Params: params}); !errors.Is(err, errParams) {
				t.Errorf("%s %q: %v", typ, params, err)
			}
		}
	}
	if _, err := ParseLinear(driver.Segment{Type: "zero", Params: "8:0 1"}); err == nil {
		t.Error("a zero target was read as linear")
	}
}

func TestSplitParams(t *testing.T) {
	for in, want := range map[string][]string{
		"":               nil,
		"  a  b\t":       {"a", "b"},
		`/dev/a\ b c\\d`: {"/dev/a b", `c\d`},
		`end\`:           {`end\`},
	} {
		if got := SplitParams(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	numbers := map[string]DevNumber{"/dev/sda": {8, 0}, "/dev/disk/by-id/x": {8, 0}, "/dev/sdb": {8, 16}}
	number := func(path string) (DevNumber, error) {
		d, ok := numbers[path]
		if !ok {
			return d, driver.ErrNotFound
		}
		return d, nil
	}
	base := NewTable(Linear(8, "8:0", 5), Zero(3))
	for _, c := range []struct {
		what  string
		other driver.Table
		want  bool
	}{
		{"itself", base, true},
		{"by path", NewTable(Linear(8, "/dev/sda", 5), Zero(3)), true},
		{"by link", NewTable(Linear(8, "/dev/disk/by-id/x", 5), Zero(3)), true},
		{"more blanks", driver.Table{{Length: 8, Type: "linear", Params: " 8:0   5 "}, base[1]}, true},
		{"another disk", NewTable(Linear(8, "/dev/sdb", 5), Zero(3)), false},
		{"another offset", NewTable(Linear(8, "/dev/sda", 6), Zero(3)), false},
		{"another length", NewTable(Linear(8, "/dev/sda", 5), Zero(4)), false},
		{"another type", NewTable(Linear(8, "/dev/sda", 5), Error(3)), false},
		{"fewer", NewTable(Linear(8, "/dev/sda", 5)), false},
	} {
		got, err := Same(base, c.other, number)
		if got != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.what, got, err)
		}
	}
	if _, err := Same(base, NewTable(Linear(8, "/dev/gone", 5), Zero(3)), number); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("missing device: %v", err)
	}
}

func FuzzTargets(f *testing.F) {
	for _, typ := range []string{"linear", "switch", "snapshot", "multipath", "thin-pool", "thin", "cache"} {
		for _, s := range capturedLines(f, "table", typ) {
			f.Add(typ, s.Params)
		}
	}
	f.Add("flashcache", "/d /c n 3 1")
	f.Fuzz(func(t *testing.T, typ, params string) {
		s := driver.Segment{Length: 8, Type: typ, Params: params}
		once, err := reparse(s)
		if err != nil {
			return
		}
		// What was understood is said the same way again.
		twice, err := reparse(once)
		if err == nil && !reflect.DeepEqual(once, twice) {
			t.Errorf("%q became %q, then %q", params, once.Params, twice.Params)
		}
	})
}
