// Package load writes to a block device and reads from it all the while, and knows of each block what
// it must hold. It runs in a node; what it says of each operation is kept elsewhere, by [Record], so that
// it can be told after a crash whether what was acknowledged is there.
package load

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
)

// BlockSize is the size of a block, in bytes.
const BlockSize = 4096

// magic begins a block that was written by a load.
const magic = "VMTLOAD1"

// fill makes a block's content: magic, volume, block number, sequence number (big endian), and from
// byte 40 on a stream of ChaCha8 that depends on these.
func fill(b []byte, volume uuid.UUID, block, seq uint64) {
	copy(b, magic)
	copy(b[8:], volume[:])
	binary.BigEndian.PutUint64(b[24:], block)
	binary.BigEndian.PutUint64(b[32:], seq)
	key := sha256.Sum256(b[:40])
	_, _ = rand.NewChaCha8(key).Read(b[40:BlockSize])
}

// content tells what a block holds: base, or what a load of this volume has written to this block.
func content(b, base []byte, volume uuid.UUID, block uint64) (seq uint64, ok bool) {
	if bytes.Equal(b, base) {
		return 0, true
	}
	seq = binary.BigEndian.Uint64(b[32:])
	want := make([]byte, BlockSize)
	fill(want, volume, block, seq)
	return seq, seq > 0 && bytes.Equal(b, want)
}

// describe says what a block that is wrong holds instead.
func describe(b []byte) string {
	if !bytes.HasPrefix(b, []byte(magic)) {
		if len(bytes.Trim(b, "\x00")) == 0 {
			return "zeros"
		}
		return "bytes of no load"
	}
	volume, _ := uuid.FromBytes(b[8:24])
	what := "volume " + volume.String() + " block " + u(binary.BigEndian.Uint64(b[24:])) + " sequence " + u(binary.BigEndian.Uint64(b[32:]))
	want := make([]byte, BlockSize)
	fill(want, volume, binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:]))
	if !bytes.Equal(b, want) {
		what += ", torn"
	}
	return what
}
