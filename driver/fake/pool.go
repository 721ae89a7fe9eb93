package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Pool is a driver.Pool over the fake [DeviceMapper]: thin devices are devices there,
// and what the pool knows is on a disk that survives [DeviceMapper.Reboot].
type Pool struct {
	dm     *DeviceMapper
	disk   string
	faults dmFaults

	mu      sync.Mutex
	uuid    string // "" is a blank disk
	foreign bool
}

var _ driver.Pool = (*Pool)(nil)

// PoolName is the name of the pool's device; those below it are -meta and -data.
const PoolName = driver.Prefix + "pool"

const (
	poolMetaSectors  = 16384
	poolBlockSectors = 128
)

// NewPool returns one on a blank disk that is declared in the devices of m.
func NewPool(m *DeviceMapper, disk string) *Pool { return &Pool{dm: m, disk: disk} }

// FailNext makes the next op fail with err: open, status, close, create, snap,
// delete, activate, grow, thins or deactivate. name is the thin number or, for the last, the
// device; empty is any.
func (p *Pool) FailNext(op, name string, err error) { p.faults.add(op, name, err) }

// SetForeign says whether somebody else's data is on the disk.
func (p *Pool) SetForeign(foreign bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.foreign = foreign
}

// SetUsed sets how many blocks of 64 KiB are used; the pool is full if it is all of them.
func (p *Pool) SetUsed(blocks uint64) { p.dm.SetPoolUsage(PoolName, blocks, "") }

// Thins lists the thin devices that the pool has, active or not; none while it does not stand.
func (p *Pool) Thins() []uint64 {
	p.dm.devs.mu.Lock()
	defer p.dm.devs.mu.Unlock()
	d := p.dm.named[PoolName]
	if d == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.dm.poolOf(d.dev).thins))
}

func (p *Pool) fault(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.faults.take(op, name); err != nil {
		return fmt.Errorf("fake pool: %s %s: %w", op, name, err)
	}
	return nil
}

