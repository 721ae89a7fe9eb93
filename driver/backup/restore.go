package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Target is what a backup is restored to.
type Target interface {
	io.ReaderAt
	io.WriterAt
}

// Restore makes target, which is at least as large, hold what a backup holds, zeros too.
// What is beyond the backup's bytes stays as it is. A chunk that target has already is not
// written, so nothing of a fresh device is allocated for zeros, and a restore that was
// interrupted goes on. Every chunk is checked before it is written. After an error target
// holds some of it.
func (r *Repository) Restore(ctx context.Context, prefix string, target Target, progress func(done int64)) (Manifest, error) {
	m, err := r.Manifest(ctx, prefix)
	if err != nil {
		return m, err
	}
	records := make(map[uint32]Record, len(m.Records))
	for _, rec := range m.Records {
		records[rec.Chunk] = rec
	}
	end := chunks(m.Bytes, m.ChunkBytes)
	var next, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range r.opt.Workers {
		g.Go(func() error {
			zeros, buf := make([]byte, m.ChunkBytes), make([]byte, m.ChunkBytes)
			for {
				i := next.Add(1) - 1
				if i >= end {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				n := uint32(i) //nolint:gosec // G115: the manifest's check has seen to it
				content := zeros[:m.length(n)]
				if rec, ok := records[n]; ok {
					var err error
					if content, err = r.chunk(ctx, &m, rec); err != nil {
						return err
					}
				}
				if err := put(target, i*m.ChunkBytes, content, buf[:len(content)]); err != nil {
					return fmt.Errorf("restore chunk %d of backup %s: %w", n, prefix, err)
				}
				if progress != nil {
					progress(done.Add(int64(len(content))))
				}
			}
		})
	}
	return m, g.Wait()
}

// put writes content unless it is there already.
func put(target Target, off int64, content, buf []byte) error {
	if n, err := target.ReadAt(buf, off); n < len(buf) {
		return fmt.Errorf("read: %w", err)
	}
	if bytes.Equal(buf, content) {
		return nil
	}
	_, err := target.WriteAt(content, off)
	return err
}

func sumOf(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }
