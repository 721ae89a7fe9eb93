// Package flashcache caches images with flashcache, the out-of-tree device-mapper target that the
// VMThunder paper used, where its module is loaded (old kernels; github.com/facebookarchive/flashcache,
// doc/flashcache-doc.txt and flashcache_ctr in src/flashcache_conf.c).
//
// The mode is write-around, which caches reads only and keeps its metadata in memory: a cache is cold
// each time it is assembled, and can't show what was on its disk before.
package flashcache

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Name of the driver, as in cache_driver.
const Name = "flashcache"

const (
	blockSectors = 8   // 4 KiB, so that no more is read than was asked for
	assoc        = 512 // blocks in a set; flashcache's default, and its sets must be whole
	setSectors   = blockSectors * assoc
)

// Config of the driver.
type Config struct {
	DM driver.DeviceMapper
	// LimitSectors is how much of one image is cached at most, in sectors; 0 for all of it.
	LimitSectors uint64
}

// Cache is the driver.
type Cache struct{ cfg Config }

var _ driver.Cache = (*Cache)(nil)

// New makes the driver.
func New(cfg Config) *Cache { return &Cache{cfg} }

// Name implements driver.Cache.
func (c *Cache) Name() string { return Name }

// Available tells whether the kernel has the target, loading it if need be.
func (c *Cache) Available(ctx context.Context) error {
	ok, err := c.cfg.DM.HasTarget(ctx, "flashcache")
	if err != nil {
		return fmt.Errorf("flashcache: %w", err)
	}
	if !ok {
		return fmt.Errorf("flashcache: the kernel module flashcache can't be loaded (it is not part of Linux): %w", driver.ErrUnavailable)
	}
	return nil
}

// Needs implements driver.Cache: one device, of whole sets.
func (c *Cache) Needs(sectors uint64) []driver.LocalDevice {
	return []driver.LocalDevice{{Suffix: "data", Sectors: c.size(sectors)}}
}

func (c *Cache) size(sectors uint64) uint64 {
	if c.cfg.LimitSectors != 0 {
		sectors = min(sectors, c.cfg.LimitSectors)
	}
	return max((sectors+setSectors-1)/setSectors, 1) * setSectors
}

func (c *Cache) table(s driver.CacheSpec) driver.Table {
	return driver.Table{dm.FlashcacheTarget{
		Disk: s.Upstream, Cache: s.Local[0], Name: device(s.ImageID),
		Mode: dm.FlashcacheWriteAround, Start: dm.FlashcacheCreate, BlockSectors: blockSectors,
	}.Segment(s.Sectors)}
}

func device(imageID string) string { return driver.ImageDevice(imageID, driver.PartCache) }

// Start implements driver.Cache. Where the target is missing it is driver.ErrUnavailable.
func (c *Cache) Start(ctx context.Context, s driver.CacheSpec) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start flashcache of image %s: %w", s.ImageID, err)
		}
	}()
	if len(s.Local) != 1 || s.Sectors == 0 {
		return "", fmt.Errorf("%d local devices, not 1, for %d sectors", len(s.Local), s.Sectors)
	}
	if err := c.Available(ctx); err != nil {
		return "", err
	}
	name := device(s.ImageID)
	if d, err := c.cfg.DM.Get(ctx, name); err == nil && !d.Live {
		if err := c.cfg.DM.Remove(ctx, name); err != nil {
			return "", err
		}
	} else if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return "", err
	}
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
		return "", fmt.Errorf("find flashcache of image %s: %w", imageID, err)
	}
	return d.Path, nil
}

// Stop implements driver.Cache. The content is dropped in any case.
func (c *Cache) Stop(ctx context.Context, s driver.CacheSpec, _ bool) error {
	if err := c.cfg.DM.Remove(ctx, device(s.ImageID)); err != nil {
		return fmt.Errorf("stop flashcache of image %s: %w", s.ImageID, err)
	}
	return nil
}

// Stats implements driver.Cache. CachedBytes is not known.
func (c *Cache) Stats(ctx context.Context, imageID string) (driver.CacheStats, error) {
	t, err := c.cfg.DM.Status(ctx, device(imageID))
	var st dm.FlashcacheStatus
	if err == nil && len(t) == 1 && t[0].Type == "flashcache" {
		st, err = dm.ParseFlashcacheStatus(t[0].Params)
	} else if err == nil {
		err = errors.New("not a flashcache")
	}
	if err != nil {
		return driver.CacheStats{}, fmt.Errorf("flashcache statistics of image %s: %w", imageID, err)
	}
	return driver.CacheStats{Hits: st.ReadHits, Misses: st.Reads - min(st.ReadHits, st.Reads)}, nil
}
