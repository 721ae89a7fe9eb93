package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache"
	"github.com/vmthunder/vmthunder/driver/cache/none"
)

// named is a driver with a name and an availability.
type named struct {
	none.Cache
	name string
	err  error
}

func (n named) Name() string                    { return n.name }
func (n named) Available(context.Context) error { return n.err }

func TestChoose(t *testing.T) {
	missing := func(what string) error { return fmt.Errorf("kernel module %s: %w", what, driver.ErrUnavailable) }
	broken := errors.New("input/output error")
	drivers := func(errs ...error) (ds []cache.Driver) {
		// Not in the order of preference.
		for i, n := range []string{"none", "flashcache", "dm-cache", "bcache"} {
			ds = append(ds, named{name: n, err: errs[len(errs)-1-i]})
		}
		return ds
	}
	for _, c := range []struct {
		title, name string
		drivers     []cache.Driver
		want        string // name of the driver, "" for an error
		say         []string
		is          error
	}{
		{"all there", "auto", drivers(nil, nil, nil, nil), "bcache", []string{"auto", "bcache"}, nil},
		{"no bcache", "auto", drivers(missing("bcache"), nil, nil, nil), "dm-cache", []string{"not bcache", "kernel module bcache"}, nil},
		{"old kernel", "auto", drivers(missing("bcache"), missing("dm-cache"), nil, nil), "flashcache", []string{"not bcache", "not dm-cache"}, nil},
		{"nothing", "auto", drivers(missing("bcache"), missing("dm-cache"), missing("flashcache"), nil), "none", []string{"not flashcache"}, nil},
		{"nothing at all", "auto", nil, "", nil, driver.ErrUnavailable},
		{"broken", "auto", drivers(broken, nil, nil, nil), "", []string{"bcache", "input/output"}, broken},
		{"by name", "flashcache", drivers(nil, nil, nil, nil), "flashcache", []string{"flashcache"}, nil},
		{"by name, missing", "bcache", drivers(missing("bcache"), nil, nil, nil), "", []string{"cache_driver bcache", "kernel module bcache"}, driver.ErrUnavailable},
		{"none by name", "none", drivers(nil, nil, nil, nil), "none", nil, nil},
		{"unknown", "lvmcache", drivers(nil, nil, nil, nil), "", []string{"lvmcache", "auto, bcache, dm-cache, flashcache, none"}, nil},
		{"empty", "", drivers(nil, nil, nil, nil), "", nil, nil},
	} {
		t.Run(c.title, func(t *testing.T) {
			got, reason, err := cache.Choose(t.Context(), c.name, c.drivers...)
			if (err == nil) != (c.want != "") || (err == nil && got.Name() != c.want) {
				t.Fatalf("Choose = %v, %q, %v, want %q", got, reason, err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v is not %v", err, c.is)
			}
			said := reason
			if err != nil {
				said = err.Error()
			}
			for _, s := range c.say {
				if !strings.Contains(said, s) {
					t.Errorf("%q does not say %q", said, s)
				}
			}
		})
	}
}
