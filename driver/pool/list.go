package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// ListThins implements driver.Pool.
func (p *Pool) ListThins(ctx context.Context, want func(id uint32) bool) ([]driver.ThinInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := p.thins(ctx, want)
	if err != nil {
		return nil, p.errorf("list thin devices: %w", err)
	}
	return out, nil
}

func (p *Pool) thins(ctx context.Context, want func(id uint32) bool) (_ []driver.ThinInfo, err error) {
	st, err := p.Status(ctx)
	if err != nil {
		return nil, err
	}
	at, err := p.reserve(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := driver.Teardown(ctx)
		defer cancel()
		err = errors.Join(err, p.message(ctx, "release_metadata_snap"))
	}()
	meta, err := p.openPart(ctx, p.metaName())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, meta.close()) }()
	data, err := p.openPart(ctx, p.dataName())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, data.close()) }()

	m := thinMetadata{blocks: meta.size / metadataBlock, block: func(n uint64) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return meta.read(n*metadataBlock, metadataBlock)
	}}
	r, err := m.roots(at)
	if err != nil {
		return nil, err
	}
	found, err := m.devices(r, want)
	if err != nil {
		return nil, err
	}
	standing, err := p.standing(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]driver.ThinInfo, len(found))
	for i, d := range found {
		out[i] = driver.ThinInfo{ID: d.id, MappedBytes: d.mapped * st.BlockBytes, EndBytes: d.end * st.BlockBytes, Device: standing[d.id]}
		if d.first == nil {
			continue
		}
		begin, err := data.read(*d.first*st.BlockBytes, blockLen)
		if err != nil {
			return nil, err
		}
		out[i].Exceptions = holdsExceptions(begin)
	}
	return out, nil
}

// reserve takes a snapshot of the metadata and returns its block. One that is there is what a
// crash has left: the pool is ours alone.
func (p *Pool) reserve(ctx context.Context) (uint64, error) {
	root, err := p.heldRoot(ctx)
	if err != nil {
		return 0, err
	}
	if root != "-" {
		if err := p.message(ctx, "release_metadata_snap"); err != nil {
			return 0, err
		}
	}
	if err := p.message(ctx, "reserve_metadata_snap"); err != nil {
		return 0, err
	}
	if root, err = p.heldRoot(ctx); err != nil {
		return 0, err
	}
	at, err := strconv.ParseUint(root, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the kernel tells no metadata snapshot but %q", root)
	}
	return at, nil
}

func (p *Pool) heldRoot(ctx context.Context) (string, error) {
	lines, err := p.dm.Status(ctx, p.cfg.Name)
	if err != nil {
		return "", err
	}
	if len(lines) != 1 {
		return "", fmt.Errorf("%s is no thin pool", p.cfg.Name)
	}
	st, err := dm.ParseThinPoolStatus(lines[0].Params)
	if err == nil && st.Mode == dm.PoolFailed {
		err = fmt.Errorf("the pool has failed: %w", driver.ErrUnavailable)
	}
	return st.HeldRoot, err
}

// openPart opens one of the pool's own devices to be read past the page cache, which the
// kernel's own writes to it do not go through.
func (p *Pool) openPart(ctx context.Context, name string) (*disk, error) {
	d, err := p.dm.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	end, err := f.Seek(0, 2)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &disk{f: f, size: uint64(end), block: true}, nil
}

// standing are the devices that stand on thin devices of the pool, by number.
func (p *Pool) standing(ctx context.Context) (map[uint32]string, error) {
	pool, err := p.dm.Get(ctx, p.cfg.Name)
	if err != nil {
		return nil, err
	}
	all, err := p.dm.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := map[uint32]string{}
	for _, d := range all {
		t, err := p.dm.Table(ctx, d.Name)
		if errors.Is(err, driver.ErrNotFound) {
			continue // it went away meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, s := range t {
			thin, err := dm.ParseThin(s)
			if err == nil && thin.Pool == fmt.Sprintf("%d:%d", pool.Major, pool.Minor) {
				out[thin.ID] = d.Name
			}
		}
	}
	return out, nil
}
