package dmcache

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const imageID = "0e0b8bd3-8c25-4f2e-9c3a-5b7f1f0a9d11"

var spec = driver.CacheSpec{
	ImageID: imageID, Upstream: "/dev/mapper/up", Sectors: 20 << 11,
	Local: []string{"/dev/mapper/meta", "/dev/mapper/data"},
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name                  string
		sectors, block, limit uint64
		want                  layout
	}{
		{"whole image", 20 << 11, 64, 0, layout{64, 20 << 11, 8192 + 24}},
		{"a part block more", 20<<11 + 8, 64, 0, layout{64, 20<<11 + 64, 8192 + 24}},
		{"limited", 20 << 21, 64, 1 << 21, layout{64, 1 << 21, 8192 + 1024}},
		{"limit above the image", 20 << 11, 64, 1 << 30, layout{64, 20 << 11, 8192 + 24}},
		{"tiny", 8, 64, 0, layout{64, 64, 8192 + 8}},
		{"block not a multiple", 20 << 11, 100, 0, layout{64, 20 << 11, 8192 + 24}},
		{"block of nothing", 20 << 11, 0, 0, layout{64, 20 << 11, 8192 + 24}},
		{"large: larger blocks", 100 << 21, 64, 0, layout{256, 100 << 21, 8192 + 25600}},
	} {
		if got := plan(c.sectors, c.block, c.limit); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	// Nothing breaks at the end of the scale, and the rules of dm-cache hold.
	for shift := range 50 {
		l := plan(8<<shift, 64, 0)
		if l.block < 64 || l.block > maxBlockSectors || l.block%64 != 0 || l.data%l.block != 0 || l.meta%8 != 0 || l.data < 8<<shift {
			t.Errorf("%d sectors: %+v", 8<<shift, l)
		}
	}
}

func TestTable(t *testing.T) {
	got := New(Config{MigrationThreshold: 4096}).table(spec)
	want := driver.Table{{Length: 20 << 11, Type: "cache", Params: "/dev/mapper/meta /dev/mapper/data /dev/mapper/up 64 1 writethrough smq 2 migration_threshold 4096"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// node is a fake node with the spec's devices.
func node(t *testing.T) (*Cache, *fake.DeviceMapper, *[]string) {
	t.Helper()
	devs := fake.NewDevices()
	dm := fake.NewDeviceMapper(devs)
	c := New(Config{DM: dm})
	needs := c.Needs(spec.Sectors)
	devs.Declare(spec.Local[0], needs[0].Sectors, false)
	devs.Declare(spec.Local[1], needs[1].Sectors, false)
	devs.Declare("/dev/sda", spec.Sectors, true)
	// dm-cache wants a device-mapper device beneath.
	if _, err := dm.Create(t.Context(), "up", driver.Table{{Length: spec.Sectors, Type: "linear", Params: "/dev/sda 0"}}, driver.CreateOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	var zeroed []string
	c.zero = func(path string, n int) error {
		if n != 4096 {
			t.Errorf("%d bytes zeroed", n)
		}
		if _, err := dm.Get(t.Context(), device(imageID)); err == nil {
			t.Error("the metadata of a cache that stands was zeroed")
		}
		zeroed = append(zeroed, path)
		return nil
	}
	return c, dm, &zeroed
}

func TestAlwaysColdOnAssembly(t *testing.T) {
	c, dm, zeroed := node(t)
	ctx := t.Context()
	for n := 1; n <= 3; n++ {
		path, err := c.Start(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Start(ctx, spec)
		if err != nil || again != path {
			t.Errorf("second Start = %q, %v", again, err)
		}
		if found, err := c.Find(ctx, imageID); found != path || err != nil {
			t.Errorf("Find = %q, %v", found, err)
		}
		if d, err := dm.Get(ctx, device(imageID)); err != nil || !d.ReadOnly {
			t.Errorf("the device is %+v, %v", d, err)
		}
		if want := slices.Repeat([]string{spec.Local[0]}, n); !slices.Equal(*zeroed, want) {
			t.Errorf("zeroed %v, want %v", *zeroed, want)
		}
		if err := c.Stop(ctx, spec, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Find(ctx, imageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Find = %v", err)
	}
	if err := c.Stop(ctx, spec, true); err != nil || len(*zeroed) != 4 {
		t.Errorf("forget: %v, zeroed %v", err, *zeroed)
	}
}

func TestStartRefuses(t *testing.T) {
	c, dm, zeroed := node(t)
	if _, err := c.Start(t.Context(), driver.CacheSpec{ImageID: imageID, Sectors: 8}); err == nil {
		t.Error("a cache without local devices was started")
	}
	dm.SetTargets("linear")
	if _, err := c.Start(t.Context(), spec); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("without the target: %v", err)
	}
	if err := c.Available(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Available: %v", err)
	}
	dm.SetTargets("linear", "cache")
	broken := errors.New("broken")
	c.zero = func(string, int) error { return broken }
	if _, err := c.Start(t.Context(), spec); !errors.Is(err, broken) {
		t.Errorf("metadata can't be zeroed: %v", err)
	}
	if _, err := c.Find(t.Context(), imageID); !errors.Is(err, driver.ErrNotFound) || len(*zeroed) != 0 {
		t.Errorf("something was left: %v, %v", err, *zeroed)
	}
}

func TestStartOverAnotherUpstream(t *testing.T) {
	c, dm, _ := node(t)
	if _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := dm.Create(t.Context(), "up2", driver.Table{{Length: spec.Sectors, Type: "linear", Params: "/dev/sda 0"}}, driver.CreateOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	s := spec
	s.Upstream = "/dev/mapper/up2"
	if _, err := c.Start(t.Context(), s); !errors.Is(err, driver.ErrExists) {
		t.Errorf("Start over another upstream: %v", err)
	}
}

func TestStats(t *testing.T) {
	c, dm, _ := node(t)
	if _, err := c.Stats(t.Context(), imageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("of no cache: %v", err)
	}
	if _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	dm.SetStatus(device(imageID), 0, "8 27/1024 64 320/640 500 700 0 0 0 320 0 1 writethrough 2 migration_threshold 262144 smq 0 rw - ")
	got, err := c.Stats(t.Context(), imageID)
	if want := (driver.CacheStats{Hits: 500, Misses: 700, CachedBytes: 320 * 32 << 10}); got != want || err != nil {
		t.Errorf("Stats = %+v, %v, want %+v", got, err, want)
	}
	dm.SetStatus(device(imageID), 0, "Fail")
	if _, err := c.Stats(t.Context(), imageID); err == nil {
		t.Error("statistics of a cache that has failed")
	}
}
