package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// DefaultName of the pool's device-mapper devices.
const DefaultName = driver.Prefix + "pool"

// Config of a pool.
type Config struct {
	// Device is a disk, partition, logical volume or file, or vg:NAME for a
	// volume group in which a logical volume is made. A file gets a loop device.
	Device string
	// BlockBytes and MetadataBytes are for a device that is formatted: 64 KiB and
	// 64 bytes for each block (8 MiB at least) if 0.
	BlockBytes, MetadataBytes uint64
	// LowWater is how many free blocks make the kernel raise an event.
	LowWater uint64
	// Name is that of the pool's device, and begins those of -meta and -data:
	// [DefaultName] if "".
	Name string
}

// noSpaceTimeout is where the kernel is told not to fail held-back writes.
const noSpaceTimeout = "/sys/module/dm_thin_pool/parameters/no_space_timeout"

// Pool implements driver.Pool. It keeps nothing in memory but its configuration.
type Pool struct {
	cfg    Config
	dm     driver.DeviceMapper
	loop   driver.Loop
	run    command.Runner
	mu     sync.Mutex // of Open and Close
	param  string     // noSpaceTimeout, "" in tests
	devDir string     // /dev
	// crash, in tests, is asked after each step of a formatting.
	crash func(step string) error
}

var _ driver.Pool = (*Pool)(nil)

// New returns a pool that does not stand yet. run is for lvm2, where Device is a volume group.
func New(cfg Config, m driver.DeviceMapper, l driver.Loop, run command.Runner) *Pool {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if cfg.BlockBytes == 0 {
		cfg.BlockBytes = DefaultBlockBytes
	}
	return &Pool{cfg: cfg, dm: m, loop: l, run: run, param: noSpaceTimeout, devDir: "/dev", crash: func(string) error { return nil }}
}

func (p *Pool) errorf(format string, args ...any) error {
	return fmt.Errorf("pool "+p.cfg.Name+": "+format, args...)
}

func (p *Pool) metaName() string { return p.cfg.Name + "-meta" }
func (p *Pool) dataName() string { return p.cfg.Name + "-data" }

// uuidPrefix begins the device-mapper UUID of the pool's device; the pool's own UUID follows.
func (p *Pool) uuidPrefix() string { return driver.DeviceUUID(p.cfg.Name) + "-" }

// Open implements driver.Pool.
func (p *Pool) Open(ctx context.Context) (_ driver.PoolStatus, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	path, err := p.path(ctx)
	if err != nil {
		return driver.PoolStatus{}, p.errorf("open: %w", err)
	}
	h, err := p.prepare(ctx, path)
	if err != nil {
		return driver.PoolStatus{}, p.errorf("open %s: %w", p.cfg.Device, err)
	}
	st, err := p.assemble(ctx, path, h)
	if err != nil {
		return driver.PoolStatus{}, p.errorf("open %s: %w", p.cfg.Device, err)
	}
	return st, nil
}

// path returns the device or file that the pool is on.
func (p *Pool) path(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if vg, ok := strings.CutPrefix(p.cfg.Device, vgPrefix); ok {
		return p.logicalVolume(ctx, vg)
	}
	return p.cfg.Device, nil
}

