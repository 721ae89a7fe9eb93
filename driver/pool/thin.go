package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// maxID bounds thin numbers: 24 bits.
const maxID = 1<<24 - 1

// metadataBlock is the kernel's unit of thin metadata, in bytes.
const metadataBlock = 4096

// Status implements driver.Pool. A pool that does not stand is ErrNotFound.
func (p *Pool) Status(ctx context.Context) (driver.PoolStatus, error) {
	d, err := p.dm.Get(ctx, p.cfg.Name)
	if err != nil {
		return driver.PoolStatus{}, p.errorf("status: %w", err)
	}
	st, err := p.status(ctx, d)
	if err != nil {
		return driver.PoolStatus{}, p.errorf("status: %w", err)
	}
	return st, nil
}

func (p *Pool) status(ctx context.Context, d driver.Device) (driver.PoolStatus, error) {
	t, err := p.dm.Table(ctx, d.Name)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	lines, err := p.dm.Status(ctx, d.Name)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	if len(t) != 1 || len(lines) != 1 {
		return driver.PoolStatus{}, fmt.Errorf("%s is no thin pool", d.Name)
	}
	target, err := dm.ParseThinPool(t[0])
	if err != nil {
		return driver.PoolStatus{}, err
	}
	line, err := dm.ParseThinPoolStatus(lines[0].Params)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	block := target.BlockSectors * 512
	st := driver.PoolStatus{
		UUID:       strings.TrimPrefix(d.UUID, p.uuidPrefix()),
		BlockBytes: block, Mode: line.Mode,
		TotalBytes: t.Sectors() * 512,
	}
	if line.Mode != dm.PoolFailed { // which tells no numbers
		st.TotalBytes = line.Data * block
		st.FreeBytes = (line.Data - min(line.Data, line.UsedData)) * block
		st.MetadataTotal = line.Metadata * metadataBlock
		st.MetadataFree = (line.Metadata - min(line.Metadata, line.UsedMetadata)) * metadataBlock
	}
	return st, nil
}

// message sends one to the pool.
func (p *Pool) message(ctx context.Context, format string, args ...any) error {
	_, err := p.dm.Message(ctx, p.cfg.Name, 0, fmt.Sprintf(format, args...))
	return err
}

// room returns ErrNoSpace if nothing new should be made in the pool. An error
// of any other kind says that the pool does not stand.
func (p *Pool) room(ctx context.Context) error {
	st, err := p.Status(ctx)
	switch {
	case err != nil:
		return err
	case st.Mode != dm.PoolReadWrite:
		return p.errorf("it is in mode %s: %w", st.Mode, driver.ErrNoSpace)
	case st.FreeBytes == 0:
		return p.errorf("no block of %d bytes is free of %d: %w", st.BlockBytes, st.TotalBytes/st.BlockBytes, driver.ErrNoSpace)
	}
	return nil
}

func checkID(ids ...uint32) error {
	for _, id := range ids {
		if id > maxID {
			return fmt.Errorf("thin number %d is not below 2^24", id)
		}
	}
	return nil
}

// bear sends the message that makes id, and tells whether it was there already. In a pool
// without room it succeeds only then.
func (p *Pool) bear(ctx context.Context, id uint32, format string, args ...any) (there bool, err error) {
	full := p.room(ctx)
	if full != nil && !errors.Is(full, driver.ErrNoSpace) {
		return false, full
	}
	err = p.message(ctx, format, args...)
	switch {
	case errors.Is(err, driver.ErrExists):
		return true, nil
	case full == nil:
		return false, err
	case err == nil: // the kernel makes it without a free block, and its first write would hang
		return false, errors.Join(full, p.message(ctx, "delete %d", id))
	}
	return false, full
}

// CreateThin implements driver.Pool.
func (p *Pool) CreateThin(ctx context.Context, id uint32) error {
	if err := checkID(id); err != nil {
		return p.errorf("%w", err)
	}
	there, err := p.bear(ctx, id, "create_thin %d", id)
	if err == nil && there {
		err = p.empty(ctx, id)
	}
	if err != nil {
		return p.errorf("create thin device %d: %w", id, err)
	}
	return nil
}

