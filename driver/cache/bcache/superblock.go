package bcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// On-disk versions of a superblock (drivers/md/bcache/bcache_ondisk.h).
const (
	VersionCache           = 0 // cache device; the kernel makes it 3 on first use
	VersionBacking         = 1 // backing device, data at sector 16
	VersionCacheUUID       = 3
	VersionBackingOffset   = 4 // backing device with a data offset
	VersionCacheFeatures   = 5
	VersionBackingFeatures = 6
)

// State of a backing device with respect to its cache set (BDEV_STATE).
type State uint8

// States of a backing device.
const (
	StateNone  State = 0 // never attached, or detached
	StateClean State = 1 // attached, the set holds nothing that is not here
	StateDirty State = 2
	StateStale State = 3 // ran without its set: what the set holds is void
)

const (
	// SuperblockOffset is where the superblock is, SuperblockSize how long, both in bytes.
	SuperblockOffset = 4096
	SuperblockSize   = 4096
	// LabelSize is the room for a label, in bytes.
	LabelSize = 32

	superblockSector = 8
	maxJournal       = 256

	// Of struct cache_sb_disk, in bytes.
	offCsum    = 0
	offOffset  = 8
	offVersion = 16
	offMagic   = 24
	offUUID    = 40
	offSet     = 56
	offLabel   = 72
	offFlags   = 104
	offSeq     = 112
	offFeature = 120
	offBuckets = 184 // data_offset of a backing device
	offBlock   = 192
	offBucket  = 194
	offInSet   = 196
	offThis    = 198
	offMount   = 200
	offFirst   = 204
	offKeys    = 206
	offJournal = 208
	offHigh    = offJournal + 8*maxJournal

	stateShift = 61 // BDEV_STATE is flags bits 61-62
	stateMask  = 3
)

// magic is the bytes every superblock has (bcache_magic).
var magic = [16]byte{0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81}

var (
	// ErrNoSuperblock says that there is no bcache superblock at all.
	ErrNoSuperblock = errors.New("no bcache superblock")
	// ErrBadSuperblock says that there is one, and it is damaged or of an unknown version.
	ErrBadSuperblock = errors.New("bad bcache superblock")
)

// Superblock is struct cache_sb_disk of a cache or backing device. All numbers on disk
// are little endian.
type Superblock struct {
	Version  uint64
	UUID     uuid.UUID // of the device
	Set      uuid.UUID // of its cache set
	Label    string    // at most LabelSize bytes
	Flags    uint64    // see State; of a cache device bit 0 says that it holds data
	Seq      uint64
	Features [3]uint64 // compat, incompat, ro_compat; versions 5 and 6

	// DataOffset is where the data of a backing device begins, in sectors. 16 in version 1,
	// which does not store it.
	DataOffset uint64
	// Buckets is how many buckets a cache device has.
	Buckets uint64

	BlockSectors      uint16
	BucketSectors     uint16 // of a cache device
	BucketSectorsHigh uint16 // obsolete
	InSet, ThisDevice uint16 // of a cache device: how many in its set, and which is this
	LastMount         uint32 // seconds since 1970
	FirstBucket       uint16
	Journal           []uint64 // journal buckets of a cache device; at most 256
}

// Backing tells a backing device from a cache device.
func (s Superblock) Backing() bool {
	return s.Version == VersionBacking || s.Version == VersionBackingOffset || s.Version == VersionBackingFeatures
}

// State of a backing device.
func (s Superblock) State() State { return State(s.Flags >> stateShift & stateMask) }

