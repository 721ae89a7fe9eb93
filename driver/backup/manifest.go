package backup

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// Header is the first line of a manifest.
type Header struct {
	Prefix     string    `json:"prefix"` // where it is itself
	Created    time.Time `json:"created"`
	Bytes      int64     `json:"bytes"`       // of the volume
	ChunkBytes int64     `json:"chunk_bytes"` // the last chunk may be shorter
	// Prefixes that chunks are under: this backup's, then its ancestors'.
	Prefixes []string `json:"prefixes"`
	// Volume is what the control plane wants to be kept with the bytes.
	Volume json.RawMessage `json:"volume,omitempty"`
}

// Record says where a chunk is. Chunks without one are zeros.
type Record struct {
	Chunk  uint32 // counted from the beginning of the volume
	Prefix uint32 // index in the header's prefixes
	Hash   Hash
}

// Manifest of a backup.
type Manifest struct {
	Header
	Records []Record // by Chunk, ascending
}

const recordBytes = 40

// chunks that a volume of n bytes has.
func chunks(n, size int64) int64 { return (n + size - 1) / size }

// length of chunk i.
func (h *Header) length(i uint32) int64 {
	return min(h.ChunkBytes, h.Bytes-int64(i)*h.ChunkBytes)
}

// check refuses what no [Repository] writes.
func (h *Header) check() error {
	switch {
	case h.ChunkBytes < minChunk || h.ChunkBytes > maxChunk || h.ChunkBytes&(h.ChunkBytes-1) != 0:
		return fmt.Errorf("chunks of %d bytes; powers of two from %d to %d are possible", h.ChunkBytes, minChunk, maxChunk)
	case h.Bytes < 0 || chunks(h.Bytes, h.ChunkBytes) > 1<<32-1:
		return fmt.Errorf("a volume of %d bytes", h.Bytes)
	case len(h.Prefixes) == 0 || h.Prefixes[0] != h.Prefix:
		return fmt.Errorf("its own prefix is not the first of %d", len(h.Prefixes))
	}
	for _, p := range h.Prefixes {
		if err := driver.CheckObjectName(p); err != nil {
			return err
		}
	}
	return nil
}

// EncodeManifest is the content of a manifest's object.
func EncodeManifest(m Manifest) ([]byte, error) {
	line, err := json.Marshal(m.Header)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	out := make([]byte, 0, len(line)+1+recordBytes*len(m.Records))
	out = append(append(out, line...), '\n')
	for _, r := range m.Records {
		out = binary.BigEndian.AppendUint32(out, r.Chunk)
		out = binary.BigEndian.AppendUint32(out, r.Prefix)
		out = append(out, r.Hash[:]...)
	}
	if len(out) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are possible: use larger chunks", len(out), maxManifest)
	}
	return out, nil
}

// DecodeManifest is the inverse. What it returns holds together: chunks are in order and
// within the volume, prefixes are names.
func DecodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	line, rest, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return m, fmt.Errorf("%w: a manifest without header", ErrCorrupt)
	}
	if err := json.Unmarshal(line, &m.Header); err != nil {
		return m, fmt.Errorf("%w: manifest's header: %w", ErrCorrupt, err)
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	if len(rest)%recordBytes != 0 {
		return m, fmt.Errorf("%w: manifest: %d bytes of records", ErrCorrupt, len(rest))
	}
	m.Records = make([]Record, 0, len(rest)/recordBytes)
	next, end := int64(0), chunks(m.Bytes, m.ChunkBytes)
	for ; len(rest) > 0; rest = rest[recordBytes:] {
		r := Record{Chunk: binary.BigEndian.Uint32(rest), Prefix: binary.BigEndian.Uint32(rest[4:]), Hash: Hash(rest[8:recordBytes])}
		if int64(r.Chunk) < next || int64(r.Chunk) >= end || int64(r.Prefix) >= int64(len(m.Prefixes)) {
			return m, fmt.Errorf("%w: manifest: record of chunk %d under prefix %d is out of order", ErrCorrupt, r.Chunk, r.Prefix)
		}
		next = int64(r.Chunk) + 1
		m.Records = append(m.Records, r)
	}
	return m, nil
}

// manifestName and chunkName are objects' names.
func manifestName(prefix string) string { return prefix + "/manifest" }

func chunkName(prefix string, h Hash) string {
	s := h.String()
	return prefix + "/chunks/" + s[:2] + "/" + s
}
