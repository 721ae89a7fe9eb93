package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

func newStore(t *testing.T, s *server, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{
		Dir: filepath.Join(t.TempDir(), "im[a]ges"), Source: NewGlance(s.config()), Runner: command.Exec{},
		RetryWait: time.Millisecond,
	}
	for _, f := range change {
		f(&o)
	}
	st, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// noise is n bytes with holes; seed makes it differ.
func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // test data
	b := make([]byte, n)
	for i := 0; i < n; i += 16384 {
		if r.IntN(3) > 0 {
			for j := i; j < min(i+16384, n); j++ {
				b[j] = byte(r.Uint32()) //nolint:gosec // test data
			}
		}
	}
	return b
}

// same checks a served file against the bytes it must have.
func same(t *testing.T, f driver.ImageFile, want []byte) {
	t.Helper()
	got, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	n := len(want)
	if f.VirtualBytes != int64(n) || f.DeviceBytes != padded(int64(n)) || int64(len(got)) != f.DeviceBytes {
		t.Fatalf("%+v of %d bytes, file has %d", f, n, len(got))
	}
	if !bytes.Equal(got[:n], want) || len(bytes.Trim(got[n:], "\x00")) > 0 {
		t.Fatal("content differs")
	}
}

// files lists the directory.
func files(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// whole checks that of an image only what is served stands there.
func whole(t *testing.T, s *Store, id string) {
	t.Helper()
	if got := files(t, s); !slices.Equal(got, []string{id + ".info", id + ".raw"}) {
		t.Errorf("directory holds %v", got)
	}
}

func TestSuite(t *testing.T) {
	drivertest.ImageStore(t, func(t *testing.T) (driver.ImageStore, drivertest.ImageEnv) {
		t.Helper()
		s := newServer(t)
		return newStore(t, s), drivertest.ImageEnv{
			Publish: func(_ *testing.T, content []byte) driver.ImageSource {
				_, src := s.add("raw", content)
				return src
			},
			Corrupt: func(_ *testing.T, content []byte) driver.ImageSource {
				_, src := s.add("raw", content)
				src.HashValue = strings.Repeat("0", 128)
				return src
			},
			Downloads: func(id string) int {
				s.mu.Lock()
				defer s.mu.Unlock()
				if i := s.images[id]; i != nil {
					return i.requests
				}
				return 0
			},
			Block: func(*testing.T) func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				gate := make(chan struct{})
				s.gate = gate
				open := false
				return func() {
					s.mu.Lock()
					defer s.mu.Unlock()
					if !open {
						open = true
						s.gate = nil
						close(gate)
					}
				}
			},
			Read: func(t *testing.T, f driver.ImageFile) []byte {
				t.Helper()
				b, err := os.ReadFile(f.Path)
				if err != nil {
					t.Fatal(err)
				}
				return b
			},
		}
	})
}

func TestSparse(t *testing.T) {
	s := newServer(t)
	st := newStore(t, s)
	content := make([]byte, 64<<20)
	copy(content[20<<20:], "data")
	_, src := s.add("raw", content)
	f, err := st.Ensure(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, f, content)
	if n := allocated(f.Path); n > 1<<20 {
		t.Errorf("%d bytes take space", n)
	}
}

func TestMisbehavingGlance(t *testing.T) {
	content := noise(3<<20+1234, 1)
	for _, c := range []struct {
		name   string
		change func(*served)
		ranges string // of the requests that follow the first
		err    error
	}{
		{"cut", func(i *served) { i.cut = 1 << 20 }, "bytes=1048576-;bytes=2097152-;bytes=3145728-;", nil},
		{"cut, odd", func(i *served) { i.cut = 1_500_001 }, "bytes=1500001-;bytes=3000002-;", nil},
		{"truncated", func(i *served) { i.cut, i.short = 2_000_000, true }, "bytes=2000000-;", nil},
		{"stalled", func(i *served) { i.cut, i.stall = 3_000_000, true }, "bytes=3000000-;", nil},
		{"unavailable", func(i *served) { i.unroutable = true }, ";;", driver.ErrUnreachable},
		{"larger", func(i *served) { i.content = append(slices.Clone(content), 'x') }, "", driver.ErrUnusable},
		{"smaller", func(i *served) { i.content = content[:3<<20] }, "bytes=3145728-;;bytes=3145728-;;", driver.ErrUnreachable},
		{"other bytes", func(i *served) { i.content = noise(len(content), 2) }, "", driver.ErrUnusable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			st := newStore(t, s, func(o *Options) { o.Stall = 300 * time.Millisecond; o.Attempts = 3 })
			i, src := s.add("raw", content)
			c.change(i)
			f, err := st.Ensure(t.Context(), src, nil)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v", err)
			}
			_, ranges := s.requested(i)
			if ranges != ";"+c.ranges {
				t.Errorf("ranges %q, want %q", ranges, ";"+c.ranges)
			}
			if c.err == nil {
				same(t, f, content)
				whole(t, st, src.ImageID)
			} else if errors.Is(err, driver.ErrUnusable) && len(files(t, st)) > 0 {
				t.Errorf("left %v", files(t, st))
			}
		})
	}
}

// TestNoRange: a store without random access lets downloads begin anew.
func TestNoRange(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newServer(t)
			st := newStore(t, s, func(o *Options) { o.Attempts = 1 })
			content := noise(2<<20, 3)
			i, src := s.add("raw", content)
			i.cut, i.noRange = 1<<20, status
			if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrUnreachable) {
				t.Fatalf("got %v", err)
			}
			if got := files(t, st); !slices.Equal(got, []string{src.ImageID + ".part"}) {
				t.Fatalf("left %v", got)
			}
			i.cut = 0
			f, err := st.Ensure(t.Context(), src, nil)
			if err != nil {
				t.Fatal(err)
			}
			same(t, f, content)
			whole(t, st, src.ImageID)
		})
	}
}

