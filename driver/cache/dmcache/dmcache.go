// Package dmcache caches images with the kernel's dm-cache: one cache device, with metadata and
// data of its own, for each image (Documentation/admin-guide/device-mapper/cache.rst).
//
// # Always cold
//
// dm-cache remembers over a clean removal what is cached, but after an unclean stop it takes every
// block for dirty and writes it back to the origin. The origin is another node's image
// and read-only, so such a cache would fail and never get clean. Content is therefore
// never kept: the superblock of the metadata is zeroed before every assembly, and the kernel
// formats it. It also makes it impossible to see bytes of another image in reused devices.
// A cache that stands is not touched.
//
// # Settings
//
// The mode is writethrough, which never has a dirty block, and the device is read-only; passthrough
// would not cache. smq promotes a block when it has been read a few times and a few seconds are over, so
// several boots pass before the upstream gets quiet, and a promotion reads the whole block again;
// migration_threshold bounds that copying, and is raised so that it is not what holds it up.
//
// dm-cache opens its origin for writing, and refuses a disk that is read-only. It accepts a read-only
// device-mapper device, which the upstream always is.
package dmcache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Name of the driver, as in cache_driver.
const Name = "dm-cache"

// DefaultMigrationThreshold is how much may be on its way between origin and cache at a time, in
// sectors: 128 MiB.
const DefaultMigrationThreshold = 256 << 10

// Config of the driver.
type Config struct {
	DM driver.DeviceMapper
	// BlockSectors is the unit of caching in sectors, a multiple of 64; DefaultBlockSectors if 0.
	BlockSectors uint64
	// LimitSectors is how much of one image is cached at most, in sectors; 0 for all of it.
	LimitSectors uint64
	// MigrationThreshold in sectors; DefaultMigrationThreshold if 0.
	MigrationThreshold uint64
}

// Cache is the driver. It keeps no state; its methods may be called at the same time for
// different images.
type Cache struct {
	cfg Config
	// zero blanks the superblock of the metadata; replaced in tests of what needs no device.
	zero func(path string, bytes int) error
}

var _ driver.Cache = (*Cache)(nil)

// New makes the driver.
func New(cfg Config) *Cache {
	if cfg.BlockSectors == 0 {
		cfg.BlockSectors = DefaultBlockSectors
	}
	if cfg.MigrationThreshold == 0 {
		cfg.MigrationThreshold = DefaultMigrationThreshold
	}
	return &Cache{cfg: cfg, zero: block.Zero}
}

// Name implements driver.Cache.
func (c *Cache) Name() string { return Name }

// Available tells whether the kernel has the target and its policy, loading them if need be.
func (c *Cache) Available(ctx context.Context) error {
	ok, err := c.cfg.DM.HasTarget(ctx, "cache")
	if err != nil {
		return fmt.Errorf("dm-cache: %w", err)
	}
	if !ok {
		return fmt.Errorf("dm-cache: the kernel modules dm-cache and dm-cache-smq can't be loaded: %w", driver.ErrUnavailable)
	}
	return nil
}

func (c *Cache) plan(sectors uint64) layout {
	return plan(sectors, c.cfg.BlockSectors, c.cfg.LimitSectors)
}

// Needs implements driver.Cache: metadata and data.
func (c *Cache) Needs(sectors uint64) []driver.LocalDevice { return c.plan(sectors).needs() }

// table has the migration threshold behind the policy, where dm-cache takes its own
// settings too.
func (c *Cache) table(s driver.CacheSpec) driver.Table {
	seg := dm.CacheTarget{
		Metadata: s.Local[0], Cache: s.Local[1], Origin: s.Upstream,
		BlockSectors: c.plan(s.Sectors).block, Mode: "writethrough", Policy: "smq",
	}.Segment(s.Sectors)
	seg.Params = strings.TrimSuffix(seg.Params, " 0") + fmt.Sprintf(" 2 migration_threshold %d", c.cfg.MigrationThreshold)
	return driver.Table{seg}
}

func device(imageID string) string { return driver.ImageDevice(imageID, driver.PartCache) }

// Start implements driver.Cache.
func (c *Cache) Start(ctx context.Context, s driver.CacheSpec) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start dm-cache of image %s: %w", s.ImageID, err)
		}
	}()
	if len(s.Local) != 2 || s.Sectors == 0 {
		return "", fmt.Errorf("%d local devices, not 2, for %d sectors", len(s.Local), s.Sectors)
	}
	name := device(s.ImageID)
	d, err := c.cfg.DM.Get(ctx, name)
	switch {
	case errors.Is(err, driver.ErrNotFound):
	case err != nil:
		return "", err
	case !d.Live:
		if err := c.cfg.DM.Remove(ctx, name); err != nil {
			return "", err
		}
	default: // compared with what is asked for, and left as it is
		return c.create(ctx, name, s)
	}
	if err := c.Available(ctx); err != nil {
		return "", err
	}
	if err := c.zero(s.Local[0], superblockBytes); err != nil {
		return "", err
	}
	return c.create(ctx, name, s)
}

func (c *Cache) create(ctx context.Context, name string, s driver.CacheSpec) (string, error) {
	d, err := c.cfg.DM.Create(ctx, name, c.table(s), driver.CreateOptions{UUID: driver.DeviceUUID(name), ReadOnly: true})
	return d.Path, err
}

// Find implements driver.Cache.
func (c *Cache) Find(ctx context.Context, imageID string) (string, error) {
	d, err := c.cfg.DM.Get(ctx, device(imageID))
	if err == nil && !d.Live {
		err = driver.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find dm-cache of image %s: %w", imageID, err)
	}
	return d.Path, nil
}

// Stop implements driver.Cache. The content is dropped in any case; with forget its metadata is
// made unreadable at once.
func (c *Cache) Stop(ctx context.Context, s driver.CacheSpec, forget bool) error {
	err := c.cfg.DM.Remove(ctx, device(s.ImageID))
	if err == nil && forget && len(s.Local) > 0 {
		err = c.zero(s.Local[0], superblockBytes)
	}
	if err != nil {
		return fmt.Errorf("stop dm-cache of image %s: %w", s.ImageID, err)
	}
	return nil
}

// Stats implements driver.Cache.
func (c *Cache) Stats(ctx context.Context, imageID string) (driver.CacheStats, error) {
	t, err := c.cfg.DM.Status(ctx, device(imageID))
	var st dm.CacheStatus
	if err == nil && len(t) == 1 && t[0].Type == "cache" {
		st, err = dm.ParseCacheStatus(t[0].Params)
	} else if err == nil {
		err = errors.New("not a cache")
	}
	if err == nil && st.Failed {
		err = errors.New("the cache has failed")
	}
	if err != nil {
		return driver.CacheStats{}, fmt.Errorf("dm-cache statistics of image %s: %w", imageID, err)
	}
	return driver.CacheStats{Hits: st.ReadHits, Misses: st.ReadMisses, CachedBytes: st.UsedBlocks * st.BlockSectors * sectorBytes}, nil
}
