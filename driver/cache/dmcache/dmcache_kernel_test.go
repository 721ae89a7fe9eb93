//go:build kernel

package dmcache_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/dmcache"
	"github.com/vmthunder/vmthunder/driver/cache/internal/bed"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

// smq decides every few hits and seconds what is worth promoting, and some blocks never are, so the
// upstream does not get wholly quiet.
func TestConformance(t *testing.T) {
	for name, block := range map[string]uint64{"32KiB": 64, "64KiB": 128} {
		t.Run(name, func(t *testing.T) {
			drivertest.Cache(t, func(t *testing.T) drivertest.CacheBed {
				return bed.New(t, func(_ *testing.T, b *bed.Bed) driver.Cache {
					return dmcache.New(dmcache.Config{DM: b.DM, BlockSectors: block})
				})
				// The policy smq has been seen to come to rest with half of the reads cached.
			}, drivertest.CacheTraits{Stalls: 60, Residue: 0.6})
		})
	}
}
