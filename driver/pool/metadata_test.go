package pool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// medium is a metadata device in memory.
type medium map[uint64][]byte

func (m medium) reader() thinMetadata {
	return thinMetadata{blocks: 64, block: func(n uint64) ([]byte, error) { return m[n], nil }}
}

func (m medium) seal(at uint64, b []byte, xor uint32) {
	binary.LittleEndian.PutUint64(b[8:], at)
	binary.LittleEndian.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^xor)
	m[at] = b
}

// node writes one with the given keys; values are numbers of size bytes.
func (m medium) node(at uint64, leaf bool, size int, entries ...[2]uint64) {
	b := make([]byte, metadataBlock)
	most := (metadataBlock - nodeHeader) / (8 + size)
	flags := uint32(nodeInternal)
	if leaf {
		flags = nodeLeaf
	}
	binary.LittleEndian.PutUint32(b[4:], flags)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(entries)))
	binary.LittleEndian.PutUint32(b[20:], uint32(most))
	binary.LittleEndian.PutUint32(b[24:], uint32(size))
	for i, e := range entries {
		binary.LittleEndian.PutUint64(b[nodeHeader+8*i:], e[0])
		binary.LittleEndian.PutUint64(b[nodeHeader+8*most+size*i:], e[1])
	}
	m.seal(at, b, nodeXOR)
}

func (m medium) superblock(at, mappings, details uint64) {
	b := make([]byte, metadataBlock)
	binary.LittleEndian.PutUint64(b[32:], thinMetadataMagic)
	binary.LittleEndian.PutUint64(b[320:], mappings)
	binary.LittleEndian.PutUint64(b[328:], details)
	m.seal(at, b, superblockXOR)
}

// pool of three devices: 2 has blocks 0 (at 9 of the data), 7 and 500; 5 has block 3; 6 nothing.
func pool() medium {
	m := medium{}
	m.superblock(1, 10, 20)
	m.node(20, false, 8, [2]uint64{2, 21}, [2]uint64{6, 22})
	m.node(21, true, 24, [2]uint64{2, 3}, [2]uint64{5, 1})
	m.node(22, true, 24, [2]uint64{6, 0})
	m.node(10, true, 8, [2]uint64{2, 11}, [2]uint64{5, 14})
	m.node(11, false, 8, [2]uint64{0, 12}, [2]uint64{100, 13})
	m.node(12, true, 8, [2]uint64{0, 9<<24 | 4}, [2]uint64{7, 11 << 24})
	m.node(13, true, 8, [2]uint64{500, 12 << 24})
	m.node(14, true, 8, [2]uint64{3, 13 << 24})
	return m
}

func TestMetadata(t *testing.T) {
	m := pool().reader()
	r, err := m.roots(1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.devices(r, func(uint32) bool { return true })
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	first := got[0].first
	if first == nil || *first != 9 || got[0].id != 2 || got[0].mapped != 3 || got[0].end != 501 {
		t.Errorf("device 2: %+v", got[0])
	}
	if got[1].first != nil || got[1].end != 4 || got[1].mapped != 1 {
		t.Errorf("device 5: %+v", got[1])
	}
	if got[2] != (device{id: 6}) {
		t.Errorf("device 6: %+v", got[2])
	}
}

// Whatever is wrong is an error that says so, and ends.
func TestMetadataDamaged(t *testing.T) {
	for name, damage := range map[string]func(m medium){
		"checksum of the superblock": func(m medium) { m[1][40] ^= 1 },
		"no superblock":              func(m medium) { m.node(1, true, 8) },
		"checksum of a node":         func(m medium) { m[22][100] ^= 1 },
		"node of another block":      func(m medium) { m[22] = m[21] },
		"out of the device":          func(m medium) { m.node(20, false, 8, [2]uint64{2, 64}) },
		"ring":                       func(m medium) { m.node(20, false, 8, [2]uint64{2, 20}) },
		"many ways into a ring":      func(m medium) { m.node(20, false, 8, [2]uint64{2, 20}, [2]uint64{3, 20}) },
		"ring of mappings":           func(m medium) { m.node(11, false, 8, [2]uint64{0, 11}) },
		"values of another size":     func(m medium) { m.node(21, true, 16, [2]uint64{2, 3}) },
		"thin number above 24 bits":  func(m medium) { m.node(22, true, 24, [2]uint64{1 << 24, 3}) },
		"more entries than a node has": func(m medium) {
			b := m[22]
			binary.LittleEndian.PutUint32(b[16:], 4000)
			m.seal(22, b, nodeXOR)
		},
	} {
		m := pool()
		damage(m)
		r, err := m.reader().roots(1)
		if err == nil {
			_, err = m.reader().devices(r, func(uint32) bool { return true })
		}
		if !errors.Is(err, errMetadata) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzMetadataNode(f *testing.F) {
	for _, b := range pool() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != metadataBlock {
			return
		}
		medium{}.seal(7, b, nodeXOR)
		n, err := parseNode(b, 7, detailsSize)
		if err == nil && len(n.keys) != len(n.values) {
			t.Errorf("%d keys, %d values", len(n.keys), len(n.values))
		}
	})
}