// empty sees that thin device id, which is there though nobody was ever told so, is what a
// creation left that was cut short: without data, or with the first block alone, in which
// dm-snapshot has begun its store. Anything more is a volume's that the control plane does not
// know, as after a return to an older database.
func (p *Pool) empty(ctx context.Context, id uint32) (err error) {
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-look-%d", p.cfg.Name, id)
	if _, err := p.Activate(ctx, name, driver.DeviceUUID(name), id, st.BlockBytes/512); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := driver.Teardown(ctx)
		defer cancel()
		err = errors.Join(err, p.Deactivate(ctx, name))
	}()
	lines, err := p.dm.Status(ctx, name)
	if err != nil {
		return err
	}
	if len(lines) != 1 {
		return fmt.Errorf("%s is no thin device", name)
	}
	thin, err := dm.ParseThinStatus(lines[0].Params)
	switch {
	case err != nil:
		return err
	case thin.Failed:
		return fmt.Errorf("the pool has failed: %w", driver.ErrUnavailable)
	case thin.Mapped*512 > st.BlockBytes:
		return fmt.Errorf("it is there already, with %d KiB of data of a volume that nobody knows; delete it by hand (thin message \"delete %d\") when that is not needed: %w",
			thin.Mapped/2, id, driver.ErrForeign)
	}
	return nil
}

// SnapThin implements driver.Pool. The kernel would take a snapshot of an active
// device that isn't suspended, with what its metadata say at a random moment; that is refused.
func (p *Pool) SnapThin(ctx context.Context, id, origin uint32) error {
	if err := checkID(id, origin); err != nil {
		return p.errorf("%w", err)
	}
	if err := p.quiet(ctx, origin); err != nil {
		return p.errorf("snapshot %d of thin device %d: %w", id, origin, err)
	}
	if _, err := p.bear(ctx, id, "create_snap %d %d", id, origin); err != nil {
		return p.errorf("snapshot %d of thin device %d: %w", id, origin, err)
	}
	return nil
}

// quiet sees that no device that stands on thin device id takes I/O.
func (p *Pool) quiet(ctx context.Context, id uint32) error {
	pool, err := p.dm.Get(ctx, p.cfg.Name)
	if err != nil {
		return err
	}
	if pool.OpenCount == 0 {
		return nil
	}
	all, err := p.dm.List(ctx, "")
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Suspended || !d.Live {
			continue
		}
		t, err := p.dm.Table(ctx, d.Name)
		if errors.Is(err, driver.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, s := range t {
			thin, err := dm.ParseThin(s)
			if err == nil && thin.ID == id && thin.Pool == fmt.Sprintf("%d:%d", pool.Major, pool.Minor) {
				return fmt.Errorf("it is active as %s and not suspended", d.Name)
			}
		}
	}
	return nil
}

// DeleteThin implements driver.Pool.
func (p *Pool) DeleteThin(ctx context.Context, id uint32) error {
	if err := checkID(id); err != nil {
		return p.errorf("%w", err)
	}
	if _, err := p.dm.Get(ctx, p.cfg.Name); err != nil {
		return p.errorf("delete thin device %d: %w", id, err)
	}
	if err := p.message(ctx, "delete %d", id); err != nil && !errors.Is(err, driver.ErrNotFound) {
		return p.errorf("delete thin device %d: %w", id, err)
	}
	return nil
}

// Activate implements driver.Pool.
func (p *Pool) Activate(ctx context.Context, name, uuid string, id uint32, sectors uint64) (string, error) {
	if err := checkID(id); err != nil {
		return "", p.errorf("%w", err)
	}
	pool, err := p.dm.Get(ctx, p.cfg.Name)
	if err != nil {
		return "", p.errorf("activate thin device %d: %w", id, err)
	}
	target := dm.ThinTarget{Pool: pool.Path, ID: id}
	d, err := p.dm.Create(ctx, name, dm.NewTable(target.Segment(sectors)), driver.CreateOptions{UUID: uuid})
	if err != nil {
		return "", p.errorf("activate thin device %d: %w", id, err)
	}
	return d.Path, nil
}

// Grow implements driver.Pool. A smaller size is refused.
func (p *Pool) Grow(ctx context.Context, name string, id uint32, sectors uint64) error {
	pool, err := p.dm.Get(ctx, p.cfg.Name)
	if err != nil {
		return p.errorf("grow thin device %d: %w", id, err)
	}
	t, err := p.dm.Table(ctx, name)
	if err != nil {
		return p.errorf("grow thin device %d: %w", id, err)
	}
	switch have := t.Sectors(); {
	case have == sectors:
		return nil
	case have > sectors:
		return p.errorf("grow thin device %d: %s has %d sectors already, more than %d", id, name, have, sectors)
	}
	target := dm.ThinTarget{Pool: pool.Path, ID: id}
	if err := p.dm.Reload(ctx, name, dm.NewTable(target.Segment(sectors)), driver.ReloadOptions{}); err != nil {
		return p.errorf("grow thin device %d: %w", id, err)
	}
	return nil
}

// Deactivate implements driver.Pool.
func (p *Pool) Deactivate(ctx context.Context, name string) error {
	if err := p.dm.Remove(ctx, name); err != nil {
		return p.errorf("deactivate %s: %w", name, err)
	}
	return nil
}
