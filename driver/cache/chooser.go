// Package cache chooses the cache driver of a node. The drivers are in the packages
// below; their contract is driver.Cache.
package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// Auto is the name that leaves the choice to [Choose].
const Auto = "auto"

// Names of the drivers, in the order of preference: only bcache caches at the first read,
// without reading more than was asked for, and keeps its content over a reboot; dm-cache is in every
// kernel; flashcache is out of tree and was made for old ones.
var names = [...]string{"bcache", "dm-cache", "flashcache", "none"}

// Names returns what cache_driver may be.
func Names() []string { return append([]string{Auto}, names[:]...) }

// Driver is a driver that can tell whether it can work on this node.
type Driver interface {
	driver.Cache
	// Available loads what can be loaded. Its error wraps driver.ErrUnavailable and says what is
	// missing.
	Available(ctx context.Context) error
}

// Choose returns the driver that is called name, or for "auto" the first of bcache, dm-cache,
// flashcache and none that is available, with the reason in words for the log. A driver
// asked for by name that can't work here is an error, never silently another.
func Choose(ctx context.Context, name string, drivers ...Driver) (driver.Cache, string, error) {
	if name != Auto {
		return byName(ctx, name, drivers)
	}
	var without []string
	for _, n := range names {
		i := slices.IndexFunc(drivers, func(d Driver) bool { return d.Name() == n })
		if i < 0 {
			continue
		}
		err := drivers[i].Available(ctx)
		if err == nil {
			reason := "cache_driver is auto: " + n + " is the best available"
			if len(without) > 0 {
				reason += "; " + strings.Join(without, "; ")
			}
			return drivers[i], reason, nil
		}
		if !errors.Is(err, driver.ErrUnavailable) {
			return nil, "", fmt.Errorf("choose cache driver: %s: %w", n, err)
		}
		without = append(without, "not "+n+": "+oneLine(err))
	}
	return nil, "", fmt.Errorf("choose cache driver: %w: %s", driver.ErrUnavailable, strings.Join(without, "; "))
}

func byName(ctx context.Context, name string, drivers []Driver) (driver.Cache, string, error) {
	i := slices.IndexFunc(drivers, func(d Driver) bool { return d.Name() == name })
	if i < 0 {
		return nil, "", fmt.Errorf("cache_driver %q: not one of %s", name, strings.Join(Names(), ", "))
	}
	if err := drivers[i].Available(ctx); err != nil {
		return nil, "", fmt.Errorf("cache_driver %s: %w", name, err)
	}
	return drivers[i], "cache_driver is " + name, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
