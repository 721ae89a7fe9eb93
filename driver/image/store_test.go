package image

import (
	"bytes"
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
				b[j] = byte(r.Uint32())
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
