package bcache

import (
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/blkpg.h and linux/fs.h.
const (
	blkpg             = 0x1269 // the same on all architectures but alpha, mips, powerpc and sparc
	blkpgDelPartition = 2
)

type blkpgPartition struct {
	start, length int64
	number        int32
	names         [128]byte
	_             int32
}

type blkpgArg struct {
	op, flags, length int32
	data              unsafe.Pointer
}

// deletePartition makes the kernel forget the partition whose number is in the
// attribute at path. Nothing on the disk is changed.
func deletePartition(fd int, path string) error {
	attr, err := readAttr(path)
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(attr, 10, 32)
	if err != nil {
		return fmt.Errorf("partition number: %w", err)
	}
	part := blkpgPartition{number: int32(number)}
	arg := blkpgArg{op: blkpgDelPartition, length: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)} //nolint:gosec // the ioctl's argument
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), blkpg, uintptr(unsafe.Pointer(&arg)))          //nolint:gosec // the ioctl's argument
	if errno != 0 && errno != unix.ENXIO {
		return errno
	}
	return nil
}
