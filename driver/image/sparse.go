package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vmthunder/vmthunder/driver"
	"golang.org/x/sys/unix"
)

// block is the unit of holes and of padding.
const block = 4096

func padded(n int64) int64 { return (n + block - 1) &^ (block - 1) }

// sparseWriter writes at its end, leaving holes for blocks of zeros. The file's length
// is behind until settle.
type sparseWriter struct {
	f   *os.File
	off int64
}

var zeros [block]byte

// Write implements [io.Writer]. All of p counts as written unless there is an error.
func (w *sparseWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		// A run of blocks that are all zero, or all not.
		end, zero := done, false
		for end < len(p) {
			n := min(int(block-(w.off+int64(end-done))%block), len(p)-end)
			z := bytes.Equal(p[end:end+n], zeros[:n])
			if end == done {
				zero = z
			} else if z != zero {
				break
			}
			end += n
		}
		if !zero {
			if _, err := w.f.WriteAt(p[done:end], w.off); err != nil {
				return done, space(err)
			}
		}
		w.off += int64(end - done)
		done = end
	}
	return done, nil
}

// settle makes the file as long as what was written.
func (w *sparseWriter) settle() error { return space(w.f.Truncate(w.off)) }

// space makes driver.ErrNoSpace of a full disk.
func space(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", driver.ErrNoSpace, err)
	}
	return err
}

// syncDir makes renames and removals in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncFile pads a file to whole blocks and brings it to disk.
func syncFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return space(errors.Join(f.Truncate(size), f.Sync(), f.Close()))
}

// writeFile replaces a small file as a whole.
func writeFile(path string, data []byte) error {
	tmp := path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return space(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return space(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openPlain opens a regular file that is no symbolic link.
func openPlain(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// allocated is how many bytes of a file take space; 0 if it isn't there.
func allocated(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * sector
}

var _ io.Writer = (*sparseWriter)(nil)
