package fake_test

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

// cacheBed is a drivertest.CacheBed in memory.
type cacheBed struct {
	state     *fake.CacheState
	upstreams map[string]*counted
	locals    int
}

type counted struct {
	io.ReaderAt
	sectors atomic.Uint64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.sectors.Add(uint64(len(p)) / 512)
	return c.ReaderAt.ReadAt(p, off)
}

// Cache is made anew each time: it must find everything in the state.
func (b *cacheBed) Cache() driver.Cache { return fake.NewCache("fake", b.state) }

func (b *cacheBed) Upstream(_ *testing.T, content []byte) string {
	path := fmt.Sprintf("/dev/upstream%d", len(b.upstreams))
	b.upstreams[path] = &counted{ReaderAt: bytes.NewReader(content)}
	return path
}

func (b *cacheBed) Traffic(_ *testing.T, upstream string) (read, written uint64) {
	return b.upstreams[upstream].sectors.Load(), 0
}

func (b *cacheBed) Local(_ *testing.T, needs []driver.LocalDevice) (paths []string) {
	for _, n := range needs {
		b.locals++
		paths = append(paths, fmt.Sprintf("/dev/local%d-%s", b.locals, n.Suffix))
	}
	return paths
}

func (b *cacheBed) Sectors(t *testing.T, path string) uint64 {
	n, err := b.state.Sectors(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (b *cacheBed) ReadAt(t *testing.T, path string, p []byte, off int64) {
	if err := b.state.ReadAt(path, p, off); err != nil {
		t.Error(err)
	}
}

func (b *cacheBed) Open(t *testing.T, path string) func() {
	closeIt, err := b.state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return closeIt
}

func TestCache(t *testing.T) {
	drivertest.Cache(t, func(*testing.T) drivertest.CacheBed {
		b := &cacheBed{state: &fake.CacheState{}, upstreams: map[string]*counted{}}
		b.state.Upstream = func(path string) io.ReaderAt { return b.upstreams[path] }
		return b
	}, drivertest.CacheTraits{Stalls: 1, Keeps: true})
}
