package pool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// disk is the device or file that a pool is on, read and written past the page
// cache where that is possible: what device-mapper writes does not go through it.
type disk struct {
	f     *os.File
	size  uint64
	block bool // a block device, not a file
}

// openDisk opens path. Exclusive fails with ErrBusy on a block device that is
// mounted or part of something.
func openDisk(path string, exclusive bool) (*disk, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, driver.ErrUnavailable)
	}
	if err != nil {
		return nil, err
	}
	d := &disk{block: st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0}
	if !d.block && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a block device nor a file", path)
	}
	flags := os.O_RDWR
	if exclusive && d.block {
		flags |= unix.O_EXCL
	}
	d.f, err = os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // a file system that can't
		d.f, err = os.OpenFile(path, flags, 0)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%w: %w", err, driver.ErrBusy)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOMEDIUM):
		return nil, fmt.Errorf("%w: %w", err, driver.ErrUnavailable)
	case err != nil:
		return nil, err
	}
	end, err := d.f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, d.f.Close())
	}
	d.size = uint64(end) / blockLen * blockLen
	return d, nil
}

func (d *disk) close() error { return d.f.Close() }

// aligned returns n bytes at an address that direct I/O takes.
func aligned(n int) []byte {
	b := make([]byte, n+blockLen)
	skip := blockLen - int(uintptr(unsafe.Pointer(&b[0]))%blockLen) //nolint:gosec // only the remainder is used
	return b[skip : skip+n : skip+n]
}

// read returns n bytes at offset; both are multiples of blockLen.
func (d *disk) read(offset uint64, n int) ([]byte, error) {
	b := aligned(n)
	if _, err := d.f.ReadAt(b, int64(offset)); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", d.f.Name(), offset, err)
	}
	return b, nil
}

// write puts data at offset and returns when it is on the disk.
func (d *disk) write(offset uint64, data []byte) error {
	b := aligned(len(data))
	copy(b, data)
	if _, err := d.f.WriteAt(b, int64(offset)); err != nil {
		return fmt.Errorf("write %s at %d: %w", d.f.Name(), offset, err)
	}
	if err := d.f.Sync(); err != nil {
		return fmt.Errorf("write %s at %d: %w", d.f.Name(), offset, err)
	}
	return nil
}

// headers reads both copies and says what they are.
func (d *disk) headers() (header, verdict, error) {
	if d.size < 2*headerSpace {
		return header{}, foreign, fmt.Errorf("%s is too small: %d bytes", d.f.Name(), d.size)
	}
	a, err := d.read(0, blockLen)
	if err != nil {
		return header{}, foreign, err
	}
	b, err := d.read(secondAt, blockLen)
	if err != nil {
		return header{}, foreign, err
	}
	h, v, why := judge(a, b)
	if v != foreign {
		return h, v, nil
	}
	begin, err := d.read(0, headerSpace)
	if err != nil {
		return header{}, foreign, err
	}
	return header{}, foreign, foreignError(d.f.Name(), begin, why)
}

func foreignError(name string, begin []byte, why error) error {
	if why != nil {
		return fmt.Errorf("%s: %w: %w", name, why, driver.ErrForeign)
	}
	return fmt.Errorf("%s has %s; if it is of no use, wipe it (blkdiscard -z, or zero its first and last MiB): %w", name, looksLike(begin), driver.ErrForeign)
}

// putHeaders writes both copies, the first one first.
func (d *disk) putHeaders(h header) error {
	for _, at := range []uint64{0, secondAt} {
		if err := d.write(at, h.marshal()); err != nil {
			return err
		}
	}
	return nil
}

// btrfsMirror is where btrfs has its second superblock.
const btrfsMirror = 64 << 20

// blank returns an ErrForeign unless the device reads as zeros in its first and
// last MiB and where btrfs would have a copy. torn leaves out a first header.
func (d *disk) blank(torn bool) error {
	begin, err := d.read(0, headerSpace)
	if err != nil {
		return err
	}
	if torn {
		clear(begin[:headerUsed])
	}
	places := [][]byte{begin}
	for _, at := range []uint64{d.size - headerSpace, btrfsMirror} {
		if at+headerSpace > d.size {
			continue
		}
		b, err := d.read(at, headerSpace)
		if err != nil {
			return err
		}
		places = append(places, b)
	}
	for _, b := range places {
		if !isZero(b) {
			return foreignError(d.f.Name(), begin, nil)
		}
	}
	return nil
}

// wipe makes the device blank in the sense of the method of that name.
func (d *disk) wipe() error {
	zero := make([]byte, headerSpace)
	for _, at := range []uint64{0, d.size - headerSpace, btrfsMirror} {
		if at+headerSpace > d.size {
			continue
		}
		if err := d.write(at, zero); err != nil {
			return err
		}
	}
	return nil
}
