package dm

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func statusParsers() map[string]func(string) (any, error) {
	return map[string]func(string) (any, error){
		"snapshot":   func(s string) (any, error) { return ParseSnapshotStatus(s) },
		"thin-pool":  func(s string) (any, error) { return ParseThinPoolStatus(s) },
		"thin":       func(s string) (any, error) { return ParseThinStatus(s) },
		"cache":      func(s string) (any, error) { return ParseCacheStatus(s) },
		"multipath":  func(s string) (any, error) { return ParseMultipathStatus(s) },
		"flashcache": func(s string) (any, error) { return ParseFlashcacheStatus(s) },
		"stat":       func(s string) (any, error) { return ParseBlockStat(s) },
	}
}

func TestCapturedStatus(t *testing.T) {
	for typ, want := range map[string][]any{
		"snapshot": {
			SnapshotStatus{Used: 16, Total: 32768, Metadata: 16},
			SnapshotStatus{Used: 40, Total: 32768, Metadata: 16},
			SnapshotStatus{Invalid: true},
		},
		"multipath": {
			MultipathStatus{QueueIO: true, Paths: []MultipathPath{{Device: DevNumber{7, 0}, Active: true}}},
			MultipathStatus{QueueIO: true, Paths: []MultipathPath{{Device: DevNumber{98, 0}, Active: true}}},
			MultipathStatus{QueueIO: true, Paths: []MultipathPath{{Device: DevNumber{98, 0}, Failures: 1}}},
			MultipathStatus{QueueIO: true},
		},
		"thin-pool": {
			ThinPoolStatus{UsedMetadata: 213, Metadata: 2048, Data: 160, HeldRoot: "-", Mode: "rw", Discard: "no_discard_passdown", MetadataLowWater: 512},
			ThinPoolStatus{UsedMetadata: 214, Metadata: 2048, UsedData: 10, Data: 160, HeldRoot: "-", Mode: "rw", Discard: "no_discard_passdown", MetadataLowWater: 512},
		},
		"thin": {ThinStatus{}, ThinStatus{Mapped: 1280}},
		"cache": {
			CacheStatus{MetadataBlockSectors: 8, UsedMetadata: 7, Metadata: 1024, BlockSectors: 64, Blocks: 256, ReadMisses: 204, Mode: "writethrough", Policy: "smq"},
			CacheStatus{MetadataBlockSectors: 8, UsedMetadata: 7, Metadata: 1024, BlockSectors: 64, Blocks: 256, Mode: "passthrough", Policy: "smq"},
		},
	} {
		lines := capturedLines(t, "status", typ)
		if len(lines) != len(want) {
			t.Fatalf("%d lines of %s, expected %d", len(lines), typ, len(want))
		}
		for i, s := range lines {
			got, err := statusParsers()[typ](s.Params)
			if err != nil || !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s %q: %+v, %v; want %+v", typ, s.Params, got, err, want[i])
			}
		}
	}
}

// Lines that a kernel prints in states that were not captured, from its source.
func TestOtherStatus(t *testing.T) {
	for _, c := range []struct {
		typ, line string
		want      any // nil: refused
	}{
		{"snapshot", "Overflow", SnapshotStatus{Invalid: true, Overflow: true}},
		{"snapshot", "Merge failed", SnapshotStatus{MergeFailed: true}},
		{"snapshot", "Unknown", SnapshotStatus{}},
		{"snapshot", "", nil},
		{"snapshot", "16/x 16", nil},
		{"snapshot", "16/32 16 9", nil},
		{"thin-pool", "Fail", ThinPoolStatus{Mode: PoolFailed}},
		{"thin-pool", "Error", ThinPoolStatus{Mode: PoolFailed}},
		{
			"thin-pool", "3 10/2048 160/160 77 out_of_data_space discard_passdown error_if_no_space needs_check 1024 ",
			ThinPoolStatus{
				Transaction: 3, UsedMetadata: 10, Metadata: 2048, UsedData: 160, Data: 160, HeldRoot: "77",
				Mode: PoolOutOfDataSpace, Discard: "discard_passdown", ErrorIfNoSpace: true, NeedsCheck: true, MetadataLowWater: 1024,
			},
		},
		{
			"thin-pool", "0 1/2 3/4 - ro ignore_discard queue_if_no_space",
			ThinPoolStatus{UsedMetadata: 1, Metadata: 2, UsedData: 3, Data: 4, HeldRoot: "-", Mode: PoolReadOnly, Discard: "ignore_discard"},
		},
		{"thin-pool", "0 1/2 3/4 - wr ignore_discard queue_if_no_space", nil},
		{"thin-pool", "0 1/2 3/4 -", nil},
		{"thin", "Fail", ThinStatus{Failed: true}},
		{"thin", "-", ThinStatus{}},
		{"thin", "10", nil},
		{"thin", "10 x", nil},
		{"cache", "Fail", CacheStatus{Failed: true}},
		{
			"cache", "8 27/1024 64 5/256 10 20 1 2 3 4 0 2 metadata2 writethrough 2 migration_threshold 2048 smq 0 ro needs_check ",
			CacheStatus{
				MetadataBlockSectors: 8, UsedMetadata: 27, Metadata: 1024, BlockSectors: 64, UsedBlocks: 5, Blocks: 256,
				ReadHits: 10, ReadMisses: 20, WriteHits: 1, WriteMisses: 2, Demotions: 3, Promotions: 4,
				Mode: "writethrough", Policy: "smq", ReadOnly: true, NeedsCheck: true,
			},
		},
		{"cache", "8 27/1024 64 5/256 10 20", nil},
		{
			"multipath", "2 0 0 1 alua 2 2 D 0 1 0 8:0 F 3 E 0 2 1 8:16 A 0 1 8:32 A 1 2",
			MultipathStatus{Paths: []MultipathPath{
				{Device: DevNumber{8, 0}, Failures: 3}, {Device: DevNumber{8, 16}, Active: true}, {Device: DevNumber{8, 32}, Active: true, Failures: 1},
			}},
		},
		{"multipath", "2 0 0 0 1 1 E 0 1 0 8:0 X 0", nil},
		{"multipath", "2 0 0 0 99999999999999 1", nil},
		{"flashcache", "stats: \n\treads(142), writes(3)\n\tread hits(50), read hit percent(35)", FlashcacheStatus{Reads: 142, ReadHits: 50}},
		{"flashcache", "stats: reads(142)", nil},
		{
			"stat", "      63       2    24       5    17   1    90   4   9     60   63   0 0 0 0 0 0\n",
			BlockStat{Reads: 63, ReadSectors: 24, Writes: 17, WriteSectors: 90, InFlight: 9},
		},
		{"stat", "1 2 3", nil},
		{"stat", "1 2 x 4 5 6 7 8 9 10 11", nil},
	} {
		got, err := statusParsers()[c.typ](c.line)
		if c.want == nil && err == nil {
			t.Errorf("%s %q: %+v", c.typ, c.line, got)
		}
		if c.want != nil && (err != nil || !reflect.DeepEqual(got, c.want)) {
			t.Errorf("%s %q: %+v, %v; want %+v", c.typ, c.line, got, err, c.want)
		}
	}
}