// DecodeSuperblock reads the 4096 bytes at SuperblockOffset. The error is
// ErrNoSuperblock or wraps ErrBadSuperblock.
func DecodeSuperblock(b []byte) (Superblock, error) {
	var s Superblock
	if len(b) < SuperblockSize || !bytes.Equal(b[offMagic:offMagic+16], magic[:]) {
		return s, ErrNoSuperblock
	}
	le := binary.LittleEndian
	if at := le.Uint64(b[offOffset:]); at != superblockSector {
		return s, fmt.Errorf("%w: it says it is at sector %d", ErrBadSuperblock, at)
	}
	keys := int(le.Uint16(b[offKeys:]))
	if keys > maxJournal {
		return s, fmt.Errorf("%w: %d journal buckets", ErrBadSuperblock, keys)
	}
	if got, want := le.Uint64(b[offCsum:]), checksum(b, keys); got != want {
		return s, fmt.Errorf("%w: checksum %#x, computed %#x", ErrBadSuperblock, got, want)
	}
	s.Version = le.Uint64(b[offVersion:])
	switch s.Version {
	case VersionCache, VersionCacheUUID, VersionCacheFeatures:
		s.Buckets = le.Uint64(b[offBuckets:])
	case VersionBacking:
		s.DataOffset = DataOffset
	case VersionBackingOffset, VersionBackingFeatures:
		s.DataOffset = le.Uint64(b[offBuckets:])
	default:
		return Superblock{}, fmt.Errorf("%w: version %d", ErrBadSuperblock, s.Version)
	}
	copy(s.UUID[:], b[offUUID:])
	copy(s.Set[:], b[offSet:])
	s.Label = string(bytes.TrimRight(b[offLabel:offLabel+LabelSize], "\x00"))
	s.Flags, s.Seq = le.Uint64(b[offFlags:]), le.Uint64(b[offSeq:])
	for i := range s.Features {
		s.Features[i] = le.Uint64(b[offFeature+8*i:])
	}
	s.BlockSectors, s.BucketSectors = le.Uint16(b[offBlock:]), le.Uint16(b[offBucket:])
	s.InSet, s.ThisDevice = le.Uint16(b[offInSet:]), le.Uint16(b[offThis:])
	s.LastMount, s.FirstBucket = le.Uint32(b[offMount:]), le.Uint16(b[offFirst:])
	for i := range keys {
		s.Journal = append(s.Journal, le.Uint64(b[offJournal+8*i:]))
	}
	s.BucketSectorsHigh = le.Uint16(b[offHigh:])
	return s, nil
}

// Encode returns the 4096 bytes to be written at SuperblockOffset. A label that
// is too long is cut, as are journal buckets beyond 256.
func (s Superblock) Encode() []byte {
	b := make([]byte, SuperblockSize)
	le := binary.LittleEndian
	le.PutUint64(b[offOffset:], superblockSector)
	le.PutUint64(b[offVersion:], s.Version)
	copy(b[offMagic:], magic[:])
	copy(b[offUUID:], s.UUID[:])
	copy(b[offSet:], s.Set[:])
	copy(b[offLabel:offLabel+LabelSize], s.Label)
	le.PutUint64(b[offFlags:], s.Flags)
	le.PutUint64(b[offSeq:], s.Seq)
	for i, f := range s.Features {
		le.PutUint64(b[offFeature+8*i:], f)
	}
	switch s.Version {
	case VersionBacking: // its data offset is fixed and not stored
	case VersionBackingOffset, VersionBackingFeatures:
		le.PutUint64(b[offBuckets:], s.DataOffset)
	default:
		le.PutUint64(b[offBuckets:], s.Buckets)
	}
	le.PutUint16(b[offBlock:], s.BlockSectors)
	le.PutUint16(b[offBucket:], s.BucketSectors)
	le.PutUint16(b[offInSet:], s.InSet)
	le.PutUint16(b[offThis:], s.ThisDevice)
	le.PutUint32(b[offMount:], s.LastMount)
	le.PutUint16(b[offFirst:], s.FirstBucket)
	journal := s.Journal[:min(len(s.Journal), maxJournal)]
	le.PutUint16(b[offKeys:], uint16(len(journal)))
	for i, bucket := range journal {
		le.PutUint64(b[offJournal+8*i:], bucket)
	}
	le.PutUint16(b[offHigh:], s.BucketSectorsHigh)
	le.PutUint64(b[offCsum:], checksum(b, len(journal)))
	return b
}

// checksum is csum_set of the kernel: of everything between the checksum itself and the
// end of the journal buckets in use.
func checksum(b []byte, keys int) uint64 { return crc64(b[offOffset : offJournal+8*keys]) }
