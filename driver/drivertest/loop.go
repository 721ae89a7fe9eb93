package drivertest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// LoopEnv is what the suite of driver.Loop stands on.
type LoopEnv struct {
	// File makes a file of bytes and returns its path; it goes away with the test.
	File func(t *testing.T, bytes uint64) string
	// Disk is a block device that nobody uses, DiskAlias another path of it, DiskBytes its size.
	Disk, DiskAlias string
	DiskBytes       uint64
	// Open holds a device open, as a process does; Claim exclusively, as an export does.
	Open, Claim func(path string) (io.Closer, error)
}

// Loop is the suite that every driver.Loop passes.
func Loop(t *testing.T, fresh func(t *testing.T) (driver.Loop, LoopEnv)) {
	for _, c := range []struct {
		name string
		run  func(*loopSuite)
	}{
		{"attach", (*loopSuite).attach},
		{"modes", (*loopSuite).modes},
		{"block device", (*loopSuite).block},
		{"beside", (*loopSuite).beside},
		{"detach", (*loopSuite).detach},
		{"busy", (*loopSuite).busy},
		{"missing", (*loopSuite).missing},
		{"many", (*loopSuite).many},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, env := fresh(t)
			s := &loopSuite{T: t, l: l, env: env}
			t.Cleanup(func() {
				for _, path := range s.made {
					if err := l.Detach(context.WithoutCancel(t.Context()), path); err != nil {
						t.Errorf("clean up: %v", err)
					}
				}
			})
			c.run(s)
		})
	}
}

type loopSuite struct {
	*testing.T
	l    driver.Loop
	env  LoopEnv
	made []string
}

func (s *loopSuite) bind(backing string, o driver.LoopOptions) driver.LoopDevice {
	s.Helper()
	d, err := s.l.Attach(s.Context(), backing, o)
	if err != nil {
		s.Fatalf("attach %s: %v", backing, err)
	}
	s.made = append(s.made, d.Path)
	return d
}

func (s *loopSuite) attach() {
	file := s.env.File(s.T, 1<<20)
	d := s.bind(file, driver.LoopOptions{ReadOnly: true})
	if want := (driver.LoopDevice{Path: d.Path, Backing: file, ReadOnly: true, Bytes: 1 << 20}); d != want {
		s.Errorf("attached %+v, want %+v", d, want)
	}
	if again := s.bind(file, driver.LoopOptions{ReadOnly: true, ReadAheadSectors: 256}); again != d {
		s.Errorf("again %+v, first %+v", again, d)
	}
	if found, err := s.l.Find(s.Context(), file); err != nil || found != d {
		s.Errorf("found %+v, %v", found, err)
	}
	list, err := s.l.List(s.Context())
	if err != nil || !slices.Contains(list, d) {
		s.Errorf("list %+v, %v", list, err)
	}
}

func (s *loopSuite) modes() {
	file := s.env.File(s.T, 1<<20)
	ro := s.bind(file, driver.LoopOptions{ReadOnly: true})
	rw := s.bind(file, driver.LoopOptions{})
	if ro.Path == rw.Path || rw.ReadOnly || !ro.ReadOnly {
		s.Errorf("read-only %+v, read-write %+v", ro, rw)
	}
	other := s.env.File(s.T, 1<<20)
	direct := s.bind(other, driver.LoopOptions{DirectIO: true})
	if again := s.bind(other, driver.LoopOptions{DirectIO: true}); again != direct {
		s.Errorf("again %+v, first %+v", again, direct)
	}
}

func (s *loopSuite) block() {
	d := s.bind(s.env.Disk, driver.LoopOptions{ReadOnly: true})
	if d.Backing != s.env.Disk && d.Backing != s.env.DiskAlias || d.Bytes != s.env.DiskBytes {
		s.Errorf("attached %+v", d)
	}
	if again := s.bind(s.env.DiskAlias, driver.LoopOptions{ReadOnly: true}); again != d {
		s.Errorf("by another name %+v, first %+v", again, d)
	}
	if found, err := s.l.Find(s.Context(), s.env.DiskAlias); err != nil || found != d {
		s.Errorf("found %+v, %v", found, err)
	}
}

