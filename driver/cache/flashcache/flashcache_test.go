package flashcache

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const imageID = "0e0b8bd3-8c25-4f2e-9c3a-5b7f1f0a9d11"

var spec = driver.CacheSpec{ImageID: imageID, Upstream: "/dev/mapper/up", Sectors: 20 << 11, Local: []string{"/dev/mapper/data"}}

func TestTable(t *testing.T) {
	want := driver.Table{{
		Length: 20 << 11, Type: "flashcache",
		Params: "/dev/mapper/up /dev/mapper/data vmthunder-image-" + imageID + "-cache 3 2 8",
	}}
	if diff := cmp.Diff(want, New(Config{}).table(spec)); diff != "" {
		t.Error(diff)
	}
}

func TestNeeds(t *testing.T) {
	for _, c := range []struct{ sectors, limit, want uint64 }{
		{20 << 11, 0, 40960},
		{20<<11 + 8, 0, 45056}, // sets of 512 blocks are whole
		{8, 0, 4096},
		{20 << 21, 1 << 21, 1 << 21},
		{20 << 11, 1 << 30, 40960},
	} {
		want := []driver.LocalDevice{{Suffix: "data", Sectors: c.want}}
		if diff := cmp.Diff(want, New(Config{LimitSectors: c.limit}).Needs(c.sectors)); diff != "" {
			t.Errorf("%+v: %s", c, diff)
		}
	}
}

func TestUnavailable(t *testing.T) {
	c := New(Config{DM: fake.NewDeviceMapper(fake.NewDevices())}) // has no flashcache
	if err := c.Available(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Available: %v", err)
	}
	if _, err := c.Start(t.Context(), spec); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Start: %v", err)
	}
	if _, err := c.Find(t.Context(), imageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Find: %v", err)
	}
	if err := c.Stop(t.Context(), spec, true); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// kernel has the target and at most one device.
type kernel struct {
	driver.DeviceMapper
	dev    *driver.Device
	table  driver.Table
	status string
}

func (k *kernel) HasTarget(_ context.Context, target string) (bool, error) {
	return target == "flashcache", nil
}

func (k *kernel) Get(context.Context, string) (driver.Device, error) {
	if k.dev == nil {
		return driver.Device{}, driver.ErrNotFound
	}
	return *k.dev, nil
}

func (k *kernel) Create(_ context.Context, name string, t driver.Table, o driver.CreateOptions) (driver.Device, error) {
	if k.dev != nil && !k.dev.Live {
		return driver.Device{}, driver.ErrExists
	}
	k.dev, k.table = &driver.Device{Name: name, UUID: o.UUID, ReadOnly: o.ReadOnly, Path: "/dev/mapper/" + name, Live: true}, t
	return *k.dev, nil
}

func (k *kernel) Remove(context.Context, string) error {
	k.dev = nil
	return nil
}

func (k *kernel) Status(context.Context, string) (driver.Table, error) {
	if k.dev == nil {
		return nil, driver.ErrNotFound
	}
	return driver.Table{{Length: spec.Sectors, Type: "flashcache", Params: k.status}}, nil
}

func TestStartAndStop(t *testing.T) {
	k := &kernel{dev: &driver.Device{}} // half made
	c := New(Config{DM: k})
	ctx := t.Context()
	if _, err := c.Find(ctx, imageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Find of one that is half made: %v", err)
	}
	path, err := c.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.table(spec), k.table); diff != "" || !k.dev.ReadOnly {
		t.Errorf("made %+v: %s", k.dev, diff)
	}
	if again, err := c.Start(ctx, spec); again != path || err != nil {
		t.Errorf("second Start = %q, %v", again, err)
	}
	if found, err := c.Find(ctx, imageID); found != path || err != nil {
		t.Errorf("Find = %q, %v", found, err)
	}
	// As flashcache_status_info prints it in write-around mode.
	k.status = "stats: \n\treads(120), writes(0)\n\tread hits(90), read hit percent(75)\n\treplacement(0), write replacement(0)\n\tinvalidates(0)\n\tpending enqueues(0), pending inval(0)\n\tno room(0)\n"
	if got, err := c.Stats(ctx, imageID); got != (driver.CacheStats{Hits: 90, Misses: 30}) || err != nil {
		t.Errorf("Stats = %+v, %v", got, err)
	}
	if err := c.Stop(ctx, spec, false); err != nil {
		t.Error(err)
	}
	if _, err := c.Stats(ctx, imageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Stats after Stop: %v", err)
	}
}
