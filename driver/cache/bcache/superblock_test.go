package bcache

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The fixtures are sector 8 of files that make-bcache 1.0.8 formatted:
//
//	make-bcache -w 4k -b 512k -C cache.img  (256 MiB) --cset-uuid 11111111-2222-3333-4444-555555555555
//	make-bcache -w 4k -o 16 -B backing.img
//	make-bcache -w 4k -o 64 --writeback -B backing-offset.img
var fixtures = []struct {
	file string
	want Superblock
}{
	{"make-bcache-cache.sb", Superblock{
		Version: VersionCache, UUID: uuid.MustParse("b5ed205f-c1fd-4423-83a3-1224578604dc"),
		Set: uuid.MustParse("11111111-2222-3333-4444-555555555555"), Buckets: 512,
		BlockSectors: 8, BucketSectors: 1024, InSet: 1, FirstBucket: 1,
	}},
	{"make-bcache-backing.sb", Superblock{
		Version: VersionBacking, UUID: uuid.MustParse("11661797-e5f4-489d-8d04-50e4b36f8ae3"),
		Set: uuid.MustParse("d370546b-1a70-40da-9051-d36f13f1b547"), DataOffset: 16,
		BlockSectors: 8, BucketSectors: 1024,
	}},
	{"make-bcache-backing-offset.sb", Superblock{
		Version: VersionBackingOffset, UUID: uuid.MustParse("281a979e-d249-459c-bc2a-53295ada2799"),
		Set: uuid.MustParse("c88547ad-501c-491c-b528-33bec2f7d720"), DataOffset: 64, Flags: 1,
		BlockSectors: 8, BucketSectors: 1024,
	}},
}

func TestSuperblockOfMakeBcache(t *testing.T) {
	for _, f := range fixtures {
		t.Run(f.file, func(t *testing.T) {
			raw := fixture(t, f.file)
			got, err := DecodeSuperblock(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(f.want, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if !bytes.Equal(got.Encode(), raw) {
				t.Error("encoded bytes differ from those of make-bcache")
			}
		})
	}
}

func TestNewSuperblocksAreThoseOfMakeBcache(t *testing.T) {
	want, err := DecodeSuperblock(fixture(t, "make-bcache-cache.sb"))
	if err != nil {
		t.Fatal(err)
	}
	// 1 GiB has 2048 buckets of 512 KiB; make-bcache made 512 of them on 256 MiB,
	// which is one too few for the kernel.
	got, err := newCache(1<<30, want.Set, want.UUID)
	if err != nil {
		t.Fatal(err)
	}
	want.Buckets, want.Label = 2048, SetLabel
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cache (-make-bcache +ours):\n%s", diff)
	}

	want, err = DecodeSuperblock(fixture(t, "make-bcache-backing.sb"))
	if err != nil {
		t.Fatal(err)
	}
	image := uuid.MustParse("0e0b8bd3-8c25-4f2e-9c3a-5b7f1f0a9d11")
	want.Set, want.Flags, want.Label = uuid.Nil, modeWritearound, "0e0b8bd38c254f2e9c3a5b7f1f0a9d11"
	if diff := cmp.Diff(want, newBacking(image, want.UUID)); diff != "" {
		t.Errorf("backing (-make-bcache +ours):\n%s", diff)
	}
}

func TestNewCacheSizes(t *testing.T) {
	for _, c := range []struct {
		bytes   int64
		buckets uint64
		sectors uint16
	}{
		{64 << 20, 1024, 128},
		{100 << 20, 1600, 128},
		{128 << 20, 1024, 256},
		{512<<20 - 512, 2047, 512},
		{512 << 20, 1024, 1024},
		{1 << 40, 2 << 20, 1024},
	} {
		s, err := newCache(c.bytes, uuid.New(), uuid.New())
		if err != nil || s.Buckets != c.buckets || s.BucketSectors != c.sectors {
			t.Errorf("newCache(%d) = %d buckets of %d sectors, %v; want %d of %d", c.bytes, s.Buckets, s.BucketSectors, err, c.buckets, c.sectors)
		}
	}
	if _, err := newCache(MinCacheBytes-1, uuid.New(), uuid.New()); err == nil {
		t.Error("a cache device that is too small was accepted")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := fixture(t, "make-bcache-cache.sb")
	change := func(off int, c byte) []byte {
		b := bytes.Clone(good)
		b[off] ^= c
		return b
	}
	version := Superblock{Version: 7, UUID: uuid.New()}.Encode()
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":   {nil, ErrNoSuperblock},
		"zeros":     {make([]byte, SuperblockSize), ErrNoSuperblock},
		"short":     {good[:SuperblockSize-1], ErrNoSuperblock},
		"magic":     {change(offMagic, 1), ErrNoSuperblock},
		"sector":    {change(offOffset, 1), ErrBadSuperblock},
		"checksum":  {change(offCsum, 1), ErrBadSuperblock},
		"uuid":      {change(offUUID, 1), ErrBadSuperblock},
		"journal":   {change(offKeys+1, 2), ErrBadSuperblock},
		"a version": {version, ErrBadSuperblock},
	} {
		if _, err := DecodeSuperblock(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestEncodeCutsWhatDoesNotFit(t *testing.T) {
	s := Superblock{Version: VersionCacheUUID, Label: string(bytes.Repeat([]byte("x"), 40)), Flags: 7, Journal: make([]uint64, 300)}
	got, err := DecodeSuperblock(s.Encode())
	if err != nil || len(got.Label) != LabelSize || len(got.Journal) != 256 || got.Flags != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestState(t *testing.T) {
	for want := range State(4) {
		if got := (Superblock{Flags: modeWritearound | uint64(want)<<stateShift}).State(); got != want {
			t.Errorf("state %d, want %d", got, want)
		}
	}
}

func FuzzDecodeSuperblock(f *testing.F) {
	for _, c := range fixtures {
		f.Add(fixture(f, c.file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= offJournal {
			// Past the checksum, or nothing would be tried behind it.
			keys := int(b[offKeys]) | int(b[offKeys+1])<<8
			if keys <= maxJournal && len(b) >= SuperblockSize {
				sum := checksum(b, keys)
				for i := range 8 {
					b[i] = byte(sum >> (8 * i))
				}
			}
		}
		s, err := DecodeSuperblock(b)
		if err != nil {
			return
		}
		again, err := DecodeSuperblock(s.Encode())
		if err != nil {
			t.Fatalf("what was decoded can't be decoded again: %v", err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}
