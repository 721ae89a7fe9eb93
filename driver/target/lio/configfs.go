package lio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver/internal/attr"
)

// configFS is what this package does to /sys/kernel/config/target. Paths are
// relative to it. Errors wrap the errno.
type configFS interface {
	mkdir(path string) error
	rmdir(path string) error
	symlink(target, link string) error
	unlink(link string) error
	readlink(link string) (string, error) // the target, relative to the root
	read(path string) (string, error)
	// write is one write(2) without a newline: LIO takes a newline as part of a CHAP secret.
	write(path, value string) error
	// dirs and links return the names below path that are directories and symbolic links.
	dirs(path string) ([]string, error)
	links(path string) ([]string, error)
}

// kernelFS is configfs itself. See the kernel's Documentation/filesystems/configfs.rst
// and Documentation/target/tcm_mod_builder.rst.
type kernelFS struct{ root string }

func (k kernelFS) path(p string) string { return filepath.Join(k.root, p) }

func (k kernelFS) mkdir(p string) error { return os.Mkdir(k.path(p), 0o755) }

func (k kernelFS) rmdir(p string) error {
	if err := unix.Rmdir(k.path(p)); err != nil {
		return &fs.PathError{Op: "rmdir", Path: k.path(p), Err: err}
	}
	return nil
}

func (k kernelFS) symlink(target, link string) error { return os.Symlink(k.path(target), k.path(link)) }

func (k kernelFS) unlink(p string) error {
	if err := unix.Unlink(k.path(p)); err != nil {
		return &fs.PathError{Op: "unlink", Path: k.path(p), Err: err}
	}
	return nil
}

// readlink returns a link to a backstore relative to the root.
func (k kernelFS) readlink(p string) (string, error) {
	to, err := os.Readlink(k.path(p))
	if err != nil {
		return "", err
	}
	return belowTarget(to), nil
}

// belowTarget cuts a link's text down to what is below the root. Kernels differ in how
// many ".." they put in front.
func belowTarget(to string) string {
	if i := strings.LastIndex(to, "/core/"); i >= 0 {
		return to[i+1:]
	}
	return to
}

func (k kernelFS) read(p string) (string, error) { return attr.Read(k.path(p)) }

func (k kernelFS) write(p, value string) error {
	f, err := os.OpenFile(k.path(p), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func (k kernelFS) dirs(p string) ([]string, error)  { return k.names(p, fs.ModeDir) }
func (k kernelFS) links(p string) ([]string, error) { return k.names(p, fs.ModeSymlink) }

func (k kernelFS) names(p string, typ fs.FileMode) ([]string, error) {
	entries, err := os.ReadDir(k.path(p))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type() == typ {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// gone says that err means that the thing is not there.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// ensureDir makes a directory unless it is there.
func ensureDir(k configFS, p string) error {
	if err := k.mkdir(p); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", p, err)
	}
	return nil
}

// removeDir removes a directory unless it is gone.
func removeDir(k configFS, p string) error {
	if err := k.rmdir(p); err != nil && !gone(err) {
		return fmt.Errorf("remove %s: %w", p, err)
	}
	return nil
}

// set writes an attribute unless it reads as value already.
func set(k configFS, p, value string) error {
	if old, err := k.read(p); err == nil && strings.TrimSuffix(old, "\n") == value {
		return nil
	}
	if err := k.write(p, value); err != nil {
		return fmt.Errorf("set %s: %w", p, err) // never the value: it may be a secret
	}
	return nil
}
