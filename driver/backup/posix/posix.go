// Package posix keeps objects in a directory, each in a file of its own. The directory
// may be on a file system that several nodes mount (NFS): renames there are atomic, too.
package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vmthunder/vmthunder/driver"
)

// Marker is the file that a directory must hold to be taken for a store. A share that is
// not mounted lacks it, so nothing is written to the mount point beneath.
const Marker = ".vmthunder-backups"

// temporary begins the names of files that are being written.
const temporary = ".tmp-"

// putTries is how often a directory may be removed under an object that is put there.
const putTries = 8

// Store is a [driver.ObjectStore] in a directory.
type Store struct{ dir string }

var _ driver.ObjectStore = (*Store)(nil)

// New returns the store in a directory, which need not be there yet.
func New(dir string) *Store { return &Store{dir: dir} }

// Check implements [driver.ObjectStore].
func (s *Store) Check(context.Context) error {
	if _, err := os.Stat(filepath.Join(s.dir, Marker)); err != nil {
		return fmt.Errorf("%w: the backup store %s: %w: mount the share there, or make a new store with `touch %s`",
			driver.ErrUnavailable, s.dir, err, filepath.Join(s.dir, Marker))
	}
	return nil
}

// path of an object, if its name is one.
func (s *Store) path(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := driver.CheckObjectName(name); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, filepath.FromSlash(name)), nil
}

// Put implements [driver.ObjectStore]: written beside, brought to disk, renamed.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	path, err := s.path(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	err = s.put(path, data)
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < putTries; try++ {
		err = s.put(path, data) // somebody has removed the directory, which was empty just then
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, space(err))
	}
	return nil
}

func (s *Store) put(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := s.makeDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDir makes directories below the store's, never that itself, so that they last.
func (s *Store) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || dir == s.dir {
		return err
	}
	if err := s.makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: below the store's directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// space makes driver.ErrNoSpace of a full file system.
func space(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", driver.ErrNoSpace, err)
	}
	return err
}

// Get implements [driver.ObjectStore].
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	path, err := s.path(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path) //nolint:gosec // G304: the name was checked
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.Check(ctx); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("object %s: %w", name, driver.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("object %s is larger than %d bytes", name, limit)
	}
	return data, nil
}

// List implements [driver.ObjectStore]. What is being written is not there yet.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	root, err := s.path(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it goes away meanwhile, or was never there
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir() || strings.HasPrefix(d.Name(), ".") || path == root:
			return nil
		}
		rel, err := filepath.Rel(s.dir, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	if len(names) == 0 {
		return nil, s.Check(ctx)
	}
	slices.Sort(names)
	return names, nil
}

// Delete implements [driver.ObjectStore]. Directories that are left empty go, too, with
// what crashes have left in them.
func (s *Store) Delete(ctx context.Context, name string) error {
	path, err := s.path(ctx, name)
	if err != nil {
		return err
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("delete %s: %w", name, err)
	default:
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete %s: %w", name, err)
		}
	}
	for ; dir != s.dir && len(dir) > len(s.dir); dir = filepath.Dir(dir) {
		if !sweep(dir) {
			break
		}
	}
	return nil
}

// sweep removes a directory in which there is nothing but what crashes have left.
func sweep(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), temporary) {
			return false
		}
	}
	for _, e := range entries {
		// Whoever writes it just now fails, and tries again.
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return os.Remove(dir) == nil
}
