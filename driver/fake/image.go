package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
)

// ImageStore is a driver.ImageStore without files. Its images come from an equally
// made-up Glance, see [ImageStore.Publish]. What it has imported stands as a file of
// [Devices], for [Loop].
type ImageStore struct {
	devs   *Devices
	faults dmFaults

	mu        sync.Mutex
	glance    map[string]published
	files     map[string]driver.ImageFile
	flights   map[string]*imageFlight
	downloads map[string]int
	gate      chan struct{} // imports wait for it to be closed; nil: they don't
	free      int64
}

type published struct {
	content []byte
	corrupt bool
}

type imageFlight struct {
	done    chan struct{}
	removed chan struct{}
	file    driver.ImageFile
	err     error
}

var _ driver.ImageStore = (*ImageStore)(nil)

// NewImageStore returns one without images. devs may be nil.
func NewImageStore(devs *Devices) *ImageStore {
	return &ImageStore{
		devs: devs, glance: map[string]published{}, files: map[string]driver.ImageFile{},
		flights: map[string]*imageFlight{}, downloads: map[string]int{}, free: 1 << 40,
	}
}

// Publish puts an image of that raw content into Glance. A corrupt one's bytes do not match
// its checksum.
func (s *ImageStore) Publish(id string, content []byte, corrupt bool) driver.ImageSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.glance[id] = published{slices.Clone(content), corrupt}
	return driver.ImageSource{ImageID: id, DiskFormat: "raw", SizeBytes: int64(len(content))}
}

// Block makes imports wait until release is called.
func (s *ImageStore) Block() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	})
}

// Downloads counts the imports of an image that were begun.
func (s *ImageStore) Downloads(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.downloads[id]
}

// Content of an imported image, padded as its file would be.
func (s *ImageStore) Content(f driver.ImageFile) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]byte, f.DeviceBytes)
	copy(out, s.glance[f.ImageID].content)
	return out
}

// SetFree sets what FreeBytes returns.
func (s *ImageStore) SetFree(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = bytes
}

// FailNext makes the next op (ensure, find, remove, list) on an image fail with err; an empty id
// is any.
func (s *ImageStore) FailNext(op, id string, err error) { s.faults.add(op, id, err) }

// Ensure implements [driver.ImageStore].
func (s *ImageStore) Ensure(ctx context.Context, src driver.ImageSource, progress func(driver.ImageProgress)) (driver.ImageFile, error) {
	id := src.ImageID
	if err := s.begin(ctx, "ensure", id); err != nil {
		return driver.ImageFile{}, err
	}
	if progress == nil {
		progress = func(driver.ImageProgress) {}
	}
	s.mu.Lock()
	f := s.flights[id]
	if f == nil {
		if file, ok := s.files[id]; ok {
			s.mu.Unlock()
			return s.limited(file, src)
		}
		f = &imageFlight{done: make(chan struct{}), removed: make(chan struct{})}
		s.flights[id] = f
		s.downloads[id]++
		go s.land(f, src, s.gate)
	}
	s.mu.Unlock()
	progress(driver.ImageProgress{Phase: "download", Total: src.SizeBytes})
	select {
	case <-f.done:
	case <-ctx.Done():
		return driver.ImageFile{}, fmt.Errorf("image %s: %w", id, ctx.Err())
	}
	if f.err != nil {
		return driver.ImageFile{}, fmt.Errorf("image %s: %w", id, f.err)
	}
	progress(driver.ImageProgress{Phase: "download", Done: f.file.VirtualBytes, Total: f.file.VirtualBytes})
	return s.limited(f.file, src)
}

func (s *ImageStore) limited(f driver.ImageFile, src driver.ImageSource) (driver.ImageFile, error) {
	if src.MaxBytes > 0 && f.VirtualBytes > src.MaxBytes {
		return driver.ImageFile{}, fmt.Errorf("image %s: larger than %d bytes: %w", src.ImageID, src.MaxBytes, driver.ErrUnusable)
	}
	return f, nil
}

// land ends an import.
func (s *ImageStore) land(f *imageFlight, src driver.ImageSource, gate chan struct{}) {
	if gate != nil {
		select {
		case <-gate:
		case <-f.removed:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	delete(s.flights, src.ImageID)
	p, ok := s.glance[src.ImageID]
	n := int64(len(p.content))
	select {
	case <-f.removed:
		ok = false
	default:
	}
	switch {
	case !ok:
		f.err = driver.ErrNotFound
		return
	case p.corrupt, n == 0, src.MaxBytes > 0 && n > src.MaxBytes:
		f.err = driver.ErrUnusable
		return
	}
	f.file = driver.ImageFile{
		ImageID: src.ImageID, Path: "/images/" + src.ImageID + ".raw",
		VirtualBytes: n, DeviceBytes: (n + 4095) &^ 4095,
	}
	s.files[src.ImageID] = f.file
	if s.devs != nil {
		s.devs.DeclareFile(f.file.Path, uint64(f.file.DeviceBytes))
	}
}

func (s *ImageStore) begin(ctx context.Context, op, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s image %s: %w", op, id, err)
	}
	if err := s.faults.take(op, id); err != nil {
		return fmt.Errorf("%s image %s: %w", op, id, err)
	}
	if op != "list" && (id == "" || id != imageName(id)) {
		return fmt.Errorf("%s image %q: malformed id: %w", op, id, driver.ErrUnusable)
	}
	return nil
}

// imageName is id without what can't be in the name of a file.
func imageName(id string) string {
	return string(slices.DeleteFunc([]byte(id), func(c byte) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-'
	}))
}

// Find implements [driver.ImageStore].
func (s *ImageStore) Find(ctx context.Context, id string) (driver.ImageFile, error) {
	if err := s.begin(ctx, "find", id); err != nil {
		return driver.ImageFile{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[id]
	if !ok {
		return driver.ImageFile{}, fmt.Errorf("image %s: %w", id, driver.ErrNotFound)
	}
	return f, nil
}

// Remove implements [driver.ImageStore].
func (s *ImageStore) Remove(ctx context.Context, id string) error {
	if err := s.begin(ctx, "remove", id); err != nil {
		return err
	}
	s.mu.Lock()
	f := s.flights[id]
	if f != nil {
		select {
		case <-f.removed:
		default:
			close(f.removed)
		}
	}
	s.mu.Unlock()
	if f != nil {
		<-f.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if file, ok := s.files[id]; ok {
		delete(s.files, id)
		if s.devs != nil {
			s.devs.Forget(file.Path)
		}
	}
	return nil
}

// List implements [driver.ImageStore].
func (s *ImageStore) List(ctx context.Context) ([]driver.ImageFile, error) {
	if err := s.begin(ctx, "list", ""); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []driver.ImageFile
	for _, id := range slices.Sorted(maps.Keys(s.files)) {
		out = append(out, s.files[id])
	}
	return out, nil
}

// FreeBytes implements [driver.ImageStore].
func (s *ImageStore) FreeBytes(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, ctx.Err()
}
