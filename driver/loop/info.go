package loop

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of struct loop_info64 (include/uapi/linux/loop.h).
const (
	flagReadOnly  = 1
	flagAutoclear = 4
	flagDirectIO  = 16
)

// identity tells backings apart: a block device by its number, a file by file
// system and inode. Different names of one thing have one identity.
type identity struct {
	block bool
	dev   uint64 // number of the block device, or of the file's file system
	inode uint64 // 0 for a block device
}

// identityOf is the identity of what a loop device is bound to. The kernel gives
// what stat says of the file or device node: the file system, the inode, and in
// lo_rdevice the number of the block device. That is 0 for a file; the kernel's
// code knows a case in which it is the file system again.
func identityOf(i *unix.LoopInfo64) identity {
	if i.Rdevice != 0 && i.Rdevice != i.Device {
		return identity{block: true, dev: i.Rdevice}
	}
	return identity{dev: i.Device, inode: i.Inode}
}

// identityOfStat is the identity of what stat(2) saw.
func identityOfStat(st *unix.Stat_t) (identity, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return identity{block: true, dev: encode(st.Rdev)}, nil
	case unix.S_IFREG:
		return identity{dev: encode(st.Dev), inode: st.Ino}, nil
	}
	return identity{}, fmt.Errorf("neither a file nor a block device")
}

// encode is the kernel's huge_encode_dev of a number as stat gives it.
func encode(dev uint64) uint64 {
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// whole tells whether the device shows all of its backing.
func whole(i *unix.LoopInfo64) bool { return i.Offset == 0 && i.Sizelimit == 0 }

// setName puts the backing's path into the field that losetup shows, cut to its length.
func setName(i *unix.LoopInfo64, path string) {
	n := copy(i.File_name[:len(i.File_name)-1], path)
	i.File_name[n] = 0
}

// parseNumber takes N out of loopN.
func parseNumber(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "loop")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && strconv.Itoa(n) == digits
}

// parseBacking reads /sys/block/loopN/loop/backing_file, in which the kernel marks
// a file that has no name any more.
func parseBacking(text string) string { return strings.TrimSuffix(text, "\n") }
