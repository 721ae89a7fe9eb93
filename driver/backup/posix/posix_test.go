package posix_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/backup/posix"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

func store(t *testing.T) (*posix.Store, string) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, posix.Marker), nil, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	return posix.New(dir), dir
}

func TestStore(t *testing.T) {
	drivertest.Objects(t, func(t *testing.T) driver.ObjectStore {
		s, _ := store(t)
		return s
	})
}

// Nothing is written where no share is mounted, and nothing found missing there.
func TestNotMounted(t *testing.T) {
	s, dir := store(t)
	if err := s.Put(t.Context(), "a/b", []byte("x")); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.Remove(filepath.Join(dir, posix.Marker)); err != nil {
		t.Fatalf("%v", err)
	}
	_, get := s.Get(t.Context(), "a/c", 10)
	_, list := s.List(t.Context(), "q")
	for what, err := range map[string]error{
		"check": s.Check(t.Context()), "put": s.Put(t.Context(), "c", nil), "get": get, "list": list, "delete": s.Delete(t.Context(), "a/b"),
	} {
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("written: %v", err)
	}
}

// What a crash has left of a file is no object, and goes with its directory.
func TestRemains(t *testing.T) {
	s, dir := store(t)
	if err := s.Put(t.Context(), "a/b/c", []byte("x")); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/.tmp-1"), []byte("half"), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	if got, err := s.List(t.Context(), "a"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != posix.Marker {
		t.Errorf("%v, %v", left, err)
	}
}