// TestTornPart: what a power cut left in the part file is not trusted.
func TestTornPart(t *testing.T) {
	s := newServer(t)
	st := newStore(t, s)
	content := noise(1<<20, 4)
	_, src := s.add("raw", content)
	for name, part := range map[string][]byte{
		"zeros": make([]byte, 1<<19), "other": noise(1<<20, 5), "longer": noise(3<<20, 6), "all but the end": content[:len(content)-1],
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(st.path(src.ImageID, partSuffix), part, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := st.Ensure(t.Context(), src, nil)
			if err != nil {
				t.Fatal(err)
			}
			same(t, f, content)
			whole(t, st, src.ImageID)
			if err := st.Remove(t.Context(), src.ImageID); err != nil {
				t.Fatal(err)
			}
		})
	}
}

var errCrash = errors.New("crash")

// TestCrash: after a crash at each step the next Ensure converges.
func TestCrash(t *testing.T) {
	raw := noise(2<<20+999, 7)
	aligned := noise(2<<20, 8)
	qcow := convert(t, aligned, "qcow2")
	for _, c := range []struct {
		name, format  string
		content, want []byte
		store         bool // Glance's own files are seen here
		steps         []string
	}{
		{"raw", "raw", raw, raw, false, []string{"chunk", "downloaded", "padded", "described", "renamed"}},
		{"qcow2", "qcow2", qcow, aligned, false, []string{"chunk", "downloaded", "converted", "padded", "described", "renamed"}},
		{"in place", "raw", aligned, aligned, true, []string{"verified in place", "linked", "described"}},
	} {
		for _, crash := range c.steps {
			t.Run(c.name+" "+crash, func(t *testing.T) {
				s := newServer(t)
				_, src := s.add(c.format, c.content)
				var options []func(*Options)
				if c.store {
					dir := t.TempDir()
					if err := os.WriteFile(filepath.Join(dir, src.ImageID), c.content, 0o600); err != nil {
						t.Fatal(err)
					}
					options = append(options, func(o *Options) { o.FileStoreDir = dir })
				}
				st := newStore(t, s, options...)
				reached := false
				st.fail = func(step string) error {
					if step == crash {
						reached = true
						return errCrash
					}
					return nil
				}
				if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, errCrash) {
					t.Fatalf("got %v", err)
				}
				if !reached {
					t.Fatal("step not reached")
				}
				again, err := Open(st.o) // the next life
				if err != nil {
					t.Fatal(err)
				}
				if f, err := again.Find(t.Context(), src.ImageID); err == nil {
					same(t, f, c.want) // if it shows, it is whole
				} else if !errors.Is(err, driver.ErrNotFound) {
					t.Fatal(err)
				}
				f, err := again.Ensure(t.Context(), src, nil)
				if err != nil {
					t.Fatal(err)
				}
				same(t, f, c.want)
				whole(t, again, src.ImageID)
				if err := again.Remove(t.Context(), src.ImageID); err != nil {
					t.Fatal(err)
				}
				if got := files(t, again); len(got) > 0 {
					t.Errorf("removal left %v", got)
				}
			})
		}
	}
}

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

func TestKeystone(t *testing.T) {
	s := newServer(t)
	content := noise(1<<20, 13)
	st := newStore(t, s)
	i, src := s.add("raw", content)
	i.cut = 600_000
	// Nothing but the id is known: Glance tells.
	src = driver.ImageSource{ImageID: src.ImageID, SizeBytes: -1}
	crashed := false
	st.fail = func(step string) error {
		if step == "chunk" && !crashed {
			crashed = true
			s.expire() // in mid-download: the next request logs in again
		}
		return nil
	}
	f, err := st.Ensure(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, f, content)
	if s.logins != 2 {
		t.Errorf("%d logins", s.logins)
	}

	c := s.config()
	c.Password = "wrong-" + testPassword
	st.o.Source = NewGlance(c)
	_, src = s.add("raw", content)
	_, err = st.Ensure(t.Context(), src, nil)
	if !errors.Is(err, driver.ErrAuth) || strings.Contains(fmt.Sprint(err), testPassword) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", c, c, c), testPassword) {
		t.Error("password shown")
	}
	c = s.config()
	c.AuthURL = "http://127.0.0.1:1/v3"
	st.o.Source = NewGlance(c)
	if _, err = st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	c = s.config()
	c.Interface, c.Endpoint = "public", s.URL+"/image/v2/"
	st.o.Source = NewGlance(c)
	if _, err = st.Ensure(t.Context(), src, nil); err != nil {
		t.Error(err)
	}
}

func TestNotActive(t *testing.T) {
	s := newServer(t)
	st := newStore(t, s)
	i, src := s.add("raw", noise(4096, 14))
	i.status = "queued"
	src.SizeBytes = -1
	if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestNoSpace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := newServer(t)
	st := newStore(t, s, func(o *Options) { o.Dir = dir })
	_, src := s.add("raw", bytes.Repeat([]byte{1}, 2<<20))
	if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if err := st.Remove(t.Context(), src.ImageID); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 8<<20)
	copy(content, "x")
	_, src = s.add("qcow2", convert(t, bytes.Repeat([]byte{1, 0, 2}, 1<<20), "qcow2", "-c")) // small, and grows
	if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}

// convert makes an image of a format with the real qemu-img.
func convert(t *testing.T, content []byte, format string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, content, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", format}, args...), src, dst)...)
	out, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := (command.Exec{}).Run(context.WithoutCancel(t.Context()), command.Cmd{Name: "qemu-img", Args: args}); err != nil {
		t.Fatal(err)
	}
}
