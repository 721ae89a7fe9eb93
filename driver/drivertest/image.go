package drivertest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// ImageEnv is what the suite of driver.ImageStore stands on: a Glance.
type ImageEnv struct {
	// Publish puts a raw image into Glance; Corrupt one whose bytes don't match its checksum.
	Publish, Corrupt func(t *testing.T, content []byte) driver.ImageSource
	// Downloads counts the downloads of an image that were begun.
	Downloads func(id string) int
	// Block makes downloads wait until release is called.
	Block func(t *testing.T) (release func())
	// Read reads all of an image file.
	Read func(t *testing.T, f driver.ImageFile) []byte
}

// ImageStore is the suite that every driver.ImageStore passes.
func ImageStore(t *testing.T, fresh func(t *testing.T) (driver.ImageStore, ImageEnv)) {
	for _, c := range []struct {
		name string
		run  func(*imageSuite)
	}{
		{"import", (*imageSuite).imports},
		{"join", (*imageSuite).join},
		{"unusable", (*imageSuite).unusable},
		{"missing", (*imageSuite).missing},
		{"limit", (*imageSuite).limit},
		{"remove", (*imageSuite).remove},
		{"remove while importing", (*imageSuite).removeEarly},
		{"cancelled", (*imageSuite).cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, env := fresh(t)
			c.run(&imageSuite{T: t, store: store, env: env})
		})
	}
}

type imageSuite struct {
	*testing.T
	store driver.ImageStore
	env   ImageEnv
}

// content is n bytes, a third of them zero in long runs.
func (s *imageSuite) content(n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), 7)) //nolint:gosec // test data
	b := make([]byte, n)
	for i := 0; i < n; i += 8192 {
		if rnd.IntN(3) > 0 {
			for j := i; j < min(i+8192, n); j++ {
				b[j] = byte(rnd.Uint32())
			}
		}
	}
	return b
}

func (s *imageSuite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
}

func (s *imageSuite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// until waits for what no event tells of.
func (s *imageSuite) until(what string, f func() bool) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not in time: %s", what)
		}
	}
}

func (s *imageSuite) imports() {
	free, err := s.store.FreeBytes(s.Context())
	s.must(err)
	if free <= 0 {
		s.Errorf("%d bytes free", free)
	}
	want := map[string]driver.ImageFile{}
	for _, n := range []int{1, 4096, 3<<20 + 777, 5 << 20} {
		content := s.content(n)
		if n == 1 {
			content[0] = 'x'
		}
		src := s.env.Publish(s.T, content)
		_, err := s.store.Find(s.Context(), src.ImageID)
		s.is(err, driver.ErrNotFound)
		var last driver.ImageProgress
		f, err := s.store.Ensure(s.Context(), src, func(p driver.ImageProgress) {
			if p.Phase == last.Phase && p.Done < last.Done {
				s.Errorf("progress went back from %+v to %+v", last, p)
			}
			last = p
		})
		s.must(err)
		if last.Done != int64(n) {
			s.Errorf("last progress is %+v", last)
		}
		if f.ImageID != src.ImageID || f.VirtualBytes != int64(n) || f.DeviceBytes != int64((n+4095)/4096*4096) {
			s.Errorf("got %+v of %d bytes", f, n)
		}
		got := s.env.Read(s.T, f)
		if int64(len(got)) != f.DeviceBytes || !bytes.Equal(got[:n], content) || len(bytes.Trim(got[n:], "\x00")) > 0 {
			s.Errorf("content of %d bytes differs", n)
		}
		want[src.ImageID] = f
		again, err := s.store.Ensure(s.Context(), src, nil)
		s.must(err)
		found, err := s.store.Find(s.Context(), src.ImageID)
		s.must(err)
		if again != f || found != f {
			s.Errorf("second time %+v, found %+v, first %+v", again, found, f)
		}
		if d := s.env.Downloads(src.ImageID); d != 1 {
			s.Errorf("downloaded %d times", d)
		}
	}
	list, err := s.store.List(s.Context())
	s.must(err)
	if len(list) != len(want) {
		s.Fatalf("listed %+v", list)
	}
	for _, f := range list {
		if want[f.ImageID] != f {
			s.Errorf("listed %+v, want %+v", f, want[f.ImageID])
		}
	}
}

