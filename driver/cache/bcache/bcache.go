package bcache

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Name of the driver, as in cache_driver.
const Name = "bcache"

// defaultLimit is how long the kernel may take for one step.
const defaultLimit = 20 * time.Second

// Config of the driver.
type Config struct {
	// Device is the disk, partition, logical volume or file that holds the cache set.
	Device string
	DM     driver.DeviceMapper
	Loop   driver.Loop    // needed only where Device is a file
	Runner command.Runner // of modprobe
	// ReadAhead of the cached devices in bytes, a multiple of 1024; negative leaves the kernel's
	// default.
	ReadAhead int64
	// Limit bounds the wait for each step of the kernel; 20 s if 0.
	Limit time.Duration
}

// Cache is the driver. Its methods may be called at the same time, but not two at once
// that start or stop the same image.
type Cache struct {
	device    string
	dm        driver.DeviceMapper
	loop      driver.Loop
	runner    command.Runner
	readAhead int64
	limit     time.Duration
	sys       sysfs

	mu sync.Mutex // held while the set is made, found, remade or taken down
}

var _ driver.Cache = (*Cache)(nil)

// New makes the driver. Nothing is touched before the first call.
func New(cfg Config) *Cache {
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	return &Cache{
		device: cfg.Device, dm: cfg.DM, loop: cfg.Loop, runner: cfg.Runner,
		readAhead: cfg.ReadAhead, limit: cfg.Limit, sys: "/sys",
	}
}

// Name implements driver.Cache.
func (c *Cache) Name() string { return Name }

// Needs implements driver.Cache: one device for the superblock.
func (c *Cache) Needs(uint64) []driver.LocalDevice {
	return []driver.LocalDevice{{Suffix: "sb", Sectors: LocalSectors}}
}

// table maps the superblock in front of the upstream.
func table(s driver.CacheSpec) driver.Table {
	return dm.NewTable(dm.Linear(DataOffset, s.Local[0], 0), dm.Linear(s.Sectors, s.Upstream, 0))
}

func check(s driver.CacheSpec) (uuid.UUID, error) {
	id, err := uuid.Parse(s.ImageID)
	switch {
	case err != nil:
		return id, fmt.Errorf("image id: %w", err)
	case len(s.Local) != 1:
		return id, fmt.Errorf("%d local devices, not 1", len(s.Local))
	case s.Sectors == 0 || s.Sectors%BlockSectors != 0:
		return id, fmt.Errorf("%d sectors: not a multiple of %d", s.Sectors, BlockSectors)
	}
	return id, nil
}

// Start implements driver.Cache. Where the cache device is missing the image is served without
// being cached (see Degraded); a cache device that holds foreign data is an error.
func (c *Cache) Start(ctx context.Context, s driver.CacheSpec) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start bcache of image %s: %w", s.ImageID, err)
		}
	}()
	id, err := check(s)
	if err != nil {
		return "", err
	}
	set, err := c.Open(ctx)
	lost := errors.Is(err, driver.ErrUnavailable) && exists(c.sys.path("fs", "bcache", "register"))
	if err != nil && !lost {
		return "", err
	}
	back := driver.ImageDevice(s.ImageID, driver.PartBack)
	d, err := c.dm.Get(ctx, back)
	switch {
	case errors.Is(err, driver.ErrNotFound):
	case err != nil:
		return "", err
	default:
		b, ok := c.registered(d)
		if !ok {
			// Left over by a crash before it was registered.
			if err := c.dm.Remove(ctx, back); err != nil {
				return "", err
			}
			break
		}
		if ok, err := b.usable(); err != nil {
			return "", err
		} else if !ok && b.name != "" {
			return "", fmt.Errorf("%s is going away: %w", b.name, driver.ErrBusy)
		}
		return c.finish(ctx, id, s, set, lost)
	}

	if err := prepare(id, s, set); err != nil {
		return "", err
	}
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	undo.Add(func(ctx context.Context) error { return c.Stop(ctx, s, false) })
	return c.finish(ctx, id, s, set, lost)
}

// prepare writes a new superblock unless the one there is the image's and the set's.
func prepare(id uuid.UUID, s driver.CacheSpec, set Set) error {
	if !s.Fresh {
		sb, err := readSuperblock(s.Local[0])
		if err == nil && keep(sb, id, set.UUID) {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNoSuperblock) && !errors.Is(err, ErrBadSuperblock) {
			return err
		}
	}
	head := make([]byte, DataOffset*block.SectorBytes)
	copy(head[SuperblockOffset:], newBacking(id, uuid.New()).Encode())
	return block.Write(s.Local[0], 0, head)
}

// keep tells whether what the set holds for the backing device of this superblock is
// content of the image, and usable. A superblock that never was attached is as good as a new one.
func keep(sb Superblock, image uuid.UUID, set string) bool {
	return sb.Version == VersionBacking && sb.BlockSectors == BlockSectors && sb.Label == label(image) &&
		(sb.State() == StateNone || sb.State() == StateClean && sb.Set.String() == set)
}

