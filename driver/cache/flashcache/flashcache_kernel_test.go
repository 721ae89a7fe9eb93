//go:build kernel

package flashcache_test

import (
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/flashcache"
	"github.com/vmthunder/vmthunder/driver/cache/internal/bed"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

// On a kernel without flashcache, which is every one of today, it must say so and leave
// nothing behind.
func TestConformance(t *testing.T) {
	newBed := func(t *testing.T) *bed.Bed {
		return bed.New(t, func(_ *testing.T, b *bed.Bed) driver.Cache {
			return flashcache.New(flashcache.Config{DM: b.DM})
		})
	}
	b := newBed(t)
	c := flashcache.New(flashcache.Config{DM: b.DM})
	if err := c.Available(t.Context()); err == nil {
		drivertest.Cache(t, func(t *testing.T) drivertest.CacheBed { return newBed(t) }, drivertest.CacheTraits{Stalls: 4})
		return
	}
	const id = "2f0d7c7e-6f1c-4b0e-9d55-3a1f9a6b0c01"
	_, err := c.Start(t.Context(), driver.CacheSpec{
		ImageID: id, Sectors: 8192, Upstream: b.Upstream(t, make([]byte, 4<<20)), Local: b.Local(t, c.Needs(8192)),
	})
	if !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Start without the module: %v", err)
	}
	if _, err := c.Find(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Find: %v", err)
	}
}
