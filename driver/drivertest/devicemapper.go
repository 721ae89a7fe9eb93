package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// DeviceMapperEnv is what the suite of driver.DeviceMapper stands on.
type DeviceMapperEnv struct {
	// Disk is a block device of at least 64 MiB whose first 4 KiB are zero each time;
	// what is on it is lost.
	Disk string
	// Open holds a device open, as a process does.
	Open func(path string) (io.Closer, error)
	// Number of the device at path.
	Number func(path string) (dm.DevNumber, error)
	// Stands tells whether there is a device node at path.
	Stands func(path string) bool
}

// dmPrefix begins the names that the suite makes.
const dmPrefix = driver.Prefix + "test-"

// DeviceMapper is the suite that every driver.DeviceMapper passes. fresh returns one
// on which no device whose name begins with "vmthunder-test-" stands.
func DeviceMapper(t *testing.T, fresh func(t *testing.T) (driver.DeviceMapper, DeviceMapperEnv)) {
	for _, c := range []struct {
		name string
		run  func(*dmSuite)
	}{
		{"create", (*dmSuite).create},
		{"create is idempotent", (*dmSuite).idempotent},
		{"a failed create leaves nothing", (*dmSuite).failedCreate},
		{"read-only", (*dmSuite).readOnly},
		{"remove", (*dmSuite).remove},
		{"reload", (*dmSuite).reload},
		{"a refused reload changes nothing", (*dmSuite).failedReload},
		{"suspend", (*dmSuite).suspend},
		{"missing devices", (*dmSuite).missing},
		{"list", (*dmSuite).list},
		{"targets", (*dmSuite).targets},
		{"cancelled", (*dmSuite).cancelled},
		{"snapshot", (*dmSuite).snapshot},
		{"switch", (*dmSuite).spread},
		{"multipath", (*dmSuite).multipath},
		{"thin", (*dmSuite).thin},
		{"cache", (*dmSuite).cache},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, env := fresh(t)
			s := &dmSuite{T: t, m: m, env: env}
			t.Cleanup(s.clear)
			c.run(s)
		})
	}
}

type dmSuite struct {
	*testing.T
	m   driver.DeviceMapper
	env DeviceMapperEnv
}

// clear removes what a case made, users before what they use.
func (s *dmSuite) clear() {
	ctx := context.WithoutCancel(s.Context())
	var err error
	for range 10 {
		var list []driver.Device
		if list, err = s.m.List(ctx, dmPrefix); err != nil || len(list) == 0 {
			break
		}
		for _, d := range list {
			err = errors.Join(err, s.m.Remove(ctx, d.Name))
		}
	}
	if err != nil {
		s.Errorf("clean up: %v", err)
	}
}

// made creates a device that must work.
func (s *dmSuite) made(name string, ro bool, segments ...driver.Segment) driver.Device {
	s.Helper()
	d, err := s.m.Create(s.Context(), dmPrefix+name, dm.NewTable(segments...), dmOptions(name, ro))
	if err != nil {
		s.Fatalf("create %s: %v", name, err)
	}
	return d
}

func dmOptions(name string, ro bool) driver.CreateOptions {
	return driver.CreateOptions{UUID: driver.DeviceUUID(dmPrefix + name), ReadOnly: ro}
}

