package fake

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
)

const fakeCacheBlock = 4096

// Cache is a read cache in memory that keeps its content over Stop, as bcache does. Its
// state, which stands for the kernel's and the disk's, is in [CacheState]: a Cache made over
// the same state after a "restart of the agent" finds everything again.
type Cache struct {
	name  string
	state *CacheState
}

// CacheState is what a Cache keeps where a real one has the kernel and a disk.
type CacheState struct {
	// Upstream opens what is beneath, for ReadAt. Tests that read nothing may leave it nil.
	Upstream func(path string) io.ReaderAt

	mu       sync.Mutex
	standing map[string]*fakeCached // by image id
	disk     map[string]*fakeDisk   // by path of the first local device
	next     int
}

// fakeDisk is the content on a local device, and whose it is.
type fakeDisk struct {
	imageID string
	blocks  map[int64][]byte
}

type fakeCached struct {
	path  string
	spec  driver.CacheSpec
	disk  *fakeDisk
	open  int
	stats driver.CacheStats
}

var _ driver.Cache = (*Cache)(nil)

// NewCache makes a cache that calls itself name.
func NewCache(name string, state *CacheState) *Cache {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.standing == nil {
		state.standing, state.disk = map[string]*fakeCached{}, map[string]*fakeDisk{}
	}
	return &Cache{name, state}
}

// Name implements driver.Cache.
func (c *Cache) Name() string { return c.name }

// Available tells that the driver can be chosen: always.
func (c *Cache) Available(context.Context) error { return nil }

// Needs implements driver.Cache: one small device.
func (c *Cache) Needs(uint64) []driver.LocalDevice {
	return []driver.LocalDevice{{Suffix: "sb", Sectors: 128}}
}

// Start implements driver.Cache.
func (c *Cache) Start(ctx context.Context, s driver.CacheSpec) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("start cache of image %s: %w", s.ImageID, err)
	}
	if len(s.Local) != 1 || s.Sectors == 0 || s.Sectors%8 != 0 {
		return "", fmt.Errorf("start cache of image %s: %d local devices, %d sectors", s.ImageID, len(s.Local), s.Sectors)
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if d, ok := c.state.standing[s.ImageID]; ok {
		if d.spec.Upstream != s.Upstream || d.spec.Local[0] != s.Local[0] || d.spec.Sectors != s.Sectors {
			return "", fmt.Errorf("start cache of image %s: it stands over %s: %w", s.ImageID, d.spec.Upstream, driver.ErrExists)
		}
		return d.path, nil
	}
	disk := c.state.disk[s.Local[0]]
	if disk == nil || s.Fresh || disk.imageID != s.ImageID {
		disk = &fakeDisk{imageID: s.ImageID, blocks: map[int64][]byte{}}
		c.state.disk[s.Local[0]] = disk
	}
	d := &fakeCached{path: fmt.Sprintf("/dev/fakecache%d", c.state.next), spec: s, disk: disk}
	c.state.next++
	c.state.standing[s.ImageID] = d
	return d.path, nil
}

// Find implements driver.Cache.
func (c *Cache) Find(_ context.Context, imageID string) (string, error) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	d, ok := c.state.standing[imageID]
	if !ok {
		return "", fmt.Errorf("find cache of image %s: %w", imageID, driver.ErrNotFound)
	}
	return d.path, nil
}

// Stop implements driver.Cache.
func (c *Cache) Stop(_ context.Context, s driver.CacheSpec, forget bool) error {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if d, ok := c.state.standing[s.ImageID]; ok && d.open > 0 {
		return fmt.Errorf("stop cache of image %s: %w", s.ImageID, driver.ErrBusy)
	}
	delete(c.state.standing, s.ImageID)
	if forget && len(s.Local) == 1 {
		delete(c.state.disk, s.Local[0])
	}
	return nil
}

// Stats implements driver.Cache.
func (c *Cache) Stats(_ context.Context, imageID string) (driver.CacheStats, error) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	d, ok := c.state.standing[imageID]
	if !ok {
		return driver.CacheStats{}, fmt.Errorf("statistics of image %s: %w", imageID, driver.ErrNotFound)
	}
	d.stats.CachedBytes = uint64(len(d.disk.blocks)) * fakeCacheBlock
	return d.stats, nil
}

// Open counts an opener of the cached device; the function it returns closes it.
func (s *CacheState) Open(path string) (closeIt func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(path)
	if err != nil {
		return nil, err
	}
	d.open++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.open--
	}), nil
}

// Sectors of the cached device at path.
func (s *CacheState) Sectors(path string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(path)
	if err != nil {
		return 0, err
	}
	return d.spec.Sectors, nil
}

// ReadAt reads from the cached device at path. off and len(p) are multiples of 4096.
func (s *CacheState) ReadAt(path string, p []byte, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(path)
	if err != nil {
		return err
	}
	for ; len(p) > 0; p, off = p[fakeCacheBlock:], off+fakeCacheBlock {
		b, ok := d.disk.blocks[off]
		if ok {
			d.stats.Hits++
		} else {
			d.stats.Misses++
			b = make([]byte, fakeCacheBlock)
			if _, err := s.Upstream(d.spec.Upstream).ReadAt(b, off); err != nil {
				return fmt.Errorf("read %s at %d: %w", path, off, err)
			}
			d.disk.blocks[off] = b
		}
		copy(p[:fakeCacheBlock], b)
	}
	return nil
}

func (s *CacheState) find(path string) (*fakeCached, error) {
	for _, d := range s.standing {
		if d.path == path {
			return d, nil
		}
	}
	return nil, fmt.Errorf("cached device %s: %w", path, driver.ErrNotFound)
}
