package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"golang.org/x/sys/unix"
)

const (
	partSuffix = ".part"
	rawSuffix  = ".raw"
	infoSuffix = ".info"
	tmpSuffix  = ".tmp"
)

// Options of a [Store]. Dir, Source and Runner are required.
type Options struct {
	// Dir holds the images; it is made if it isn't there. All of it is the store's.
	Dir string
	// FileStoreDir is Glance's filesystem_store_datadir where this node sees it, as over
	// NFS: raw images are then served from there and not copied. Empty: it doesn't.
	FileStoreDir string
	Source       Source
	Runner       command.Runner // for qemu-img and prlimit
	// ConvertTimeout bounds one conversion. 0: an hour.
	ConvertTimeout time.Duration
	// Stall: a download that brings nothing for so long is broken off. 0: a minute.
	Stall time.Duration
	// Attempts is how often in a row a download may bring nothing before Ensure
	// fails, RetryWait how long is waited between. 0: 5 and 2 s.
	Attempts  int
	RetryWait time.Duration
}

// Store is a [driver.ImageStore] in a directory. One process may use the directory
// at a time.
type Store struct {
	o    Options
	fail func(step string) error // in tests: a crash after that step

	mu      sync.Mutex
	flights map[string]*flight
}

var _ driver.ImageStore = (*Store)(nil)

// Open makes a Store and removes from its directory what a crash left and can't be
// gone on with.
func Open(o Options) (*Store, error) {
	if o.ConvertTimeout <= 0 {
		o.ConvertTimeout = time.Hour
	}
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.RetryWait <= 0 {
		o.RetryWait = 2 * time.Second
	}
	dir, err := filepath.Abs(o.Dir) // qemu-img takes "a:b" for a protocol, but no absolute path
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(escape(dir), "*"+tmpSuffix))
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	return &Store{o: o, flights: map[string]*flight{}}, nil
}

// escape keeps a path's own characters from being a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (s *Store) path(id, suffix string) string { return filepath.Join(s.o.Dir, id+suffix) }

// checkID keeps an id from being a path. Glance's are UUIDs.
func checkID(id string) error {
	ok := id != "" && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	})
	if !ok {
		return fmt.Errorf("image %q: malformed id: %w", id, driver.ErrUnusable)
	}
	return nil
}

// meta is the content of ID.info.
type meta struct {
	VirtualBytes int64  `json:"virtual_bytes"`
	DeviceBytes  int64  `json:"device_bytes"`
	Format       Format `json:"format"` // that it came in
	InPlace      bool   `json:"in_place,omitempty"`
	// Outside is the file in Glance's store, if ID.raw isn't a link to it, with what
	// shows that it is still the file that was verified.
	Outside string `json:"outside,omitempty"`
	Inode   uint64 `json:"inode,omitempty"`
	MTime   int64  `json:"mtime,omitempty"` // ns
}

func (s *Store) writeMeta(id string, m meta) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeFile(s.path(id, infoSuffix), append(raw, '\n'))
}

// Find implements [driver.ImageStore].
func (s *Store) Find(ctx context.Context, id string) (driver.ImageFile, error) {
	if err := errors.Join(ctx.Err(), checkID(id)); err != nil {
		return driver.ImageFile{}, err
	}
	f, err := s.find(id)
	if err != nil {
		return driver.ImageFile{}, fmt.Errorf("image %s: %w", id, err)
	}
	return f, nil
}

func (s *Store) find(id string) (driver.ImageFile, error) {
	raw, err := os.ReadFile(s.path(id, infoSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return driver.ImageFile{}, driver.ErrNotFound
	}
	if err != nil {
		return driver.ImageFile{}, err
	}
	var m meta
	if err := json.Unmarshal(raw, &m); err != nil {
		return driver.ImageFile{}, fmt.Errorf("%w: malformed %s: %w", driver.ErrNotFound, id+infoSuffix, err)
	}
	path := s.path(id, rawSuffix)
	if m.Outside != "" {
		path = m.Outside
	}
	var st unix.Stat_t
	err = unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return driver.ImageFile{}, driver.ErrNotFound
	}
	if err != nil {
		return driver.ImageFile{}, fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != m.DeviceBytes ||
		m.Outside != "" && (st.Ino != m.Inode || st.Mtim.Nano() != m.MTime) {
		return driver.ImageFile{}, fmt.Errorf("%s is not what it was: %w", path, driver.ErrNotFound)
	}
	return driver.ImageFile{
		ImageID: id, Path: path, VirtualBytes: m.VirtualBytes, DeviceBytes: m.DeviceBytes, InPlace: m.InPlace,
	}, nil
}

// List implements [driver.ImageStore].
func (s *Store) List(ctx context.Context) ([]driver.ImageFile, error) {
	entries, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []driver.ImageFile
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), infoSuffix)
		if !ok || checkID(id) != nil {
			continue
		}
		f, err := s.Find(ctx, id)
		if errors.Is(err, driver.ErrNotFound) {
			continue // not whole
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b driver.ImageFile) int { return strings.Compare(a.ImageID, b.ImageID) })
	return out, nil
}

// Remove implements [driver.ImageStore]. An Ensure under way fails with ErrNotFound.
// Glance's own files are left alone.
func (s *Store) Remove(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		f := s.flights[id]
		if f == nil {
			break // with the lock, so that none begins
		}
		f.cancel(errRemoved)
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return fmt.Errorf("remove image %s: %w", id, ctx.Err())
		}
	}
	defer s.mu.Unlock()
	if err := s.removeFiles(id, rawSuffix, infoSuffix, partSuffix, rawSuffix+tmpSuffix, infoSuffix+tmpSuffix); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

func (s *Store) removeFiles(id string, suffixes ...string) error {
	var errs []error
	some := false
	for _, x := range suffixes {
		switch err := os.Remove(s.path(id, x)); {
		case err == nil:
			some = true
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	if some {
		errs = append(errs, syncDir(s.o.Dir))
	}
	return errors.Join(errs...)
}

// FreeBytes implements [driver.ImageStore].
func (s *Store) FreeBytes(context.Context) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.o.Dir, &st); err != nil {
		return 0, fmt.Errorf("image store %s: %w", s.o.Dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
