package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/backup"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const (
	chunk = 64 << 10
	size  = 20*chunk + 512 // the last chunk is a short one
)

// disk in memory.
type disk struct {
	mu     sync.Mutex
	b      []byte
	writes int
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(p, d.b[off:]), nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	return copy(d.b[off:], p), nil
}

// pattern: chunks of zeros, of text, of noise, and two that are the same.
func pattern(seed uint64) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: a test's
	for i := 1; i < 21; i += 2 {
		part := b[i*chunk : min((i+1)*chunk, size)]
		switch i % 4 {
		case 1:
			copy(part, bytes.Repeat(fmt.Appendf(nil, "%d-%d ", i, seed), chunk/8))
		default:
			for j := range part {
				part[j] = byte(r.Uint32())
			}
		}
	}
	copy(b[5*chunk:6*chunk], b[3*chunk:4*chunk])
	b[size-1] = byte(seed + 1)
	return b
}

func repository(t *testing.T, s driver.ObjectStore, o backup.Options) *backup.Repository {
	t.Helper()
	o.ChunkBytes = chunk
	r, err := backup.New(s, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

func write(t *testing.T, r *backup.Repository, prefix, parent string, b []byte) backup.Result {
	t.Helper()
	res, err := r.Write(t.Context(), backup.Job{
		Prefix: prefix, Parent: parent, Bytes: int64(len(b)), Created: time.Unix(1000, 0).UTC(), Volume: json.RawMessage(`{"v":1}`),
	}, bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return res
}

func holds(t *testing.T, r *backup.Repository, prefix string, want []byte) {
	t.Helper()
	for _, dirty := range []bool{false, true} {
		d := &disk{b: make([]byte, len(want)+chunk)}
		if dirty {
			for i := range d.b {
				d.b[i] = 7
			}
		}
		beyond := bytes.Clone(d.b[len(want):])
		m, err := r.Restore(t.Context(), prefix, d, nil)
		if err != nil || !bytes.Equal(d.b[:len(want)], want) || !bytes.Equal(d.b[len(want):], beyond) {
			t.Errorf("backup %s, dirty %t: other bytes, %v", prefix, dirty, err)
		}
		if string(m.Volume) != `{"v":1}` || m.Bytes != int64(len(want)) {
			t.Errorf("%+v", m.Header)
		}
		if d.writes > len(m.Records) && !dirty {
			t.Errorf("%d writes for %d chunks", d.writes, len(m.Records))
		}
		before := d.writes
		if _, err := r.Restore(t.Context(), prefix, d, nil); err != nil || d.writes != before {
			t.Errorf("a second restore wrote %d times, %v", d.writes-before, err)
		}
	}
}

func options() map[string]backup.Options {
	return map[string]backup.Options{
		"plain": {}, "zstd": {Compress: true}, "encrypted": {Compress: true, Key: bytes.Repeat([]byte{9}, backup.KeyBytes), Workers: 1},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, o := range options() {
		t.Run(name, func(t *testing.T) {
			s := fake.NewObjects()
			r := repository(t, s, o)
			one := pattern(1)
			if res := write(t, r, "one", "", one); res.Objects != 10 || res.StoredBytes != 9*chunk+512 {
				t.Errorf("%+v", res) // odd chunks, two of which are one, and the short one
			}
			two := bytes.Clone(one)
			copy(two[7*chunk:], bytes.Repeat([]byte{1}, chunk))
			copy(two[9*chunk:], make([]byte, chunk)) // becomes zeros
			copy(two[0:], one[3*chunk:4*chunk])      // known, elsewhere
			if res := write(t, r, "two", "one", two); res.Objects != 1 || res.StoredBytes != chunk {
				t.Errorf("%+v", res)
			}
			three := append(bytes.Clone(two), pattern(3)...) // the volume was extended
			write(t, r, "three", "two", three)
			holds(t, r, "one", one)
			holds(t, r, "two", two)
			holds(t, r, "three", three)

			all, err := s.List(t.Context(), "one")
			if err != nil {
				t.Fatalf("%v", err)
			}
			for _, n := range all {
				object, err := s.Get(t.Context(), n, 1<<30)
				if err != nil {
					t.Fatalf("%v", err)
				}
				if readable := bytes.Contains(object, []byte("1-1 1-1 ")) || bytes.Contains(object, []byte(`"prefix"`)); readable && o.Key != nil {
					t.Errorf("%s can be read", n)
				}
			}
			for _, p := range []string{"three", "two", "one"} {
				if err := r.Delete(t.Context(), p); err != nil {
					t.Errorf("%v", err)
				}
				if _, err := r.Manifest(t.Context(), p); !errors.Is(err, driver.ErrNotFound) {
					t.Errorf("%v", err)
				}
			}
			for _, p := range []string{"one", "two", "three"} {
				if left, err := s.List(t.Context(), p); err != nil || len(left) > 0 {
					t.Errorf("%v, %v", left, err)
				}
			}
		})
	}
}

// A volume of zeros has no chunks.
func TestZeros(t *testing.T) {
	r := repository(t, fake.NewObjects(), backup.Options{})
	if res := write(t, r, "z", "", make([]byte, size)); res.Objects != 0 {
		t.Errorf("%+v", res)
	}
	holds(t, r, "z", make([]byte, size))
}

// Any bit of any object that is another is found, and any object that is cut short or missing.
func TestCorruption(t *testing.T) {
	for name, o := range options() {
		t.Run(name, func(t *testing.T) {
			s := fake.NewObjects()
			r := repository(t, s, o)
			b := pattern(1)
			write(t, r, "one", "", b)
			all, err := s.List(t.Context(), "one")
			if err != nil {
				t.Fatalf("%v", err)
			}
			rnd := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // G404: a test's
			for _, n := range all {
				good, err := s.Get(t.Context(), n, 1<<30)
				if err != nil {
					t.Fatalf("%v", err)
				}
				for range 40 {
					bad := bytes.Clone(good)
					at := rnd.IntN(len(bad))
					if rnd.IntN(3) == 0 {
						at = rnd.IntN(44)
					}
					if bad[at] ^= 1 << rnd.IntN(8); at == 4 {
						continue // a version of the future is not damage
					}
					refused(t, s, r, n, bad, fmt.Sprintf("byte %d", at))
				}
				for _, cut := range []int{0, 3, 44, len(good) - 1} {
					refused(t, s, r, n, good[:cut], fmt.Sprintf("cut at %d", cut))
				}
				refused(t, s, r, n, append(bytes.Clone(good), 0), "a byte more")
				if !strings.HasSuffix(n, "manifest") {
					other, err := s.Get(t.Context(), all[0], 1<<30)
					if err == nil && n != all[0] {
						refused(t, s, r, n, other, "another chunk")
					}
					if err := s.Delete(t.Context(), n); err != nil {
						t.Fatalf("%v", err)
					}
					if _, err := r.Restore(t.Context(), "one", &disk{b: make([]byte, size)}, nil); !errors.Is(err, backup.ErrCorrupt) {
						t.Errorf("%s missing: %v", n, err)
					}
				}
				if err := s.Put(t.Context(), n, good); err != nil {
					t.Fatalf("%v", err)
				}
			}
			holds(t, r, "one", b)
		})
	}
}

func refused(t *testing.T, s *fake.Objects, r *backup.Repository, name string, object []byte, what string) {
	t.Helper()
	if err := s.Put(t.Context(), name, object); err != nil {
		t.Fatalf("%v", err)
	}
	d := &disk{b: make([]byte, size)}
	if _, err := r.Restore(t.Context(), "one", d, nil); err == nil {
		t.Errorf("%s, %s: nobody has noticed", name, what)
	} else if !errors.Is(err, backup.ErrCorrupt) && !strings.Contains(err.Error(), "no key") {
		t.Errorf("%s, %s: %v", name, what, err)
	}
}

func TestKeys(t *testing.T) {
	s := fake.NewObjects()
	key := bytes.Repeat([]byte{9}, backup.KeyBytes)
	write(t, repository(t, s, backup.Options{Key: key}), "one", "", pattern(1))
	other := bytes.Repeat([]byte{8}, backup.KeyBytes)
	for name, o := range map[string]backup.Options{"none": {}, "another": {Key: other}} {
		_, err := repository(t, s, o).Restore(t.Context(), "one", &disk{b: make([]byte, size)}, nil)
		if err == nil || strings.Contains(err.Error(), string(key)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that was written before there was a key is read with it.
	write(t, repository(t, s, backup.Options{}), "two", "", pattern(2))
	holds(t, repository(t, s, backup.Options{Key: key}), "two", pattern(2))
	if _, err := backup.New(s, backup.Options{Key: key[1:]}); err == nil {
		t.Error("a short key was taken")
	}
}

// A write that is cut short at any object, before or after it is stored, leaves no backup,
// and nothing of others is touched; another one goes on from there and is the same as one
// that was not cut short.
func TestInterrupted(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			s := fake.NewObjects()
			r := repository(t, s, backup.Options{Compress: true, Workers: 1})
			base, b := pattern(1), pattern(2)
			write(t, r, "base", "", base)
			ctx, cancel := context.WithCancel(t.Context())
			puts, crash := 0, errors.New("injected: power cut")
			s.Fail = func(call string) error {
				if !strings.HasPrefix(call, "put") {
					return nil
				}
				if puts++; puts-1 == at && !after {
					return crash
				} else if puts-1 == at {
					cancel() // it is stored, and nothing after it
				}
				return nil
			}
			_, err := r.Write(ctx, backup.Job{Prefix: "two", Parent: "base", Bytes: size, Volume: json.RawMessage(`{"v":1}`)}, bytes.NewReader(b))
			done := puts <= at
			s.Fail = nil
			cancel()
			if done {
				if err != nil || at < 5 {
					t.Fatalf("%d objects, %v", at, err)
				}
				break
			}
			if _, e := r.Manifest(t.Context(), "two"); err != nil && !errors.Is(e, driver.ErrNotFound) {
				t.Errorf("object %d: %v, and a manifest: %v", at, err, e)
			}
			holds(t, r, "base", base)
			puts, at := 0, at
			s.Fail = func(call string) error {
				if strings.HasPrefix(call, "put") {
					puts++
				}
				return nil
			}
			if again := write(t, r, "two", "base", b); puts > again.Objects+1-at { // and the manifest
				t.Errorf("object %d: %d are stored anew, of %d", at, puts, again.Objects)
			}
			holds(t, r, "two", b)
			if err := r.Delete(t.Context(), "two"); err != nil {
				t.Errorf("%v", err)
			}
			if left, err := s.List(t.Context(), "two"); err != nil || len(left) > 0 {
				t.Errorf("%v, %v", left, err)
			}
		}
	}
}

// A deletion that is cut short anywhere leaves no backup, and is gone on with.
func TestDeleteInterrupted(t *testing.T) {
	for at := 0; ; at++ {
		s := fake.NewObjects()
		r := repository(t, s, backup.Options{})
		write(t, r, "one", "", pattern(1))
		calls := 0
		s.Fail = func(call string) error {
			if calls++; strings.HasPrefix(call, "delete") && calls-1 == at {
				return errors.New("injected: power cut")
			}
			return nil
		}
		err := r.Delete(t.Context(), "one")
		s.Fail = nil
		if err == nil && calls <= at {
			return
		}
		if _, e := r.Manifest(t.Context(), "one"); at > 0 && !errors.Is(e, driver.ErrNotFound) {
			t.Errorf("%v", e)
		}
		if err := r.Delete(t.Context(), "one"); err != nil {
			t.Errorf("%v", err)
		}
		if left, err := s.List(t.Context(), "one"); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	m := backup.Manifest{Header: backup.Header{Prefix: "a/b", Bytes: size, ChunkBytes: chunk, Prefixes: []string{"a/b", "c"}}}
	m.Records = []backup.Record{{Chunk: 1, Prefix: 1}, {Chunk: 20, Hash: backup.Hash{1}}}
	b, err := backup.EncodeManifest(m)
	if err != nil {
		f.Fatalf("%v", err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := backup.DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := backup.EncodeManifest(m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if n, err := backup.DecodeManifest(again); err != nil || len(n.Records) != len(m.Records) || n.Prefix != m.Prefix {
			t.Errorf("%v", err)
		}
	})
}

func TestPrefix(t *testing.T) {
	const id = "0841d254-f1d4-48b7-88c4-006c9e21174d"
	for _, container := range []string{"", "c", "../x", ".hidden", "a b/ü", strings.Repeat("ü", 255), strings.Repeat("x", 255)} {
		p := backup.Prefix(container, id)
		if err := driver.CheckObjectName(p + "/chunks/aa/" + strings.Repeat("a", 64)); err != nil || !strings.HasSuffix(p, "/"+id) {
			t.Errorf("%q: %q, %v", container, p, err)
		}
	}
}
