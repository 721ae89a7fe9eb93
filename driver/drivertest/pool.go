package drivertest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// PoolEnv is what the suite of driver.Pool stands on. Disk and devices are the
// same for all pools that Pool returns.
type PoolEnv struct {
	// Pool returns the pool, as an agent that has just started makes it.
	Pool func() driver.Pool
	// DM has the devices that the pool makes.
	DM driver.DeviceMapper
	// Open holds a device open, as a process does.
	Open func(path string) (io.Closer, error)
	// Reboot takes all devices away and leaves the disk.
	Reboot func()
	// Foreign puts somebody else's data on the disk, Missing takes the disk away.
	Foreign, Missing func()
	// Fill uses all free blocks; the active device at path, of thin device id, may be written to.
	Fill func(path string)
	// Write puts data into the first blocks of the active device at path, of thin device id, or,
	// if exceptions, what dm-snapshot begins its store with. Nil where no kernel keeps metadata that
	// a list could be read from.
	Write func(path string, id uint32, blocks int, exceptions bool)
}

// Pool is the suite that every driver.Pool passes. fresh returns a blank disk of 64 MiB
// at least, on which no pool stands.
func Pool(t *testing.T, fresh func(t *testing.T) PoolEnv) {
	for _, c := range []struct {
		name string
		run  func(*poolSuite)
	}{
		{"open", (*poolSuite).open},
		{"after a reboot", (*poolSuite).reboot},
		{"close", (*poolSuite).close},
		{"foreign", (*poolSuite).foreign},
		{"missing", (*poolSuite).missing},
		{"thin devices", (*poolSuite).thins},
		{"snapshots", (*poolSuite).snapshots},
		{"grow", (*poolSuite).grow},
		{"full", (*poolSuite).full},
		{"list", (*poolSuite).list},
		{"not open", (*poolSuite).notOpen},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &poolSuite{T: t, env: fresh(t)}
			s.p = s.env.Pool()
			t.Cleanup(s.clear)
			c.run(s)
		})
	}
}

type poolSuite struct {
	*testing.T
	env PoolEnv
	p   driver.Pool
}

const poolThinSectors = 1 << 20 // larger than the pool

func (s *poolSuite) clear() {
	ctx := context.WithoutCancel(s.Context())
	list, err := s.env.DM.List(ctx, dmPrefix+"thin-")
	for _, d := range list {
		err = errors.Join(err, s.p.Deactivate(ctx, d.Name))
	}
	if err = errors.Join(err, s.p.Close(ctx)); err != nil {
		s.Errorf("clean up: %v", err)
	}
}

