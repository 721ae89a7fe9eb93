package pool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
)

// The kernel's thin metadata, as far as they tell which thin devices there are: a superblock
// and B-trees in blocks of 4 KiB, all numbers little-endian
// (drivers/md/dm-thin-metadata.c, drivers/md/persistent-data/dm-btree-internal.h).
const (
	thinMetadataMagic = 27022010
	superblockXOR     = 160774 // SUPERBLOCK_CSUM_XOR
	nodeXOR           = 121107 // BTREE_CSUM_XOR
	nodeHeader        = 32
	nodeInternal      = 1
	nodeLeaf          = 2
	detailsSize       = 24 // struct disk_device_details
	rootSize          = 8  // of a tree within a tree, and of a mapping
	maxDepth          = 16 // no tree of 2^64 blocks is deeper
	exceptionMagic    = 0x70416e53
)

var errMetadata = errors.New("the pool's metadata are damaged, or of a kind that is not known")

// thinMetadata reads a metadata snapshot.
type thinMetadata struct {
	block  func(n uint64) ([]byte, error) // of the metadata device
	blocks uint64                         // that it has
}

// roots are the trees of a superblock or of a snapshot of it.
type roots struct {
	mappings uint64 // by thin device, then by block
	details  uint64 // by thin device
}

func sealed(b []byte, xor uint32) bool {
	return binary.LittleEndian.Uint32(b) == ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^xor
}

func (m thinMetadata) roots(at uint64) (roots, error) {
	b, err := m.read(at)
	if err != nil {
		return roots{}, err
	}
	switch {
	case !sealed(b, superblockXOR):
		return roots{}, fmt.Errorf("superblock at %d: bad checksum: %w", at, errMetadata)
	case binary.LittleEndian.Uint64(b[32:]) != thinMetadataMagic:
		return roots{}, fmt.Errorf("superblock at %d: bad magic: %w", at, errMetadata)
	}
	const maps = 64 + 128 + 128 // behind uuid, version, times and the two space maps' roots
	return roots{mappings: binary.LittleEndian.Uint64(b[maps:]), details: binary.LittleEndian.Uint64(b[maps+8:])}, nil
}

func (m thinMetadata) read(n uint64) ([]byte, error) {
	if n >= m.blocks {
		return nil, fmt.Errorf("block %d of %d: %w", n, m.blocks, errMetadata)
	}
	return m.block(n)
}

// treeNode of a B-tree. Values of an inner one are the blocks of its children.
type treeNode struct {
	leaf   bool
	keys   []uint64
	values [][]byte
}

// parseNode reads the node in block at, whose values are of valueSize bytes if it is a leaf.
func parseNode(b []byte, at uint64, valueSize int) (treeNode, error) {
	var n treeNode
	if len(b) != metadataBlock || !sealed(b, nodeXOR) || binary.LittleEndian.Uint64(b[8:]) != at {
		return n, fmt.Errorf("node at %d: bad checksum or number: %w", at, errMetadata)
	}
	flags, count, most := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	size := binary.LittleEndian.Uint32(b[24:])
	n.leaf = flags == nodeLeaf
	want := rootSize
	if n.leaf {
		want = valueSize
	}
	const room = metadataBlock - nodeHeader
	if !n.leaf && flags != nodeInternal || uint64(size) != uint64(want) || most > room || count > most || int(most)*(8+want) > room {
		return n, fmt.Errorf("node at %d: flags %d, %d of %d values of %d bytes: %w", at, flags, count, most, size, errMetadata)
	}
	values := nodeHeader + 8*int(most)
	for i := range int(count) {
		n.keys = append(n.keys, binary.LittleEndian.Uint64(b[nodeHeader+8*i:]))
		n.values = append(n.values, b[values+want*i:values+want*(i+1)])
	}
	return n, nil
}

// walk calls visit for all of a tree's values, in the order of their keys.
func (m thinMetadata) walk(root uint64, valueSize int, visit func(key uint64, value []byte) error) error {
	left := m.blocks // a damaged tree may have rings
	var down func(at uint64, depth int) error
	down = func(at uint64, depth int) error {
		if depth > maxDepth || left == 0 {
			return fmt.Errorf("tree at %d has no end: %w", root, errMetadata)
		}
		left--
		n, err := m.node(at, valueSize)
		if err != nil {
			return err
		}
		for i, key := range n.keys {
			if n.leaf {
				err = visit(key, n.values[i])
			} else {
				err = down(binary.LittleEndian.Uint64(n.values[i]), depth+1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return down(root, 0)
}

func (m thinMetadata) node(at uint64, valueSize int) (treeNode, error) {
	b, err := m.read(at)
	if err != nil {
		return treeNode{}, err
	}
	return parseNode(b, at, valueSize)
}

// find returns the entry with the greatest key that is not above the one given; ok is false if
// there is none.
func (m thinMetadata) find(root uint64, valueSize int, key uint64) (found uint64, value []byte, ok bool, err error) {
	for range maxDepth {
		n, err := m.node(root, valueSize)
		if err != nil {
			return 0, nil, false, err
		}
		i := sort.Search(len(n.keys), func(i int) bool { return n.keys[i] > key }) - 1
		switch {
		case i < 0:
			return 0, nil, false, nil
		case n.leaf:
			return n.keys[i], n.values[i], true, nil
		}
		root = binary.LittleEndian.Uint64(n.values[i])
	}
	return 0, nil, false, fmt.Errorf("tree at %d has no end: %w", root, errMetadata)
}

// device is what the metadata tell of a thin device, in blocks of the pool's data.
type device struct {
	id     uint32
	mapped uint64
	end    uint64  // behind the last that is mapped
	first  *uint64 // where in the pool's data its first block is, if that is mapped
}

// devices are the thin devices whose numbers are wanted.
func (m thinMetadata) devices(r roots, want func(id uint32) bool) ([]device, error) {
	var out []device
	err := m.walk(r.details, detailsSize, func(key uint64, value []byte) error {
		if key > maxID {
			return fmt.Errorf("thin number %d: %w", key, errMetadata)
		}
		if want(uint32(key)) {
			out = append(out, device{id: uint32(key), mapped: binary.LittleEndian.Uint64(value)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if err := m.extent(r, &out[i]); err != nil {
			return nil, fmt.Errorf("thin device %d: %w", out[i].id, err)
		}
	}
	return out, nil
}

func (m thinMetadata) extent(r roots, d *device) error {
	key, value, ok, err := m.find(r.mappings, rootSize, uint64(d.id))
	if err != nil || !ok || key != uint64(d.id) {
		return err // one without a tree has no data
	}
	root := binary.LittleEndian.Uint64(value)
	last, _, ok, err := m.find(root, rootSize, 1<<63)
	if err != nil || !ok {
		return err
	}
	d.end = last + 1
	_, value, ok, err = m.find(root, rootSize, 0)
	if err == nil && ok {
		first := binary.LittleEndian.Uint64(value) >> 24 // below it is the time of the mapping
		d.first = &first
	}
	return err
}

// holdsExceptions tells whether a device begins as dm-snapshot's persistent store does
// (drivers/md/dm-snap-persistent.c, struct disk_header).
func holdsExceptions(begin []byte) bool {
	return len(begin) >= 12 && binary.LittleEndian.Uint32(begin) == exceptionMagic && binary.LittleEndian.Uint32(begin[8:]) == 1
}