func (s *imageSuite) join() {
	release := s.env.Block(s.T)
	defer release()
	content := s.content(100_000)
	src := s.env.Publish(s.T, content)
	type result struct {
		f   driver.ImageFile
		err error
	}
	results := make(chan result, 8)
	var begun sync.WaitGroup
	impatient, cancel := context.WithCancel(s.Context())
	for i := range 8 {
		ctx := s.Context()
		if i == 0 {
			ctx = impatient
		}
		begun.Add(1)
		go func() {
			begun.Done()
			f, err := s.store.Ensure(ctx, src, nil)
			results <- result{f, err}
		}()
	}
	begun.Wait()
	s.until("download", func() bool { return s.env.Downloads(src.ImageID) > 0 })
	cancel() // one that gives up must not take the others with it
	s.is((<-results).err, context.Canceled)
	release()
	var first driver.ImageFile
	for i := range 7 {
		r := <-results
		s.must(r.err)
		if i == 0 {
			first = r.f
		}
		if r.f != first {
			s.Errorf("got %+v and %+v", r.f, first)
		}
	}
	if !bytes.Equal(s.env.Read(s.T, first)[:len(content)], content) {
		s.Error("content differs")
	}
	if d := s.env.Downloads(src.ImageID); d != 1 {
		s.Errorf("downloaded %d times", d)
	}
}

func (s *imageSuite) unusable() {
	src := s.env.Corrupt(s.T, s.content(50_000))
	_, err := s.store.Ensure(s.Context(), src, nil)
	s.is(err, driver.ErrUnusable)
	_, err = s.store.Find(s.Context(), src.ImageID)
	s.is(err, driver.ErrNotFound)
	for _, id := range []string{"", "../x", "a/b", "a.b"} {
		_, err := s.store.Ensure(s.Context(), driver.ImageSource{ImageID: id, DiskFormat: "raw", SizeBytes: 1}, nil)
		s.is(err, driver.ErrUnusable)
	}
}

func (s *imageSuite) missing() {
	const id = "5f2b7a52-0000-4000-8000-000000000000"
	_, err := s.store.Ensure(s.Context(), driver.ImageSource{ImageID: id, DiskFormat: "raw", SizeBytes: 4096, Checksum: "0"}, nil)
	s.is(err, driver.ErrNotFound)
	_, err = s.store.Find(s.Context(), id)
	s.is(err, driver.ErrNotFound)
	s.must(s.store.Remove(s.Context(), id))
	list, err := s.store.List(s.Context())
	s.must(err)
	if len(list) != 0 {
		s.Errorf("listed %+v", list)
	}
}

func (s *imageSuite) limit() {
	src := s.env.Publish(s.T, s.content(8192))
	src.MaxBytes = 8191
	_, err := s.store.Ensure(s.Context(), src, nil)
	s.is(err, driver.ErrUnusable)
	src.MaxBytes = 8192
	_, err = s.store.Ensure(s.Context(), src, nil)
	s.must(err)
	src.MaxBytes = 4096
	_, err = s.store.Ensure(s.Context(), src, nil)
	s.is(err, driver.ErrUnusable)
	_, err = s.store.Find(s.Context(), src.ImageID) // the refused limit was not the image's fault
	s.must(err)
}

func (s *imageSuite) remove() {
	src, other := s.env.Publish(s.T, s.content(9000)), s.env.Publish(s.T, s.content(9001))
	for _, x := range []driver.ImageSource{src, other} {
		_, err := s.store.Ensure(s.Context(), x, nil)
		s.must(err)
	}
	for range 2 {
		s.must(s.store.Remove(s.Context(), src.ImageID))
	}
	_, err := s.store.Find(s.Context(), src.ImageID)
	s.is(err, driver.ErrNotFound)
	_, err = s.store.Find(s.Context(), other.ImageID)
	s.must(err)
	_, err = s.store.Ensure(s.Context(), src, nil)
	s.must(err)
	if d := s.env.Downloads(src.ImageID); d != 2 {
		s.Errorf("downloaded %d times", d)
	}
}

func (s *imageSuite) removeEarly() {
	release := s.env.Block(s.T)
	defer release()
	src := s.env.Publish(s.T, s.content(9000))
	result := make(chan error, 1)
	go func() {
		_, err := s.store.Ensure(s.Context(), src, nil)
		result <- err
	}()
	s.until("download", func() bool { return s.env.Downloads(src.ImageID) > 0 })
	s.must(s.store.Remove(s.Context(), src.ImageID))
	s.is(<-result, driver.ErrNotFound)
	_, err := s.store.Find(s.Context(), src.ImageID)
	s.is(err, driver.ErrNotFound)
	release()
	_, err = s.store.Ensure(s.Context(), src, nil)
	s.must(err)
}

func (s *imageSuite) cancelled() {
	release := s.env.Block(s.T)
	defer release()
	src := s.env.Publish(s.T, s.content(9000))
	ctx, cancel := context.WithCancel(s.Context())
	result := make(chan error, 1)
	go func() {
		_, err := s.store.Ensure(ctx, src, nil)
		result <- err
	}()
	s.until("download", func() bool { return s.env.Downloads(src.ImageID) > 0 })
	cancel()
	s.is(<-result, context.Canceled)
	release()
	_, err := s.store.Ensure(s.Context(), src, nil) // goes on where it was left, or anew
	s.must(err)
	ctx, cancel = context.WithCancel(s.Context())
	cancel()
	_, err = s.store.Find(ctx, src.ImageID)
	s.is(err, context.Canceled)
}