func (s *poolSuite) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *poolSuite) wants(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func (s *poolSuite) opened() driver.PoolStatus {
	s.Helper()
	st, err := s.p.Open(s.Context())
	s.ok("open", err)
	return st
}

func (s *poolSuite) activate(name string, id uint32) (string, error) {
	full := dmPrefix + "thin-" + name
	return s.p.Activate(s.Context(), full, driver.DeviceUUID(full), id, poolThinSectors)
}

func (s *poolSuite) deactivate(name string) {
	s.Helper()
	s.ok("deactivate", s.p.Deactivate(s.Context(), dmPrefix+"thin-"+name))
}

func (s *poolSuite) open() {
	st := s.opened()
	if st.UUID == "" || st.Mode != "rw" || st.TotalBytes == 0 || st.FreeBytes != st.TotalBytes ||
		st.BlockBytes < 64<<10 || st.MetadataFree == 0 || st.MetadataFree > st.MetadataTotal {
		s.Errorf("status of a new pool %+v", st)
	}
	if again := s.opened(); again != st {
		s.Errorf("opened again %+v, first %+v", again, st)
	}
	s.p = s.env.Pool() // the agent restarts
	if again := s.opened(); again != st {
		s.Errorf("after a restart %+v, first %+v", again, st)
	}
	if got, err := s.p.Status(s.Context()); err != nil || got != st {
		s.Errorf("status %+v, %v; opened %+v", got, err, st)
	}
}

func (s *poolSuite) reboot() {
	st := s.opened()
	s.ok("create", s.p.CreateThin(s.Context(), 5))
	s.env.Reboot()
	s.p = s.env.Pool()
	if again := s.opened(); again.UUID != st.UUID || again.TotalBytes != st.TotalBytes {
		s.Errorf("after a reboot %+v, before %+v", again, st)
	}
	_, err := s.activate("a", 5)
	s.ok("activate", err)
}

func (s *poolSuite) close() {
	ctx := s.Context()
	st := s.opened()
	s.ok("create", s.p.CreateThin(ctx, 1))
	_, err := s.activate("a", 1)
	s.ok("activate", err)
	s.wants("close with an active device", s.p.Close(ctx), driver.ErrBusy)
	if got, err := s.p.Status(ctx); err != nil || got.Mode != "rw" {
		s.Errorf("after a refused close %+v, %v", got, err)
	}
	s.deactivate("a")
	s.ok("close", s.p.Close(ctx))
	s.ok("close again", s.p.Close(ctx))
	if again := s.opened(); again.UUID != st.UUID {
		s.Errorf("opened after close %+v, before %+v", again, st)
	}
	_, err = s.activate("a", 1)
	s.ok("activate", err)
}

func (s *poolSuite) foreign() {
	s.env.Foreign()
	for range 2 {
		_, err := s.p.Open(s.Context())
		s.wants("open", err, driver.ErrForeign)
	}
	_, err := s.p.Status(s.Context())
	s.wants("status", err, driver.ErrNotFound)
}

func (s *poolSuite) missing() {
	s.env.Missing()
	_, err := s.p.Open(s.Context())
	s.wants("open", err, driver.ErrUnavailable)
}

func (s *poolSuite) thins() {
	ctx := s.Context()
	s.opened()
	_, err := s.activate("a", 1)
	s.wants("activate what never was", err, driver.ErrNotFound)
	for range 2 {
		s.ok("create", s.p.CreateThin(ctx, 1))
	}
	path, err := s.activate("a", 1)
	s.ok("activate", err)
	if again, err := s.activate("a", 1); err != nil || again != path {
		s.Errorf("activated again %q, %v; first %q", again, err, path)
	}
	if d, err := s.env.DM.Get(ctx, dmPrefix+"thin-a"); err != nil || d.Path != path || d.ReadOnly {
		s.Errorf("device %+v, %v", d, err)
	}
	s.ok("create another", s.p.CreateThin(ctx, 2))
	_, err = s.activate("a", 2)
	s.wants("another thin device under the same name", err, driver.ErrExists)
	s.wants("delete an active one", s.p.DeleteThin(ctx, 1), driver.ErrBusy)
	f, err := s.env.Open(path)
	s.ok("open", err)
	s.wants("deactivate an open one", s.p.Deactivate(ctx, dmPrefix+"thin-a"), driver.ErrBusy)
	s.ok("close", f.Close())
	s.deactivate("a")
	s.deactivate("a")
	for range 2 {
		s.ok("delete", s.p.DeleteThin(ctx, 1))
	}
	_, err = s.activate("a", 1)
	s.wants("activate a deleted one", err, driver.ErrNotFound)
	if err := s.p.CreateThin(ctx, 1<<24); err == nil {
		s.Error("a number of 25 bits was taken")
	}
}

func (s *poolSuite) snapshots() {
	ctx := s.Context()
	s.opened()
	s.wants("snapshot of nothing", s.p.SnapThin(ctx, 2, 1), driver.ErrNotFound)
	s.ok("create", s.p.CreateThin(ctx, 1))
	_, err := s.activate("a", 1)
	s.ok("activate", err)
	if err := s.p.SnapThin(ctx, 2, 1); err == nil {
		s.Error("a running device was snapshotted")
	}
	s.ok("suspend", s.env.DM.Suspend(ctx, dmPrefix+"thin-a", driver.ReloadOptions{}))
	for range 2 {
		s.ok("snapshot", s.p.SnapThin(ctx, 2, 1))
	}
	s.ok("resume", s.env.DM.Resume(ctx, dmPrefix+"thin-a"))
	s.deactivate("a")
	s.ok("snapshot of an inactive one", s.p.SnapThin(ctx, 3, 2))
	s.ok("delete the origin", s.p.DeleteThin(ctx, 1))
	_, err = s.activate("b", 3)
	s.ok("activate a snapshot's snapshot", err)
}

func (s *poolSuite) grow() {
	ctx := s.Context()
	s.opened()
	const name, larger = dmPrefix + "thin-a", 2 * poolThinSectors
	s.ok("create", s.p.CreateThin(ctx, 1))
	s.wants("grow one that is not active", s.p.Grow(ctx, name, 1, larger), driver.ErrNotFound)
	_, err := s.activate("a", 1)
	s.ok("activate", err)
	for range 2 {
		s.ok("grow", s.p.Grow(ctx, name, 1, larger))
	}
	if t, err := s.env.DM.Table(ctx, name); err != nil || t.Sectors() != larger {
		s.Errorf("table %+v, %v, want %d sectors", t, err, larger)
	}
	if d, err := s.env.DM.Get(ctx, name); err != nil || d.Suspended {
		s.Errorf("device %+v, %v", d, err)
	}
	if err := s.p.Grow(ctx, name, 1, poolThinSectors); err == nil {
		s.Error("it was made smaller")
	}
}

func (s *poolSuite) full() {
	ctx := s.Context()
	s.opened()
	s.ok("create", s.p.CreateThin(ctx, 1))
	path, err := s.activate("a", 1)
	s.ok("activate", err)
	s.env.Fill(path)
	st, err := s.p.Status(ctx)
	if err != nil || st.FreeBytes != 0 {
		s.Errorf("status of a full pool %+v, %v", st, err)
	}
	s.wants("create", s.p.CreateThin(ctx, 2), driver.ErrNoSpace)
	_, err = s.activate("b", 2)
	s.wants("what was refused", err, driver.ErrNotFound)
	s.wants("create what is there, with data", s.p.CreateThin(ctx, 1), driver.ErrForeign)
	s.ok("open", func() error { _, err := s.p.Open(ctx); return err }())
}

// What is in the pool, made or copied, with and without data, active or not.
func (s *poolSuite) list() {
	if s.env.Write == nil {
		return
	}
	ctx := s.Context()
	block := s.opened().BlockBytes
	all := func(uint32) bool { return true }
	got, err := s.p.ListThins(ctx, all)
	if err != nil || len(got) != 0 {
		s.Errorf("in an empty pool %+v, %v", got, err)
	}
	for _, id := range []uint32{700, 3, 1<<24 - 1} {
		s.ok("create", s.p.CreateThin(ctx, id))
	}
	path, err := s.activate("a", 700)
	s.ok("activate", err)
	s.env.Write(path, 700, 3, false)
	s.deactivate("a")
	if path, err = s.activate("b", 3); err != nil {
		s.Fatal(err)
	}
	s.env.Write(path, 3, 1, true)
	want := []driver.ThinInfo{
		{ID: 3, MappedBytes: block, EndBytes: block, Device: dmPrefix + "thin-b", Exceptions: true},
		{ID: 700, MappedBytes: 3 * block, EndBytes: 3 * block},
		{ID: 1<<24 - 1},
	}
	for range 2 {
		if got, err = s.p.ListThins(ctx, all); err != nil || !slices.Equal(got, want) {
			s.Fatalf("the pool has %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err = s.p.ListThins(ctx, func(id uint32) bool { return id == 700 }); err != nil || !slices.Equal(got, want[1:2]) {
		s.Errorf("number 700 is %+v, %v", got, err)
	}
	s.ok("delete", s.p.DeleteThin(ctx, 700))
	if got, err = s.p.ListThins(ctx, all); err != nil || len(got) != 2 {
		s.Errorf("after a deletion %+v, %v", got, err)
	}
	// More of them than fit into one block of metadata.
	for id := range uint32(300) {
		s.ok("create", s.p.CreateThin(ctx, 1000+id))
	}
	if got, err = s.p.ListThins(ctx, all); err != nil || len(got) != 302 || got[200].ID != 1199 {
		s.Errorf("of 302 thin devices %d, %v", len(got), err)
	}
}

func (s *poolSuite) notOpen() {
	ctx := s.Context()
	_, err := s.p.ListThins(ctx, func(uint32) bool { return true })
	s.wants("list", err, driver.ErrNotFound)
	_, err = s.p.Status(ctx)
	s.wants("status", err, driver.ErrNotFound)
	s.wants("create", s.p.CreateThin(ctx, 1), driver.ErrNotFound)
	s.wants("snapshot", s.p.SnapThin(ctx, 2, 1), driver.ErrNotFound)
	s.wants("delete", s.p.DeleteThin(ctx, 1), driver.ErrNotFound)
	_, err = s.activate("a", 1)
	s.wants("activate", err, driver.ErrNotFound)
	s.ok("deactivate", s.p.Deactivate(ctx, dmPrefix+"thin-a"))
	s.ok("close", s.p.Close(ctx))
}
