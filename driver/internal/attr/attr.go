// Package attr reads attributes of sysfs and configfs: files of at most a page that are
// made anew by each read. A look at a node reads hundreds of them, so each costs three
// system calls here, where os.ReadFile makes a dozen (it asks for the file's kind and size
// and offers it to the poller).
package attr

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// pageBytes is a page of sysfs, the longest that an attribute can be.
const pageBytes = 4096

// Read returns all of an attribute, as it stands there. Errors are [*fs.PathError].
func Read(path string) (string, error) {
	fd, err := open(path)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var page [pageBytes]byte
	n, err := read(fd, page[:])
	_ = unix.Close(fd) // nothing was written
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return string(page[:n]), nil
}

func open(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// read is one read: the kernel gives an attribute whole.
func read(fd int, b []byte) (n int, err error) {
	for {
		n, err = unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}
