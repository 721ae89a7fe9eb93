package none_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/none"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

// bed has upstreams in memory; they are what is read.
type bed struct{ disks map[string]*disk }

type disk struct {
	content []byte
	read    atomic.Uint64 // sectors
}

func (b bed) Cache() driver.Cache { return none.Cache{} }

func (b bed) Upstream(_ *testing.T, content []byte) string {
	path := fmt.Sprintf("/dev/upstream%d", len(b.disks))
	b.disks[path] = &disk{content: content}
	return path
}

func (b bed) Traffic(_ *testing.T, path string) (read, written uint64) {
	return b.disks[path].read.Load(), 0
}

func (b bed) Local(_ *testing.T, needs []driver.LocalDevice) []string {
	return make([]string, len(needs))
}

func (b bed) Sectors(_ *testing.T, path string) uint64 {
	return uint64(len(b.disks[path].content)) / 512
}

func (b bed) ReadAt(t *testing.T, path string, p []byte, off int64) {
	b.disks[path].read.Add(uint64(len(p)) / 512)
	if _, err := bytes.NewReader(b.disks[path].content).ReadAt(p, off); err != nil {
		t.Error(err)
	}
}

func (b bed) Open(*testing.T, string) func() { return func() {} }

func TestCache(t *testing.T) {
	drivertest.Cache(t, func(*testing.T) drivertest.CacheBed { return bed{map[string]*disk{}} },
		drivertest.CacheTraits{Transparent: true})
}
