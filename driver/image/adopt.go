package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vmthunder/vmthunder/driver"
)

// adopt serves a raw image from Glance's own store. It is not done if there is
// none that can be served so: then it is downloaded. An error is final.
func (s *Store) adopt(ctx context.Context, src driver.ImageSource, report func(driver.ImageProgress)) (done bool, err error) {
	if s.o.FileStoreDir == "" || src.SizeBytes <= 0 || src.SizeBytes%block != 0 {
		return false, nil
	}
	h, want := digest(src)
	if h == nil {
		return false, nil // nothing shows that it is whole
	}
	path := filepath.Join(s.o.FileStoreDir, src.ImageID)
	f, st, err := openPlain(path)
	if err != nil {
		return false, nil
	}
	defer func() { _ = f.Close() }()
	if st.Size() != src.SizeBytes {
		return false, nil
	}
	if _, err := hashFile(ctx, f, h, src.SizeBytes, report); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, nil
	}
	if !matches(h, want) {
		return false, nil // perhaps it is being written
	}
	if _, err := inspectFile(f, src.SizeBytes, Raw); err != nil {
		return false, err
	}
	if err := s.step("verified in place"); err != nil {
		return false, err
	}
	m := meta{VirtualBytes: src.SizeBytes, DeviceBytes: src.SizeBytes, Format: Raw, InPlace: true}
	linked, err := s.link(src.ImageID, path, st, m)
	if linked || err != nil {
		return linked, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false, nil
	}
	m.Outside, m.Inode, m.MTime = path, sys.Ino, sys.Mtim.Nano()
	if err := s.writeMeta(src.ImageID, m); err != nil {
		return false, err
	}
	return true, s.step("described")
}

// link makes ID.raw another name of Glance's file, so that it outlives a removal
// there. It can't on another file system.
func (s *Store) link(id, path string, st os.FileInfo, m meta) (bool, error) {
	raw := s.path(id, rawSuffix)
	if err := os.Remove(raw); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Link(path, raw); err != nil {
		return false, nil //nolint:nilerr // EXDEV, EPERM and the like: served from there
	}
	now, err := os.Lstat(raw)
	if err == nil && !os.SameFile(now, st) { // it was exchanged after it was verified
		return false, s.removeFiles(id, rawSuffix)
	}
	if err == nil {
		err = s.step("linked")
	}
	if err == nil {
		err = s.writeMeta(id, m) // which brings the directory to disk as well
	}
	if err == nil {
		err = s.step("described")
	}
	return err == nil, err
}
