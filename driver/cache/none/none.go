// Package none is the cache driver that does not cache: every read goes to the
// upstream, but for what the page layer keeps in memory.
package none

import (
	"context"
	"fmt"

	"github.com/vmthunder/vmthunder/driver"
)

// Name of the driver, as in cache_driver.
const Name = "none"

// Cache is the driver. Its zero value is ready for use.
type Cache struct{}

var _ driver.Cache = Cache{}

// Name implements driver.Cache.
func (Cache) Name() string { return Name }

// Available implements cache.Driver: always.
func (Cache) Available(context.Context) error { return nil }

// Needs implements driver.Cache: nothing.
func (Cache) Needs(uint64) []driver.LocalDevice { return nil }

// Start implements driver.Cache: the upstream itself.
func (Cache) Start(_ context.Context, s driver.CacheSpec) (string, error) { return s.Upstream, nil }

// Find implements driver.Cache. Nothing ever stands, so it is always driver.ErrNotFound;
// Start tells the path and costs nothing.
func (Cache) Find(_ context.Context, imageID string) (string, error) {
	return "", fmt.Errorf("find cache of image %s: none is used: %w", imageID, driver.ErrNotFound)
}

// Stop implements driver.Cache: there is nothing to stop, and whether the upstream is open is
// not known here.
func (Cache) Stop(context.Context, driver.CacheSpec, bool) error { return nil }

// Stats implements driver.Cache: all zero.
func (Cache) Stats(context.Context, string) (driver.CacheStats, error) {
	return driver.CacheStats{}, nil
}
