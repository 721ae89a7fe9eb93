package pool

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
)

var sample = header{
	State: ready, UUID: uuid.MustParse("0f0e0d0c-1111-2222-3333-444455556666"), BlockBytes: 64 << 10,
	MetaStart: 1 << 20, MetaLen: 8 << 20, DataStart: 9 << 20, DataLen: 100 << 20,
}

func TestHeader(t *testing.T) {
	b := sample.marshal()
	got, s, err := unmarshal(b)
	if got != sample || s != copyGood || err != nil {
		t.Errorf("read back %+v, %v, %v", got, s, err)
	}
	if len(b) != blockLen || !isZero(b[headerUsed:]) {
		t.Error("a header is more than a sector")
	}
	for i := range headerUsed {
		bad := bytes.Clone(b)
		bad[i] ^= 4
		if _, s, _ := unmarshal(bad); s == copyGood {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
	newer := bytes.Clone(b)
	newer[16] = 9
	sum := checksum(newer)
	newer[crcAt], newer[crcAt+1], newer[crcAt+2], newer[crcAt+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	if _, s, err := unmarshal(newer); s != copyForeign || err == nil {
		t.Errorf("a newer version: %v, %v", s, err)
	}
}

func TestJudge(t *testing.T) {
	other := sample
	other.UUID[0]++
	half := sample
	half.State = formatting
	blank, good, damaged := make([]byte, blockLen), sample.marshal(), sample.marshal()
	damaged[70] ^= 1
	strange := bytes.Repeat([]byte{7}, blockLen)
	for _, c := range []struct {
		what string
		a, b []byte
		want verdict
		h    header
	}{
		{"blank", blank, blank, nothing, header{}},
		{"good", good, good, ours, sample},
		{"one formatted already", good, half.marshal(), ours, sample},
		{"the other formatted already", half.marshal(), good, ours, sample},
		{"formatting", half.marshal(), half.marshal(), ours, half},
		{"first write only", half.marshal(), blank, ours, half},
		{"first write torn", damaged, blank, halfMade, header{}},
		{"first lost", blank, good, ours, sample},
		{"first damaged", damaged, good, ours, sample},
		{"second damaged", good, damaged, ours, sample},
		{"second damaged alone", blank, damaged, foreign, header{}},
		{"both damaged", damaged, damaged, foreign, header{}},
		{"first overwritten", strange, good, foreign, header{}},
		{"second overwritten", good, strange, foreign, header{}},
		{"foreign", strange, strange, foreign, header{}},
		{"foreign first", strange, blank, foreign, header{}},
		{"two pools", good, other.marshal(), foreign, header{}},
	} {
		h, v, _ := judge(c.a, c.b)
		if v != c.want || h != c.h {
			t.Errorf("%s: %v %+v, want %v %+v", c.what, v, h, c.want, c.h)
		}
	}
}

func TestLayout(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		size, block, meta  uint64
		wantMeta, wantData uint64 // 0: refused
	}{
		{gib, 64 << 10, 0, 8 << 20, gib - 9<<20},
		{1024 * gib, 64 << 10, 0, gib, 1024*gib - gib - 1<<20},
		{64 << 40, 64 << 10, 0, maxMetadata, 64<<40 - maxMetadata - 1<<20},
		{gib, 1 << 20, 12<<20 + 1, 13 << 20, gib - 14<<20},
		{gib + 5000, 64 << 10, 0, 8 << 20, gib - 9<<20},
		{25 << 20, 64 << 10, 0, 8 << 20, 16 << 20},
		{25<<20 - 1, 64 << 10, 0, 0, 0},
		{gib, 1000, 0, 0, 0},
		{gib, 64 << 10, 1 << 20, 0, 0},
		{gib, 64 << 10, gib, 0, 0},
		{gib, 64 << 10, 1 << 62, 0, 0},
	} {
		h, err := layout(c.size, c.block, c.meta)
		if (err == nil) != (c.wantData != 0) || h.MetaLen != c.wantMeta || h.DataLen != c.wantData {
			t.Errorf("%+v: %+v, %v", c, h, err)
		}
		if err == nil {
			if err := h.fits(c.size); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			if h.fits(h.DataStart+h.DataLen-1) == nil {
				t.Errorf("%+v: fits on less", c)
			}
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(sample.marshal()[:headerUsed], make([]byte, headerUsed))
	f.Add([]byte(magic), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		h, v, err := judge(a, b)
		if v == ours && (err != nil || h.State != ready && h.State != formatting) {
			t.Errorf("ours: %+v, %v", h, err)
		}
		if v == ours {
			if again, s, _ := unmarshal(h.marshal()); s != copyGood || again != h {
				t.Errorf("%+v reads back as %+v", h, again)
			}
		}
		_ = h.fits(1 << 40)
		_ = looksLike(a)
	})
}