// finish does what is left to do between the superblock and the cached device.
func (c *Cache) finish(ctx context.Context, id uuid.UUID, s driver.CacheSpec, set Set, lost bool) (string, error) {
	back := driver.ImageDevice(s.ImageID, driver.PartBack)
	d, err := c.dm.Create(ctx, back, table(s), driver.CreateOptions{UUID: driver.DeviceUUID(back)})
	if err != nil {
		return "", err
	}
	if _, ok := c.registered(d); !ok {
		if err := c.register(d.Path); err != nil {
			return "", err
		}
	}
	b, err := c.run(ctx, d)
	if err != nil {
		return "", err
	}
	if got := b.image(); got != label(id) {
		return "", fmt.Errorf("%s has the label %q: %w", b.name, got, driver.ErrExists)
	}
	if lost {
		return b.path(), nil
	}
	err = c.attach(ctx, b, set)
	if err != nil && b.set() == "" {
		// Another image's start may have made the set anew. One that can't be attached
		// serves all the same; Degraded tells.
		if set, err = c.Open(ctx); err == nil {
			err = c.attach(ctx, b, set)
		}
	}
	if err != nil && b.set() != "" {
		return "", err
	}
	return b.path(), nil
}

// standing returns the running cached device of an image, or driver.ErrNotFound.
func (c *Cache) standing(ctx context.Context, imageID string) (cached, error) {
	d, err := c.dm.Get(ctx, driver.ImageDevice(imageID, driver.PartBack))
	if err != nil {
		return cached{}, err
	}
	b, ok := c.registered(d)
	if ok {
		ok, err = b.usable()
	}
	if err == nil && !ok {
		err = driver.ErrNotFound
	}
	return b, err
}

// Find implements driver.Cache.
func (c *Cache) Find(ctx context.Context, imageID string) (string, error) {
	b, err := c.standing(ctx, imageID)
	if err != nil {
		return "", fmt.Errorf("find bcache of image %s: %w", imageID, err)
	}
	return b.path(), nil
}

// Degraded says why reads of a standing image are not cached, "" if they are.
func (c *Cache) Degraded(ctx context.Context, imageID string) (string, error) {
	b, err := c.standing(ctx, imageID)
	if err != nil {
		return "", fmt.Errorf("bcache of image %s: %w", imageID, err)
	}
	set := b.set()
	if set == "" {
		return b.name + " has no cache set: its cache device is missing, failed, or has no room for another device", nil
	}
	if off, err := readAttr(c.sys.path("fs", "bcache", set, "io_disable")); err == nil && off == "1" {
		return "cache set " + set + " of " + b.name + " has failed", nil
	}
	return "", nil
}

// Stop implements driver.Cache. Without forget the set keeps the content, until it needs the
// room.
func (c *Cache) Stop(ctx context.Context, s driver.CacheSpec, forget bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("stop bcache of image %s: %w", s.ImageID, err)
		}
	}()
	if err := c.takeDown(ctx, driver.ImageDevice(s.ImageID, driver.PartBack), forget); err != nil {
		return err
	}
	if forget && len(s.Local) == 1 {
		return block.Zero(s.Local[0], DataOffset*block.SectorBytes)
	}
	return nil
}

// takeDown ends the cached device and removes its backing device. udev registers devices
// with a superblock whenever it sees them change, also after we have stopped
// one; then it is stopped again.
func (c *Cache) takeDown(ctx context.Context, back string, forget bool) error {
	const rounds = 5
	var err error
	for range rounds {
		var d driver.Device
		if d, err = c.dm.Get(ctx, back); errors.Is(err, driver.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if b, ok := c.registered(d); ok {
			if err = c.end(ctx, b, forget); err != nil {
				return err
			}
		}
		err = poll(ctx, c.limit, back+" is free", func() (bool, error) {
			d, err := c.dm.Get(ctx, back)
			if errors.Is(err, driver.ErrNotFound) {
				return true, nil
			}
			_, again := c.registered(d)
			return again || d.OpenCount == 0, err
		})
		if err != nil {
			return fmt.Errorf("%w: %w", driver.ErrBusy, err)
		}
		if err = c.dm.Remove(ctx, back); err == nil || !errors.Is(err, driver.ErrBusy) {
			return err
		}
	}
	return err
}

// end stops a cached device that nobody has open, and waits for its end.
func (c *Cache) end(ctx context.Context, b cached, forget bool) error {
	own, err := c.claim(b)
	if err != nil {
		return err
	}
	if own != nil {
		// Held until the device is told to stop, so that nobody claims it meanwhile.
		if forget {
			err = c.detach(ctx, b)
		}
		if err == nil {
			err = b.write("stop", "1")
		}
		if err = errors.Join(err, own.Close()); err != nil {
			return err
		}
	} else if err := b.write("stop", "1"); err != nil && exists(b.dir) {
		return err
	}
	return c.gone(ctx, b)
}

// Stats implements driver.Cache. The kernel adds to the totals every few seconds, not with
// each request.
func (c *Cache) Stats(ctx context.Context, imageID string) (driver.CacheStats, error) {
	b, err := c.standing(ctx, imageID)
	if err != nil {
		return driver.CacheStats{}, fmt.Errorf("bcache statistics of image %s: %w", imageID, err)
	}
	var st driver.CacheStats
	for _, a := range []struct {
		name string
		to   *uint64
	}{
		{"cache_hits", &st.Hits},
		{"cache_bypass_hits", &st.Hits},
		{"cache_misses", &st.Misses},
		{"cache_bypass_misses", &st.Misses},
	} {
		text, err := b.attr(filepath.Join("stats_total", a.name))
		if err != nil {
			return driver.CacheStats{}, fmt.Errorf("bcache statistics of image %s: %w", imageID, err)
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return driver.CacheStats{}, fmt.Errorf("bcache statistics of image %s: %s: %w", imageID, a.name, err)
		}
		*a.to += n
	}
	return st, nil
}
