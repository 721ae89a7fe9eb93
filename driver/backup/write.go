package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Job is a backup to be written.
type Job struct {
	Prefix string
	Parent string // prefix of the backup that this is an increment of; "" is none
	Bytes  int64  // of the source, from its beginning
	// Created is written down with it, Volume too.
	Created time.Time
	Volume  json.RawMessage
	// Progress is told bytes that are done, by several goroutines.
	Progress func(done int64)
}

// Result of a backup.
type Result struct {
	Objects      int   // chunks stored under its prefix
	WrittenBytes int64 // this time, as objects, without the manifest
	StoredBytes  int64 // of the volume, in chunks that this backup has stored itself
}

// Write makes a backup of what source holds; nil is all zeros. The source must not change
// meanwhile. It is complete when Write returns; one that was complete already is left as it
// is. Chunks that an interrupted Write of the same prefix has stored are not stored again.
func (r *Repository) Write(ctx context.Context, j Job, source io.ReaderAt) (Result, error) {
	w, err := r.begin(ctx, j)
	if err != nil {
		return Result{}, err
	}
	if source != nil {
		if err := w.all(ctx, source); err != nil {
			return Result{}, err
		}
	}
	slices.SortFunc(w.m.Records, func(a, b Record) int { return int(int64(a.Chunk) - int64(b.Chunk)) })
	w.m.Prefixes = w.prefixes.list
	content, err := EncodeManifest(w.m)
	if err != nil {
		return Result{}, err
	}
	object, err := r.codec.seal(kindManifest, r.codec.hash(content), content)
	if err != nil {
		return Result{}, err
	}
	if err := r.store.Put(ctx, manifestName(j.Prefix), object); err != nil {
		return Result{}, err
	}
	w.result.Objects = len(w.stored)
	return w.result, nil
}

// place of a chunk that is stored.
type place struct {
	prefix string
	hash   Hash
}

// writer is one Write.
type writer struct {
	*Repository
	job    Job
	parent map[uint32]place // by number of chunk
	known  map[Hash]string  // of the parent: where its chunks are
	left   map[string]bool  // objects that an earlier attempt has stored

	mu       sync.Mutex
	m        Manifest
	prefixes prefixes
	stored   map[Hash]bool // by this backup
	result   Result
}

func (r *Repository) begin(ctx context.Context, j Job) (*writer, error) {
	w := &writer{
		Repository: r, job: j, parent: map[uint32]place{}, known: map[Hash]string{}, left: map[string]bool{}, stored: map[Hash]bool{},
		m:        Manifest{Header: Header{Prefix: j.Prefix, Created: j.Created, Bytes: j.Bytes, ChunkBytes: r.opt.ChunkBytes, Volume: j.Volume}},
		prefixes: prefixes{[]string{j.Prefix}},
	}
	if j.Parent != "" {
		parent, err := r.Manifest(ctx, j.Parent)
		if err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
		w.m.ChunkBytes = parent.ChunkBytes
		for _, rec := range parent.Records {
			p := place{parent.Prefixes[rec.Prefix], rec.Hash}
			w.parent[rec.Chunk], w.known[rec.Hash] = p, p.prefix
		}
	}
	w.m.Prefixes = w.prefixes.list
	if err := w.m.check(); err != nil {
		return nil, fmt.Errorf("backup %s: %w", j.Prefix, err)
	}
	names, err := r.store.List(ctx, j.Prefix)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		w.left[n] = true
	}
	return w, nil
}

func (w *writer) all(ctx context.Context, source io.ReaderAt) error {
	end := chunks(w.m.Bytes, w.m.ChunkBytes)
	var next, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range w.opt.Workers {
		g.Go(func() error {
			buf := make([]byte, w.m.ChunkBytes)
			for {
				i := next.Add(1) - 1
				if i >= end {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				n := uint32(i) //nolint:gosec // G115: check has seen to it
				part := buf[:w.m.length(n)]
				if got, err := source.ReadAt(part, i*w.m.ChunkBytes); got < len(part) {
					return fmt.Errorf("read chunk %d for backup %s: %w", i, w.m.Prefix, err)
				}
				if err := w.chunk(ctx, n, part); err != nil {
					return err
				}
				if w.job.Progress != nil {
					w.job.Progress(done.Add(int64(len(part))))
				}
			}
		})
	}
	return g.Wait()
}

// chunk records where a chunk is, and stores it if it is nowhere.
func (w *writer) chunk(ctx context.Context, n uint32, content []byte) error {
	if zero(content) {
		return nil
	}
	h := w.codec.hash(content)
	prefix, mine := w.claim(n, h)
	name := chunkName(prefix, h)
	var written int
	if mine && !w.left[name] {
		object, err := w.codec.seal(kindChunk, h, content)
		if err != nil {
			return err
		}
		if err := w.store.Put(ctx, name, object); err != nil {
			return err
		}
		written = len(object)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine {
		w.result.StoredBytes += int64(len(content))
		w.result.WrittenBytes += int64(written)
	}
	w.m.Records = append(w.m.Records, Record{Chunk: n, Prefix: w.prefixes.index(prefix), Hash: h})
	return nil
}

// claim returns the prefix that a content is under, and whether the caller has to store it:
// of several with the same content one has.
func (w *writer) claim(n uint32, h Hash) (prefix string, mine bool) {
	if p, ok := w.parent[n]; ok && p.hash == h {
		return p.prefix, false
	}
	if p, ok := w.known[h]; ok {
		return p, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	mine = !w.stored[h]
	w.stored[h] = true
	return w.m.Prefix, mine
}

func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// Prefix is where a backup is by default, or in a container that was asked for.
func Prefix(container, id string) string {
	if container == "" {
		return id[:2] + "/" + id[2:4] + "/" + id
	}
	return escape(container) + "/" + id
}

// escape makes one part of an object's name of any text.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if out := b.String(); len(out) <= 200 {
		return out
	}
	sum := fmt.Sprintf("%x", sumOf(s))
	return b.String()[:100] + "%" + sum
}
