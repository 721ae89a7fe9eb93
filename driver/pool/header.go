package pool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

// Sizes and places, in bytes.
const (
	blockLen    = 4096 // unit of direct I/O
	headerSpace = 1 << 20
	secondAt    = 64 << 10
	headerUsed  = 512 // one sector, the unit in which disks write
	crcAt       = headerUsed - 4
)

const version = 1

// magic is 16 bytes.
const magic = "VMThunder pool\r\n"

type state uint32

const (
	formatting state = 1
	ready      state = 2
)

// header says what is where on the device. Starts and lengths are bytes, multiples of 4096.
type header struct {
	State              state
	UUID               uuid.UUID
	BlockBytes         uint64
	MetaStart, MetaLen uint64
	DataStart, DataLen uint64
}

// marshal returns a block of blockLen, little endian.
func (h header) marshal() []byte {
	b := make([]byte, blockLen)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[16:], version)
	binary.LittleEndian.PutUint32(b[20:], uint32(h.State))
	copy(b[24:40], h.UUID[:])
	for i, n := range []uint64{h.BlockBytes, h.MetaStart, h.MetaLen, h.DataStart, h.DataLen} {
		binary.LittleEndian.PutUint64(b[40+8*i:], n)
	}
	binary.LittleEndian.PutUint32(b[crcAt:], checksum(b))
	return b
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b[:crcAt], crc32.MakeTable(crc32.Castagnoli))
}

// copyState is what one of the header's places holds.
type copyState int

const (
	copyBlank   copyState = iota // zeros
	copyGood                     // a header
	copyDamaged                  // our magic with a wrong checksum
	copyForeign                  // something else
)

// unmarshal reads a place.
func unmarshal(b []byte) (header, copyState, error) {
	if len(b) < headerUsed {
		return header{}, copyForeign, nil
	}
	if isZero(b) {
		return header{}, copyBlank, nil
	}
	if string(b[:len(magic)]) != magic {
		return header{}, copyForeign, nil
	}
	if binary.LittleEndian.Uint32(b[crcAt:]) != checksum(b) {
		return header{}, copyDamaged, nil
	}
	if v := binary.LittleEndian.Uint32(b[16:]); v != version {
		return header{}, copyForeign, fmt.Errorf("header of version %d, this program knows %d", v, version)
	}
	h := header{State: state(binary.LittleEndian.Uint32(b[20:])), UUID: uuid.UUID(b[24:40])}
	for i, to := range []*uint64{&h.BlockBytes, &h.MetaStart, &h.MetaLen, &h.DataStart, &h.DataLen} {
		*to = binary.LittleEndian.Uint64(b[40+8*i:])
	}
	if h.State != formatting && h.State != ready {
		return header{}, copyForeign, fmt.Errorf("header with unknown state %d", h.State)
	}
	return h, copyGood, nil
}

// verdict is what the two places say together.
type verdict int

const (
	nothing  verdict = iota // no header; blank is still to be shown
	ours                    // header is good
	foreign                 // leave it alone
	halfMade                // the first write of a formatting was torn; blank but for it
)

// judge takes both copies together. It never takes a device for ours on one
// copy where the other was overwritten with something else: somebody may have put a
// partition table there and forgotten about us.
func judge(a, b []byte) (header, verdict, error) {
	ha, sa, ea := unmarshal(a)
	hb, sb, eb := unmarshal(b)
	for _, err := range []error{ea, eb} {
		if err != nil {
			return header{}, foreign, err
		}
	}
	switch {
	case sa == copyGood && sb == copyGood:
		if ha.UUID != hb.UUID {
			return header{}, foreign, fmt.Errorf("two headers of different pools, %s and %s", ha.UUID, hb.UUID)
		}
		if hb.State == ready {
			return hb, ours, nil
		}
		return ha, ours, nil
	case sa == copyForeign || sb == copyForeign:
		if sa == copyGood || sb == copyGood {
			return header{}, foreign, fmt.Errorf("one of the pool's headers was overwritten with something else")
		}
		return header{}, foreign, nil
	case sa == copyGood:
		return ha, ours, nil
	case sb == copyGood:
		return hb, ours, nil
	case sa == copyBlank && sb == copyBlank:
		return header{}, nothing, nil
	case sa == copyDamaged && sb == copyBlank:
		return header{}, halfMade, nil
	}
	return header{}, foreign, fmt.Errorf("the pool's headers are damaged")
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

var zeros [blockLen]byte

// Sizes of a pool's parts, in bytes.
const (
	DefaultBlockBytes = 64 << 10
	minMetadata       = 8 << 20
	maxMetadata       = 16<<30 - 192<<20 // what the kernel can use of it
	minData           = 16 << 20
	perBlock          = 64
	alignment         = 1 << 20
)

// layout places metadata and data on a device of size bytes. metadata 0 is computed.
func layout(size, block, metadata uint64) (header, error) {
	if block < 64<<10 || block > 1<<30 || block%(64<<10) != 0 {
		return header{}, fmt.Errorf("block size %d is not a multiple of 64 KiB up to 1 GiB", block)
	}
	if metadata == 0 {
		metadata = min(max(size/block*perBlock, minMetadata), maxMetadata)
	}
	metadata = (metadata + alignment - 1) / alignment * alignment
	h := header{BlockBytes: block, MetaStart: headerSpace, MetaLen: metadata, DataStart: headerSpace + metadata}
	if metadata < minMetadata || metadata > size || size < h.DataStart+max(minData, block) {
		return header{}, fmt.Errorf("%d bytes are too few for a pool with %d of metadata, it takes %d", size, metadata, h.DataStart+max(minData, block))
	}
	h.DataLen = (size - h.DataStart) / block * block
	return h, nil
}

// fits tells whether the header's parts lie on a device of size bytes.
func (h header) fits(size uint64) error {
	for _, n := range []uint64{h.MetaStart, h.MetaLen, h.DataStart, h.DataLen} {
		if n > size || n%blockLen != 0 || n == 0 {
			return fmt.Errorf("the pool's header names byte %d of %d", n, size)
		}
	}
	if h.MetaStart+h.MetaLen > h.DataStart || h.DataStart+h.DataLen > size || h.BlockBytes == 0 || h.BlockBytes%(64<<10) != 0 {
		return fmt.Errorf("the pool was made for a device of at least %d bytes, this one has %d", h.DataStart+h.DataLen, size)
	}
	return nil
}