// wants checks an error's sentinel.
func (s *dmSuite) wants(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// table checks the live table, blanks aside.
func (s *dmSuite) table(name string, want ...string) {
	s.Helper()
	t, err := s.m.Table(s.Context(), dmPrefix+name)
	var got []string
	for _, l := range t {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%d %d %s %s", l.Start, l.Length, l.Type, l.Params)))
	}
	if err != nil || !slices.Equal(got, want) {
		s.Errorf("table of %s: %q, %v; want %q", name, got, err, want)
	}
}

func (s *dmSuite) number(path string) string {
	s.Helper()
	n, err := s.env.Number(path)
	if err != nil {
		s.Fatalf("number of %s: %v", path, err)
	}
	return n.String()
}

func (s *dmSuite) create() {
	disk := s.number(s.env.Disk)
	d := s.made("a", false, dm.Linear(16, s.env.Disk, 8), dm.Zero(100), dm.Error(3))
	if d.Name != dmPrefix+"a" || d.UUID != "VMTHUNDER-test-a" || !d.Live || d.Suspended || d.ReadOnly || d.OpenCount != 0 {
		s.Errorf("made %+v", d)
	}
	if d.Path != "/dev/mapper/"+dmPrefix+"a" || !s.env.Stands(d.Path) {
		s.Errorf("no node at %q", d.Path)
	}
	if got := s.number(d.Path); got != fmt.Sprintf("%d:%d", d.Major, d.Minor) {
		s.Errorf("node is of device %s, made %d:%d", got, d.Major, d.Minor)
	}
	s.table("a", "0 16 linear "+disk+" 8", "16 100 zero", "116 3 error")
	got, err := s.m.Get(s.Context(), d.Name)
	if err != nil || got != d {
		s.Errorf("get: %+v, %v; want %+v", got, err, d)
	}
	st, err := s.m.Status(s.Context(), d.Name)
	if err != nil || len(st) != 3 || st.Sectors() != 119 || st[1].Type != "zero" {
		s.Errorf("status %+v, %v", st, err)
	}
}

func (s *dmSuite) idempotent() {
	d := s.made("a", false, dm.Linear(16, s.env.Disk, 8))
	if again := s.made("a", false, dm.Linear(16, s.env.Disk, 8)); again != d {
		s.Errorf("again %+v, first %+v", again, d)
	}
	if again := s.made("a", false, dm.Linear(16, s.number(s.env.Disk), 8)); again != d {
		s.Errorf("by number %+v, first %+v", again, d)
	}
	create := func(name string, t driver.Table, o driver.CreateOptions) error {
		_, err := s.m.Create(s.Context(), dmPrefix+name, t, o)
		return err
	}
	same := dm.NewTable(dm.Linear(16, s.env.Disk, 8))
	s.wants("another table", create("a", dm.NewTable(dm.Linear(16, s.env.Disk, 9)), dmOptions("a", false)), driver.ErrExists)
	s.wants("another size", create("a", dm.NewTable(dm.Linear(24, s.env.Disk, 8)), dmOptions("a", false)), driver.ErrExists)
	s.wants("another target", create("a", dm.NewTable(dm.Zero(16)), dmOptions("a", false)), driver.ErrExists)
	s.wants("another UUID", create("a", same, dmOptions("b", false)), driver.ErrExists)
	s.wants("another mode", create("a", same, dmOptions("a", true)), driver.ErrExists)
	s.wants("the UUID of another", create("b", same, dmOptions("a", false)), driver.ErrExists)
	if got, err := s.m.Get(s.Context(), d.Name); err != nil || got != d {
		s.Errorf("after all that %+v, %v", got, err)
	}
	_, err := s.m.Get(s.Context(), dmPrefix+"b")
	s.wants("what was refused", err, driver.ErrNotFound)
}

func (s *dmSuite) failedCreate() {
	for name, c := range map[string]struct {
		table driver.Table
		want  error
	}{
		"beyond the end": {dm.NewTable(dm.Linear(16, s.env.Disk, 1<<40)), nil},
		"no device":      {dm.NewTable(dm.Linear(16, "/dev/nothing-like-this", 0)), driver.ErrNotFound},
		"no target":      {dm.NewTable(driver.Segment{Length: 8, Type: "no-such-type"}), driver.ErrUnavailable},
		"bad parameters": {dm.NewTable(driver.Segment{Length: 8, Type: "linear", Params: "what"}), nil},
		"a hole":         {driver.Table{dm.Zero(8), {Start: 16, Length: 8, Type: "zero"}}, nil},
		"nothing":        {nil, nil},
	} {
		_, err := s.m.Create(s.Context(), dmPrefix+"a", c.table, dmOptions("a", false))
		if err == nil {
			s.Errorf("%s: made", name)
		} else if c.want != nil {
			s.wants(name, err, c.want)
		}
		_, err = s.m.Get(s.Context(), dmPrefix+"a")
		s.wants(name+": left over", err, driver.ErrNotFound)
		if s.env.Stands("/dev/mapper/" + dmPrefix + "a") {
			s.Errorf("%s: a node is left", name)
		}
	}
	for _, name := range []string{"", "a/b", "..", strings.Repeat("x", 128)} {
		if _, err := s.m.Create(s.Context(), name, dm.NewTable(dm.Zero(8)), driver.CreateOptions{}); err == nil {
			s.Errorf("name %q: made", name)
		}
	}
}

func (s *dmSuite) readOnly() {
	d := s.made("ro", true, dm.Linear(16, s.env.Disk, 0))
	if !d.ReadOnly {
		s.Errorf("made %+v", d)
	}
	if again := s.made("ro", true, dm.Linear(16, s.env.Disk, 0)); again != d {
		s.Errorf("again %+v", again)
	}
	o := driver.ReloadOptions{ReadOnly: true, NoFlush: true, NoLockFS: true}
	if err := s.m.Reload(s.Context(), d.Name, dm.NewTable(dm.Linear(16, s.env.Disk, 16)), o); err != nil {
		s.Errorf("reload: %v", err)
	}
	if got, err := s.m.Get(s.Context(), d.Name); err != nil || !got.ReadOnly {
		s.Errorf("after reload %+v, %v", got, err)
	}
}

func (s *dmSuite) remove() {
	ctx := s.Context()
	a := s.made("a", false, dm.Linear(16, s.env.Disk, 0))
	b := s.made("b", false, dm.Linear(16, a.Path, 0))
	if got, err := s.m.Get(ctx, a.Name); err != nil || got.OpenCount != 1 {
		s.Errorf("open count of a used device: %+v, %v", got, err)
	}
	s.wants("remove of a used device", s.m.Remove(ctx, a.Name), driver.ErrBusy)
	f, err := s.env.Open(b.Path)
	if err != nil {
		s.Fatal(err)
	}
	s.wants("remove of an open device", s.m.Remove(ctx, b.Name), driver.ErrBusy)
	if _, err := s.m.Get(ctx, b.Name); err != nil || !s.env.Stands(b.Path) {
		s.Errorf("a refused remove did something: %v", err)
	}
	if err := f.Close(); err != nil {
		s.Fatal(err)
	}
	for _, d := range []driver.Device{b, a, a} { // twice is fine
		if err := s.m.Remove(ctx, d.Name); err != nil {
			s.Errorf("remove: %v", err)
		}
		if s.env.Stands(d.Path) {
			s.Errorf("node %s is left", d.Path)
		}
	}
	if err := s.m.Remove(ctx, dmPrefix+"never"); err != nil {
		s.Errorf("remove of what never was: %v", err)
	}
}

func (s *dmSuite) reload() {
	ctx := s.Context()
	disk := s.number(s.env.Disk)
	a := s.made("a", false, dm.Linear(16, s.env.Disk, 0))
	b := s.made("b", false, dm.Linear(8, a.Path, 0))
	f, err := s.env.Open(b.Path)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := s.m.Reload(ctx, b.Name, dm.NewTable(dm.Linear(8, s.env.Disk, 32), dm.Zero(8)), driver.ReloadOptions{}); err != nil {
		s.Fatalf("reload of an open device: %v", err)
	}
	s.table("b", "0 8 linear "+disk+" 32", "8 8 zero")
	got, err := s.m.Get(ctx, b.Name)
	if err != nil || got.Minor != b.Minor || got.Suspended || !got.Live {
		s.Errorf("after reload %+v, %v; before %+v", got, err, b)
	}
	if err := s.m.Remove(ctx, a.Name); err != nil {
		s.Errorf("what the old table stood on is not free: %v", err)
	}
	if err := s.m.Suspend(ctx, b.Name, driver.ReloadOptions{NoFlush: true}); err != nil {
		s.Fatal(err)
	}
	if err := s.m.Reload(ctx, b.Name, dm.NewTable(dm.Zero(16)), driver.ReloadOptions{}); err != nil {
		s.Errorf("reload of a suspended device: %v", err)
	}
	if got, err := s.m.Get(ctx, b.Name); err != nil || got.Suspended {
		s.Errorf("it stays suspended: %+v, %v", got, err)
	}
}

func (s *dmSuite) failedReload() {
	ctx := s.Context()
	d := s.made("a", false, dm.Linear(16, s.env.Disk, 0))
	for what, t := range map[string]driver.Table{
		"beyond the end": dm.NewTable(dm.Linear(16, s.env.Disk, 1<<40)),
		"no device":      dm.NewTable(dm.Linear(16, "/dev/nothing-like-this", 0)),
		"nothing":        {},
	} {
		if err := s.m.Reload(ctx, d.Name, t, driver.ReloadOptions{}); err == nil {
			s.Errorf("%s: reloaded", what)
		}
		s.table("a", "0 16 linear "+s.number(s.env.Disk)+" 0")
		if got, err := s.m.Get(ctx, d.Name); err != nil || got != d {
			s.Errorf("%s: %+v, %v; before %+v", what, got, err, d)
		}
	}
	// A table that loads and can't be resumed: two snapshots on one store.
	s.made("cow", false, dm.Linear(4096, s.env.Disk, 4096))
	snap := dm.SnapshotTarget{Origin: s.env.Disk, Cow: "/dev/mapper/" + dmPrefix + "cow", ChunkSectors: 8}.Segment(16)
	first := s.made("snap", false, snap)
	if err := s.m.Reload(ctx, d.Name, dm.NewTable(snap), driver.ReloadOptions{}); err == nil {
		s.Error("a second snapshot on one store was resumed")
	}
	s.table("a", "0 16 linear "+s.number(s.env.Disk)+" 0")
	for _, want := range []driver.Device{d, first} {
		if got, err := s.m.Get(ctx, want.Name); err != nil || got != want {
			s.Errorf("after a failed resume %+v, %v; before %+v", got, err, want)
		}
	}
}

func (s *dmSuite) suspend() {
	ctx := s.Context()
	d := s.made("a", false, dm.Zero(16))
	for _, step := range []struct {
		what      string
		run       func() error
		suspended bool
	}{
		{"suspend", func() error { return s.m.Suspend(ctx, d.Name, driver.ReloadOptions{}) }, true},
		{"suspend again", func() error { return s.m.Suspend(ctx, d.Name, driver.ReloadOptions{}) }, true},
		{"resume", func() error { return s.m.Resume(ctx, d.Name) }, false},
		{"resume again", func() error { return s.m.Resume(ctx, d.Name) }, false},
		{"suspend without flush", func() error {
			return s.m.Suspend(ctx, d.Name, driver.ReloadOptions{NoFlush: true, NoLockFS: true})
		}, true},
	} {
		if err := step.run(); err != nil {
			s.Errorf("%s: %v", step.what, err)
		}
		if got, err := s.m.Get(ctx, d.Name); err != nil || got.Suspended != step.suspended || !got.Live {
			s.Errorf("after %s: %+v, %v", step.what, got, err)
		}
	}
	if err := s.m.Remove(ctx, d.Name); err != nil {
		s.Errorf("remove of a suspended device: %v", err)
	}
}

func (s *dmSuite) missing() {
	ctx, name := s.Context(), dmPrefix+"missing"
	for what, f := range map[string]func() error{
		"get":     func() error { _, err := s.m.Get(ctx, name); return err },
		"table":   func() error { _, err := s.m.Table(ctx, name); return err },
		"status":  func() error { _, err := s.m.Status(ctx, name); return err },
		"suspend": func() error { return s.m.Suspend(ctx, name, driver.ReloadOptions{}) },
		"resume":  func() error { return s.m.Resume(ctx, name) },
		"reload":  func() error { return s.m.Reload(ctx, name, dm.NewTable(dm.Zero(8)), driver.ReloadOptions{}) },
		"message": func() error { _, err := s.m.Message(ctx, name, 0, "x"); return err },
	} {
		s.wants(what, f(), driver.ErrNotFound)
	}
}

func (s *dmSuite) list() {
	var want []string
	for i := range 40 {
		want = append(want, s.made(fmt.Sprintf("l%02d", i), false, dm.Zero(8)).Name)
	}
	s.made("other", false, dm.Zero(8))
	got, err := s.m.List(s.Context(), dmPrefix+"l")
	var names []string
	for _, d := range got {
		names = append(names, d.Name)
		if d.UUID != driver.DeviceUUID(d.Name) || !d.Live {
			s.Errorf("listed %+v", d)
		}
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, want) {
		s.Errorf("listed %q, %v; want %q", names, err, want)
	}
	if got, err := s.m.List(s.Context(), dmPrefix+"nothing"); err != nil || len(got) != 0 {
		s.Errorf("listed %v, %v", got, err)
	}
}

func (s *dmSuite) targets() {
	for typ, want := range map[string]bool{"linear": true, "snapshot": true, "thin-pool": true, "multipath": true, "no-such-type": false} {
		if got, err := s.m.HasTarget(s.Context(), typ); err != nil || got != want {
			s.Errorf("has %s: %v, %v", typ, got, err)
		}
	}
}

func (s *dmSuite) cancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.m.Create(ctx, dmPrefix+"a", dm.NewTable(dm.Zero(8)), driver.CreateOptions{})
	s.wants("create", err, context.Canceled)
	_, err = s.m.Get(s.Context(), dmPrefix+"a")
	s.wants("left over", err, driver.ErrNotFound)
}