func (s *loopSuite) beside() {
	o := driver.LoopOptions{ReadOnly: true}
	first := s.bind(s.env.Disk, o)
	bindAll := func(backing string, n int) []driver.LoopDevice {
		all, err := s.l.AttachAll(s.Context(), backing, o, n)
		if err != nil || len(all) != n {
			s.Fatalf("attach %d: %+v, %v", n, all, err)
		}
		return all
	}
	all := bindAll(s.env.Disk, 5)
	seen := map[driver.LoopDevice]bool{}
	for _, d := range all {
		seen[d] = true
	}
	if len(seen) != 5 || !seen[first] {
		s.Errorf("side by side stand %+v, first %+v", all, first)
	}
	if again := bindAll(s.env.DiskAlias, 5); !slices.Equal(again, all) {
		s.Errorf("again %+v, first %+v", again, all)
	}
	if some := bindAll(s.env.Disk, 2); !slices.Equal(some, all[:2]) {
		s.Errorf("two of %+v are %+v", all, some)
	}
	if _, err := s.l.AttachAll(s.Context(), "/nothing/like/this", o, 2); !errors.Is(err, driver.ErrNotFound) {
		s.Errorf("attach of nothing: %v", err)
	}
	for range 5 { // one after the other can be found and unbound
		d, err := s.l.Find(s.Context(), s.env.Disk)
		if err == nil {
			err = s.l.Detach(s.Context(), d.Path)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
	if _, err := s.l.Find(s.Context(), s.env.Disk); !errors.Is(err, driver.ErrNotFound) {
		s.Errorf("find after all were unbound: %v", err)
	}
}

func (s *loopSuite) detach() {
	file := s.env.File(s.T, 1<<20)
	d := s.bind(file, driver.LoopOptions{})
	for range 2 { // a second time is fine
		if err := s.l.Detach(s.Context(), d.Path); err != nil {
			s.Error(err)
		}
		if _, err := s.l.Find(s.Context(), file); !errors.Is(err, driver.ErrNotFound) {
			s.Errorf("find after detach: %v", err)
		}
	}
	if err := s.l.Detach(s.Context(), "/dev/loop987654"); err != nil {
		s.Errorf("detach of what never was: %v", err)
	}
	if err := s.l.Detach(s.Context(), s.env.Disk); err == nil {
		s.Error("detached a disk")
	}
}

func (s *loopSuite) busy() {
	file := s.env.File(s.T, 1<<20)
	d := s.bind(file, driver.LoopOptions{ReadOnly: true})
	for what, open := range map[string]func(string) (io.Closer, error){"open": s.env.Open, "claimed": s.env.Claim} {
		f, err := open(d.Path)
		if err != nil {
			s.Fatal(err)
		}
		if err := s.l.Detach(s.Context(), d.Path); !errors.Is(err, driver.ErrBusy) {
			s.Errorf("%s: detach: %v", what, err)
		}
		if err := f.Close(); err != nil {
			s.Fatal(err)
		}
		// The refused detach must not take effect with the last user's going.
		if found, err := s.l.Find(s.Context(), file); err != nil || found != d {
			s.Errorf("%s: after a refused detach and the close %+v, %v", what, found, err)
		}
	}
}

func (s *loopSuite) missing() {
	if _, err := s.l.Attach(s.Context(), "/nothing/like/this", driver.LoopOptions{}); !errors.Is(err, driver.ErrNotFound) {
		s.Errorf("attach: %v", err)
	}
	if _, err := s.l.Find(s.Context(), "/nothing/like/this"); !errors.Is(err, driver.ErrNotFound) {
		s.Errorf("find: %v", err)
	}
	if _, err := s.l.Find(s.Context(), s.env.File(s.T, 4096)); !errors.Is(err, driver.ErrNotFound) {
		s.Errorf("find of an unbound file: %v", err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.l.Attach(ctx, s.env.File(s.T, 4096), driver.LoopOptions{}); !errors.Is(err, context.Canceled) {
		s.Errorf("cancelled: %v", err)
	}
}

func (s *loopSuite) many() {
	seen := map[string]bool{}
	for range 12 { // more than a kernel makes by itself
		d := s.bind(s.env.File(s.T, 8192), driver.LoopOptions{ReadOnly: true})
		if seen[d.Path] {
			s.Errorf("%s twice", d.Path)
		}
		seen[d.Path] = true
	}
}