// Open implements driver.Pool.
func (p *Pool) Open(ctx context.Context) (driver.PoolStatus, error) {
	if err := p.fault(ctx, "open", ""); err != nil {
		return driver.PoolStatus{}, err
	}
	sectors, err := p.dm.devs.Sectors(p.disk)
	if err != nil {
		return driver.PoolStatus{}, fmt.Errorf("fake pool: open: %w: %w", err, driver.ErrUnavailable)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.foreign {
		return driver.PoolStatus{}, fmt.Errorf("fake pool: open %s: %w", p.disk, driver.ErrForeign)
	}
	id := p.uuid
	if id == "" {
		id = uuid.NewString()
	}
	data := (sectors - poolMetaSectors) / poolBlockSectors * poolBlockSectors
	var undo driver.Undo
	for _, d := range []struct {
		name, uuid string
		seg        driver.Segment
	}{
		{PoolName + "-meta", driver.DeviceUUID(PoolName + "-meta"), dm.Linear(poolMetaSectors, p.disk, 0)},
		{PoolName + "-data", driver.DeviceUUID(PoolName + "-data"), dm.Linear(data, p.disk, poolMetaSectors)},
		{PoolName, driver.DeviceUUID(PoolName) + "-" + id, dm.ThinPoolTarget{
			Metadata: "/dev/mapper/" + PoolName + "-meta", Data: "/dev/mapper/" + PoolName + "-data", BlockSectors: poolBlockSectors,
		}.Segment(data)},
	} {
		_, err := p.dm.Get(ctx, d.name)
		isNew := errors.Is(err, driver.ErrNotFound)
		if _, err := p.dm.Create(ctx, d.name, dm.NewTable(d.seg), driver.CreateOptions{UUID: d.uuid}); err != nil {
			return driver.PoolStatus{}, undo.OnError(ctx, err)
		}
		if isNew {
			undo.Add(func(ctx context.Context) error { return p.dm.Remove(ctx, d.name) })
		}
	}
	p.uuid = id
	return p.status(ctx)
}

// Status implements driver.Pool.
func (p *Pool) Status(ctx context.Context) (driver.PoolStatus, error) {
	if err := p.fault(ctx, "status", ""); err != nil {
		return driver.PoolStatus{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status(ctx)
}

func (p *Pool) status(ctx context.Context) (driver.PoolStatus, error) {
	lines, err := p.dm.Status(ctx, PoolName)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	st, err := dm.ParseThinPoolStatus(lines[0].Params)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	const block = poolBlockSectors * 512
	return driver.PoolStatus{
		UUID: p.uuid, BlockBytes: block, Mode: st.Mode,
		TotalBytes: st.Data * block, FreeBytes: (st.Data - min(st.Data, st.UsedData)) * block,
		MetadataTotal: st.Metadata * 4096, MetadataFree: (st.Metadata - min(st.Metadata, st.UsedMetadata)) * 4096,
	}, nil
}

// Close implements driver.Pool.
func (p *Pool) Close(ctx context.Context) error {
	if err := p.fault(ctx, "close", ""); err != nil {
		return err
	}
	for _, name := range []string{PoolName, PoolName + "-data", PoolName + "-meta"} {
		if err := p.dm.Remove(ctx, name); err != nil {
			return fmt.Errorf("fake pool: close: %w", err)
		}
	}
	return nil
}

// message makes something in the pool. One that is there already is success; in a
// full pool anything else is ErrNoSpace.
func (p *Pool) message(ctx context.Context, op string, id uint32, message string) error {
	if err := p.fault(ctx, op, fmt.Sprint(id)); err != nil {
		return err
	}
	if id >= 1<<24 {
		return fmt.Errorf("fake pool: thin number %d is not below 2^24", id)
	}
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if _, err = p.dm.Message(ctx, PoolName, 0, message); errors.Is(err, driver.ErrExists) {
		return nil
	}
	if st.Mode != dm.PoolReadWrite || st.FreeBytes == 0 {
		if err == nil {
			_, err = p.dm.Message(ctx, PoolName, 0, fmt.Sprintf("delete %d", id))
		}
		return errors.Join(fmt.Errorf("fake pool: %s %d: %w", op, id, driver.ErrNoSpace), err)
	}
	return err
}

// CreateThin implements driver.Pool.
func (p *Pool) CreateThin(ctx context.Context, id uint32) error {
	if err := p.message(ctx, "create", id, fmt.Sprintf("create_thin %d", id)); err != nil {
		return err
	}
	p.dm.devs.mu.Lock()
	defer p.dm.devs.mu.Unlock()
	if d := p.dm.named[PoolName]; d != nil {
		if pool := p.dm.poolOf(d.dev); pool != nil && pool.mapped[uint64(id)] > poolBlockSectors {
			return fmt.Errorf("fake pool: create %d: %w", id, driver.ErrForeign)
		}
	}
	return nil
}

// SnapThin implements driver.Pool.
func (p *Pool) SnapThin(ctx context.Context, id, origin uint32) error {
	return p.message(ctx, "snap", id, fmt.Sprintf("create_snap %d %d", id, origin))
}

// DeleteThin implements driver.Pool.
func (p *Pool) DeleteThin(ctx context.Context, id uint32) error {
	if err := p.fault(ctx, "delete", fmt.Sprint(id)); err != nil {
		return err
	}
	if _, err := p.dm.Get(ctx, PoolName); err != nil {
		return err
	}
	if _, err := p.dm.Message(ctx, PoolName, 0, fmt.Sprintf("delete %d", id)); err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	return nil
}

// Activate implements driver.Pool.
func (p *Pool) Activate(ctx context.Context, name, uuid string, id uint32, sectors uint64) (string, error) {
	if err := p.fault(ctx, "activate", fmt.Sprint(id)); err != nil {
		return "", err
	}
	if _, err := p.dm.Get(ctx, PoolName); err != nil {
		return "", err
	}
	seg := dm.ThinTarget{Pool: "/dev/mapper/" + PoolName, ID: id}.Segment(sectors)
	d, err := p.dm.Create(ctx, name, dm.NewTable(seg), driver.CreateOptions{UUID: uuid})
	return d.Path, err
}

// Grow implements driver.Pool.
func (p *Pool) Grow(ctx context.Context, name string, id uint32, sectors uint64) error {
	if err := p.fault(ctx, "grow", fmt.Sprint(id)); err != nil {
		return err
	}
	t, err := p.dm.Table(ctx, name)
	if err != nil || t.Sectors() == sectors {
		return err
	}
	if t.Sectors() > sectors {
		return fmt.Errorf("fake pool: grow %d: %s has %d sectors already", id, name, t.Sectors())
	}
	seg := dm.ThinTarget{Pool: "/dev/mapper/" + PoolName, ID: id}.Segment(sectors)
	return p.dm.Reload(ctx, name, dm.NewTable(seg), driver.ReloadOptions{})
}

// ListThins implements driver.Pool. Data begins at the start of a device and has no gaps here.
func (p *Pool) ListThins(ctx context.Context, want func(id uint32) bool) ([]driver.ThinInfo, error) {
	if err := p.fault(ctx, "thins", ""); err != nil {
		return nil, err
	}
	if _, err := p.dm.Get(ctx, PoolName); err != nil {
		return nil, err
	}
	p.dm.devs.mu.Lock()
	defer p.dm.devs.mu.Unlock()
	d := p.dm.named[PoolName]
	pool := p.dm.poolOf(d.dev)
	out := []driver.ThinInfo{}
	for _, id := range slices.Sorted(maps.Keys(pool.thins)) {
		if !want(uint32(id)) {
			continue
		}
		bytes := pool.mapped[id] * 512
		i := driver.ThinInfo{ID: uint32(id), MappedBytes: bytes, EndBytes: bytes, Exceptions: pool.exceptions[id]}
		if on := p.dm.active(d, id); on != nil {
			i.Device = on.name
		}
		out = append(out, i)
	}
	return out, nil
}

// Deactivate implements driver.Pool.
func (p *Pool) Deactivate(ctx context.Context, name string) error {
	if err := p.fault(ctx, "deactivate", name); err != nil {
		return err
	}
	return p.dm.Remove(ctx, name)
}