// prepare reads the header. A blank device gets one, of a pool in formatting.
func (p *Pool) prepare(ctx context.Context, path string) (_ header, err error) {
	d, err := openDisk(path, false)
	if err != nil {
		return header{}, err
	}
	h, v, err := d.headers()
	if err = errors.Join(err, d.close()); err != nil {
		return header{}, err
	}
	if v == ours {
		if err := h.fits(d.size); err != nil {
			return header{}, err
		}
		if h.State == ready {
			return h, p.hasMetadata(ctx, path, h)
		}
		// What an interrupted formatting made goes first: it holds the device.
		if err := p.teardown(ctx, path); err != nil {
			return header{}, err
		}
	}

	if d, err = openDisk(path, true); err != nil {
		return header{}, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if v != ours {
		if err := d.blank(v == halfMade); err != nil {
			return header{}, err
		}
		if h, err = layout(d.size, p.cfg.BlockBytes, p.cfg.MetadataBytes); err != nil {
			return header{}, err
		}
		h.State, h.UUID = formatting, uuid.New()
	}
	if err := d.putHeaders(h); err != nil {
		return header{}, err
	}
	if err := p.crash("header"); err != nil {
		return header{}, err
	}
	if err := d.write(h.MetaStart, zeros[:]); err != nil {
		return header{}, err
	}
	return h, p.crash("metadata zeroed")
}

// hasMetadata sees that a pool that was ready still has the kernel's superblock,
// because the kernel would make an empty pool where it reads zeros. A pool that
// stands needs no look.
func (p *Pool) hasMetadata(ctx context.Context, path string, h header) error {
	_, err := p.dm.Get(ctx, p.cfg.Name)
	if !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	d, err := openDisk(path, false)
	if err != nil {
		return err
	}
	b, err := d.read(h.MetaStart, blockLen)
	if err = errors.Join(err, d.close()); err != nil {
		return err
	}
	if !hasThinSuperblock(b) {
		return fmt.Errorf("the metadata of pool %s is gone, its superblock at byte %d of %s is overwritten%s: %w",
			h.UUID, h.MetaStart, path, p.repair(path, h), driver.ErrForeign)
	}
	return nil
}

// repair says what an administrator can do.
func (p *Pool) repair(path string, h header) string {
	return fmt.Sprintf("; to check: dmsetup create %[1]s --table '0 %[2]d linear %[3]s %[4]d' && thin_check /dev/mapper/%[1]s; "+
		"if that finds nothing: thin_check --clear-needs-check-flag /dev/mapper/%[1]s; "+
		"else: thin_repair -i /dev/mapper/%[1]s -o FILE and write FILE back; then dmsetup remove %[1]s",
		p.metaName(), h.MetaLen/512, path, h.MetaStart/512)
}

// assemble makes the devices. A pool in formatting is ready afterwards.
func (p *Pool) assemble(ctx context.Context, path string, h header) (_ driver.PoolStatus, err error) {
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()

	st, err := os.Stat(path)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	file, base := path, path
	if st.Mode().IsRegular() {
		_, err := p.loop.Find(ctx, file)
		bound := err == nil
		d, err := p.loop.Attach(ctx, file, driver.LoopOptions{DirectIO: true})
		if err != nil {
			return driver.PoolStatus{}, err
		}
		if base = d.Path; !bound {
			undo.Add(func(ctx context.Context) error { return p.loop.Detach(ctx, d.Path) })
		}
	}
	stand := func(name, uuid string, seg driver.Segment) (driver.Device, bool, error) {
		_, err := p.dm.Get(ctx, name)
		isNew := errors.Is(err, driver.ErrNotFound)
		d, err := p.dm.Create(ctx, name, dm.NewTable(seg), driver.CreateOptions{UUID: uuid})
		if err == nil && isNew {
			undo.Add(func(ctx context.Context) error { return p.dm.Remove(ctx, name) })
		}
		return d, isNew, err
	}
	meta, _, err := stand(p.metaName(), driver.DeviceUUID(p.metaName()), dm.Linear(h.MetaLen/512, base, h.MetaStart/512))
	if err != nil {
		return driver.PoolStatus{}, err
	}
	data, _, err := stand(p.dataName(), driver.DeviceUUID(p.dataName()), dm.Linear(h.DataLen/512, base, h.DataStart/512))
	if err != nil {
		return driver.PoolStatus{}, err
	}
	if err := p.crash("parts"); err != nil {
		return driver.PoolStatus{}, err
	}
	target := dm.ThinPoolTarget{
		Metadata: meta.Path, Data: data.Path, BlockSectors: h.BlockBytes / 512,
		LowWater: p.lowWater(ctx),
	}
	pool, isNew, err := stand(p.cfg.Name, p.uuidPrefix()+h.UUID.String(), target.Segment(h.DataLen/512))
	if err != nil {
		return driver.PoolStatus{}, fmt.Errorf("%w%s", err, p.repair(path, h))
	}
	if err := p.crash("pool"); err != nil {
		return driver.PoolStatus{}, err
	}
	if err := p.holdWrites(); err != nil {
		return driver.PoolStatus{}, err
	}
	status, err := p.status(ctx, pool)
	if err != nil {
		return driver.PoolStatus{}, err
	}
	if isNew && (status.Mode == dm.PoolFailed || status.Mode == dm.PoolReadOnly) {
		return driver.PoolStatus{}, fmt.Errorf("the kernel opens the pool in mode %s only%s", status.Mode, p.repair(path, h))
	}
	if h.State == formatting {
		return status, p.finish(file, h)
	}
	return status, nil
}

// lowWater is as configured, or as the pool has it that stands: it is no reason to
// take a pool for another one.
func (p *Pool) lowWater(ctx context.Context) uint64 {
	t, err := p.dm.Table(ctx, p.cfg.Name)
	if err == nil && len(t) == 1 {
		if live, err := dm.ParseThinPool(t[0]); err == nil {
			return live.LowWater
		}
	}
	return p.cfg.LowWater
}

// holdWrites makes the kernel hold writes to a full pool back for as long as it takes.
func (p *Pool) holdWrites() error {
	if p.param == "" {
		return nil
	}
	f, err := os.OpenFile(p.param, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("make the kernel hold back writes to a full pool: %w", err)
	}
	_, err = f.WriteString("0\n")
	return errors.Join(err, f.Close())
}

// finish notes that the pool is formatted.
func (p *Pool) finish(path string, h header) error {
	d, err := openDisk(path, false)
	if err != nil {
		return err
	}
	h.State = ready
	return errors.Join(d.putHeaders(h), d.close())
}

// Close implements driver.Pool.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := p.cfg.Device
	if strings.HasPrefix(path, vgPrefix) {
		path = ""
	}
	if err := p.teardown(ctx, path); err != nil {
		return p.errorf("close: %w", err)
	}
	return nil
}

// teardown removes the devices, the pool first, and the loop device if the pool is on a file.
func (p *Pool) teardown(ctx context.Context, path string) error {
	for _, name := range []string{p.cfg.Name, p.dataName(), p.metaName()} {
		if err := p.dm.Remove(ctx, name); err != nil {
			return err
		}
	}
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return nil //nolint:nilerr // no file, no loop device
	}
	d, err := p.loop.Find(ctx, path)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.loop.Detach(ctx, d.Path)
}