func FuzzStatus(f *testing.F) {
	for typ := range statusParsers() {
		if typ == "flashcache" || typ == "stat" {
			continue
		}
		for _, s := range capturedLines(f, "status", typ) {
			f.Add(s.Params)
		}
	}
	f.Add("stats: reads(1) read hits(2)")
	f.Fuzz(func(_ *testing.T, line string) {
		for _, parse := range statusParsers() {
			_, _ = parse(line) // none may panic or take for ever
		}
	})
}

func TestParseKernelLog(t *testing.T) {
	for in, want := range map[string]string{
		"3,1034,7900000,-;device-mapper: table: 254:8: thin: Couldn't open thin internal device (-ENODATA)\n": "table: 254:8: thin: Couldn't open thin internal device (-ENODATA)",
		"6,339,5140900,-;loop2: detected capacity change\n SUBSYSTEM=block\n":                                 "",
		"device-mapper: without a prefix": "",
		"":                                "",
	} {
		got, ok := parseKernelLog(in)
		if got != want && ok || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}

// Nodes are made, replaced and taken away; where udev is said to run and doesn't
// do its work, the same.
func TestNodes(t *testing.T) {
	n := nodes{dir: t.TempDir(), udev: func() bool { return false }}
	link := func(name, to string) {
		if err := os.Symlink(to, filepath.Join(n.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A link to a device, as udev makes it, is as good as a node.
	disk := ""
	for _, d := range []string{"/dev/vda", "/dev/sda", "/dev/ubda", "/dev/nvme0n1", "/dev/loop0"} {
		if _, err := Number(d); err == nil {
			disk = d
			break
		}
	}
	if disk != "" {
		var st unix.Stat_t
		if err := unix.Stat(disk, &st); err != nil {
			t.Fatal(err)
		}
		link("udev", disk)
		if !n.stands("udev", st.Rdev) || n.stands("udev", st.Rdev+1) {
			t.Error("a link to a device isn't taken for it")
		}
		if err := n.ensure(t.Context(), "udev", st.Rdev); err != nil {
			t.Error(err)
		}
	}
	link("stale", "/dev/null")
	if n.stands("stale", unix.Mkdev(1, 3)) {
		t.Error("a character device is taken for a block device")
	}
	for range 2 {
		if err := n.remove(t.Context(), "stale"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(n.path("stale")); !os.IsNotExist(err) {
		t.Errorf("the node is left: %v", err)
	}
}

func TestCheckNameAndNumber(t *testing.T) {
	for _, name := range []string{"", ".", "..", ".x", "control", "a/b", "a\x00", strings.Repeat("x", 128)} {
		if checkName(name) == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if err := checkName(strings.Repeat("x", 127)); err != nil {
		t.Error(err)
	}
	if d, err := Number("254:300"); err != nil || d != (DevNumber{254, 300}) {
		t.Errorf("%v, %v", d, err)
	}
	for _, bad := range []string{"/dev/null", "254:", "1:2:3", "/nothing", "01:2"} {
		if d, err := Number(bad); err == nil {
			t.Errorf("%q is %v", bad, d)
		}
	}
}
