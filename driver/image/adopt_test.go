package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

func TestInPlace(t *testing.T) {
	s := newServer(t)
	content := noise(1<<20, 9)
	outside := t.TempDir()
	put := func(t *testing.T, id string, content []byte) string {
		t.Helper()
		path := filepath.Join(outside, id)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	st := newStore(t, s, func(o *Options) { o.FileStoreDir = outside })

	t.Run("linked", func(t *testing.T) {
		i, src := s.add("raw", content)
		path := put(t, src.ImageID, content)
		f, err := st.Ensure(t.Context(), src, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, f, content)
		if n, _ := s.requested(i); n != 0 || !f.InPlace {
			t.Errorf("downloaded %d times, %+v", n, f)
		}
		if err := os.Remove(path); err != nil { // deleted in Glance
			t.Fatal(err)
		}
		f, err = st.Find(t.Context(), src.ImageID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, f, content)
	})
	for name, spoil := range map[string]func(string, *driver.ImageSource) error{
		"absent":    func(path string, _ *driver.ImageSource) error { return os.Remove(path) },
		"growing":   func(path string, _ *driver.ImageSource) error { return os.Truncate(path, 4096) },
		"differing": func(path string, _ *driver.ImageSource) error { return os.WriteFile(path, noise(1<<20, 10), 0o600) },
		"a symlink": func(path string, _ *driver.ImageSource) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		},
		"a directory": func(path string, _ *driver.ImageSource) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			i, src := s.add("raw", content)
			if err := spoil(put(t, src.ImageID, content), &src); err != nil {
				t.Fatal(err)
			}
			f, err := st.Ensure(t.Context(), src, nil)
			if err != nil {
				t.Fatal(err)
			}
			same(t, f, content)
			if n, _ := s.requested(i); n != 1 || f.InPlace {
				t.Errorf("downloaded %d times, %+v", n, f)
			}
		})
	}
	t.Run("odd size", func(t *testing.T) {
		i, src := s.add("raw", content[:5000])
		put(t, src.ImageID, content[:5000])
		f, err := st.Ensure(t.Context(), src, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, f, content[:5000])
		if n, _ := s.requested(i); n != 1 || f.InPlace {
			t.Errorf("downloaded %d times, %+v", n, f)
		}
	})
}

// TestInPlaceElsewhere: Glance's store on another file system is served where it is.
func TestInPlaceElsewhere(t *testing.T) {
	s := newServer(t)
	outside, err := os.MkdirTemp("/dev/shm", "imagetest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(outside) })
	st := newStore(t, s, func(o *Options) { o.FileStoreDir = outside })
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(outside, &a), unix.Stat(st.o.Dir, &b)); err != nil {
		t.Fatal(err)
	}
	if a.Dev == b.Dev {
		t.Fatal("needs a temporary directory that is not on /dev/shm")
	}
	content := noise(1<<20, 11)
	i, src := s.add("raw", content)
	path := filepath.Join(outside, src.ImageID)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := st.Ensure(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, f, content)
	if n, _ := s.requested(i); n != 0 || !f.InPlace || f.Path != path {
		t.Errorf("downloaded %d times, %+v", n, f)
	}
	// Changed behind our back, it is no longer what was verified.
	if err := os.WriteFile(path, noise(1<<20, 12), 0o600); err != nil {
		t.Fatal(err)
	}
	// File systems count time in ticks; both writes may fall into one.
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Find(t.Context(), src.ImageID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if f, err = st.Ensure(t.Context(), src, nil); err != nil {
		t.Fatal(err)
	}
	same(t, f, content)
	if f.InPlace {
		t.Errorf("%+v", f)
	}
	if err := st.Remove(t.Context(), src.ImageID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Glance's own file: %v", err)
	}
}
