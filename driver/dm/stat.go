package dm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver/internal/attr"
)

// BlockStat is what a block device has done since it was made
// (Documentation/block/stat.rst).
type BlockStat struct {
	Reads, ReadSectors   uint64 // requests and sectors of 512 bytes
	Writes, WriteSectors uint64
	InFlight             uint64 // requests
}

// ParseBlockStat reads /sys/block/DEV/stat.
func ParseBlockStat(text string) (BlockStat, error) {
	f := strings.Fields(text)
	if len(f) < 11 {
		return BlockStat{}, fmt.Errorf("block device statistics: %d fields in %q", len(f), text)
	}
	var n [9]uint64
	for i := range n {
		v, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return BlockStat{}, fmt.Errorf("block device statistics: field %d of %q: %w", i, text, err)
		}
		n[i] = v
	}
	return BlockStat{Reads: n[0], ReadSectors: n[2], Writes: n[4], WriteSectors: n[6], InFlight: n[8]}, nil
}

// Stat reads the counters of the block device at path (or major:minor).
func Stat(path string) (BlockStat, error) {
	d, err := Number(path)
	if err != nil {
		return BlockStat{}, err
	}
	text, err := attr.Read("/sys/dev/block/" + d.String() + "/stat")
	if err != nil {
		return BlockStat{}, fmt.Errorf("statistics of %s: %w", path, err)
	}
	return ParseBlockStat(text)
}

// SizeOf returns the bytes of a block device by its numbers, without opening it.
func SizeOf(major, minor uint32) (int64, error) {
	text, err := attr.Read(fmt.Sprintf("/sys/dev/block/%d:%d/size", major, minor))
	if err != nil {
		return 0, fmt.Errorf("size of device %d:%d: %w", major, minor, err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size of device %d:%d: %w", major, minor, err)
	}
	return sectors * 512, nil
}

// Size returns the bytes of the block device at path.
func Size(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	var n uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n))); errno != 0 { //nolint:gosec // the kernel's interface
		return 0, fmt.Errorf("size of %s: %w", path, errno)
	}
	return n, nil
}

// Sectors returns the sectors of the block device at path (or major:minor), from
// sysfs: opening a device can make udev look at it and a removal fail.
func Sectors(path string) (uint64, error) {
	d, err := Number(path)
	if err != nil {
		return 0, err
	}
	text, err := attr.Read("/sys/dev/block/" + d.String() + "/size")
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	return n, nil
}
