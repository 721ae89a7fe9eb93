// Package block reads and writes the few sectors of block devices that cache
// drivers own, around the page cache: the kernel's drivers write their superblocks
// with bios of their own, so a buffered read of the same device may be old.
//
// Everything works on regular files too.
package block

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// SectorBytes is the unit of lengths called sectors.
const SectorBytes = 512

// page is the alignment that direct I/O wants: the largest logical block size in use.
const page = 4096

// Number returns the device number of the block device at path.
// A path that is not there is driver.ErrNotFound.
func Number(path string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = driver.ErrNotFound
		}
		return 0, 0, fmt.Errorf("look up device %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("look up device %s: not a block device", path)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// Bytes returns the size of a block device or file.
func Bytes(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	return n, nil
}

// aligned returns n bytes that begin at a multiple of page.
func aligned(n int) []byte {
	b := make([]byte, n+page)
	skip := int(uintptr(page) - uintptr(unsafe.Pointer(&b[0]))%page) //nolint:gosec // only the address' remainder is used
	return b[skip%page:][:n:n]
}

// open tries direct I/O first; file systems without it (tmpfs) refuse with EINVAL.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, flags, 0)
	}
	return f, err
}

// Read returns n bytes from off as they are on the disk. Both must be multiples of 4096.
func Read(path string, off int64, n int) ([]byte, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	return readAt(f, off, n)
}

func readAt(f *os.File, off int64, n int) ([]byte, error) {
	b := aligned(n)
	if _, err := f.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", n, off, f.Name(), err)
	}
	return b, nil
}

// Write puts data at off, and returns when it is on the disk. off and the
// length must be multiples of 4096.
func Write(path string, off int64, data []byte) (err error) {
	f, err := open(path, os.O_WRONLY)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := aligned(len(data))
	copy(b, data)
	if _, err := f.WriteAt(b, off); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(data), off, path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Zero writes n zero bytes at the beginning of the device, n a multiple of 4096.
func Zero(path string, n int) error { return Write(path, 0, make([]byte, n)) }

// Exclusive opens the device with a claim on it, read-only: no mount,
// device-mapper table or other exclusive opener can have it at the same time.
// driver.ErrBusy if one has it already. A device that is going away gives unix.ENXIO.
func Exclusive(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: mounted, or part of another device", driver.ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", path, err)
	}
	return f, nil
}

const (
	edge    = 1 << 20 // bytes looked at on both ends of a device that should be blank
	sample  = 64 << 10
	samples = 64
)

// Blank tells whether the device holds nothing but zeros, as far as its first and
// last MiB and 64 samples between tell: every file system, partition table, RAID,
// LVM and disk cache leaves marks there. A device in use is driver.ErrBusy.
func Blank(path string) (bool, error) {
	f, err := Exclusive(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("size of %s: %w", path, err)
	}
	type extent struct{ off, n int64 }
	extents := []extent{{0, min(edge, size)}, {max(size-edge, 0), min(edge, size)}}
	for i := range int64(samples) {
		off := size / samples * i / page * page
		extents = append(extents, extent{off, min(sample, size-off)})
	}
	b := make([]byte, edge)
	for _, e := range extents {
		if _, err := f.ReadAt(b[:e.n], e.off); err != nil {
			return false, fmt.Errorf("read %s at %d: %w", path, e.off, err)
		}
		for _, c := range b[:e.n] {
			if c != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}
