package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vmthunder/vmthunder/driver"
)

// Options of a repository. Zero values take their defaults.
type Options struct {
	// ChunkBytes of backups that have no parent; a power of two from 64 KiB to 64 MiB. 4 MiB.
	ChunkBytes int64
	Compress   bool   // with zstd
	Key        []byte // of [KeyBytes], for encryption; nil: none
	// Workers read, compress and store so many chunks at once. 4.
	Workers int
}

// Repository writes and reads backups.
type Repository struct {
	store driver.ObjectStore
	codec *codec
	opt   Options
}

// New returns a repository in a store.
func New(store driver.ObjectStore, o Options) (*Repository, error) {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = 4 << 20
	}
	if o.Workers < 1 {
		o.Workers = 4
	}
	probe := Header{ChunkBytes: o.ChunkBytes, Prefix: "x", Prefixes: []string{"x"}}
	if err := probe.check(); err != nil {
		return nil, err
	}
	c, err := newCodec(o.Key, o.Compress)
	if err != nil {
		return nil, err
	}
	return &Repository{store: store, codec: c, opt: o}, nil
}

// Check returns driver.ErrUnavailable if the store can't be used now.
func (r *Repository) Check(ctx context.Context) error { return r.store.Check(ctx) }

// Manifest of a backup; driver.ErrNotFound if there is no complete one under the prefix.
func (r *Repository) Manifest(ctx context.Context, prefix string) (Manifest, error) {
	object, err := r.store.Get(ctx, manifestName(prefix), maxManifest+overhead)
	if err != nil {
		return Manifest{}, err
	}
	content, _, err := r.codec.open(kindManifest, object)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest of backup %s: %w", prefix, err)
	}
	m, err := DecodeManifest(content)
	if err != nil {
		return m, fmt.Errorf("backup %s: %w", prefix, err)
	}
	if m.Prefix != prefix {
		return m, fmt.Errorf("%w: the manifest under %s is that of %s", ErrCorrupt, prefix, m.Prefix)
	}
	return m, nil
}

// Delete removes a backup, complete or not; nothing of its chunks may be needed by another.
// The manifest goes first, so one that is half deleted is none.
func (r *Repository) Delete(ctx context.Context, prefix string) error {
	if err := r.store.Delete(ctx, manifestName(prefix)); err != nil {
		return err
	}
	names, err := r.store.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.store.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// chunk returns the content of a record's chunk, checked.
func (r *Repository) chunk(ctx context.Context, m *Manifest, rec Record) ([]byte, error) {
	name := chunkName(m.Prefixes[rec.Prefix], rec.Hash)
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("chunk %d of backup %s (object %s): %w", rec.Chunk, m.Prefix, name, err)
	}
	object, err := r.store.Get(ctx, name, maxChunk+overhead)
	if errors.Is(err, driver.ErrNotFound) {
		return fail(fmt.Errorf("%w: it is missing", ErrCorrupt))
	}
	if err != nil {
		return fail(err)
	}
	content, h, err := r.codec.open(kindChunk, object)
	switch {
	case err != nil:
		return fail(err)
	case h != rec.Hash:
		return fail(fmt.Errorf("%w: another chunk is in its place", ErrCorrupt))
	case int64(len(content)) != m.length(rec.Chunk):
		return fail(fmt.Errorf("%w: %d bytes instead of %d", ErrCorrupt, len(content), m.length(rec.Chunk)))
	}
	return content, nil
}

// prefixes is the list of a manifest as it grows.
type prefixes struct{ list []string }

func (p *prefixes) index(prefix string) uint32 {
	i := slices.Index(p.list, prefix)
	if i < 0 {
		i = len(p.list)
		p.list = append(p.list, prefix)
	}
	return uint32(i) //nolint:gosec // G115: as many as there are ancestors
}
