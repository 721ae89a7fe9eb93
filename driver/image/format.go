package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// Format of an image's bytes, by the names qemu-img has.
type Format string

// Formats that can be served.
const (
	Raw   Format = "raw"
	Qcow2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHD   Format = "vpc" // Glance: vhd
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
)

// Other formats that are recognised, to be refused.
const (
	qed       Format = "qed"
	parallels Format = "parallels"
)

// claimed translates Glance's disk_format. iso, ami, ari and aki are plain bytes.
func claimed(diskFormat string) (Format, error) {
	switch diskFormat {
	case "raw", "iso", "ami", "ari", "aki":
		return Raw, nil
	case "vhd":
		return VHD, nil
	case "qcow2", "vmdk", "vhdx", "vdi":
		return Format(diskFormat), nil
	}
	return "", fmt.Errorf("disk format %q can't be served: %w", diskFormat, driver.ErrUnusable)
}

const sector = 512

// Detect tells the format of size bytes by their magic numbers; Raw if there are none.
func Detect(r io.ReaderAt, size int64) (Format, error) {
	head, err := readAt(r, 0, 4096, size)
	if err != nil {
		return "", err
	}
	is := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
	}
	switch {
	case is(0, "QFI\xfb"):
		return Qcow2, nil
	case is(0, "KDMV"), is(0, "COWD"), isDescriptor(head):
		return VMDK, nil
	case is(0, "vhdxfile"):
		return VHDX, nil
	case is(0, "conectix"): // the copy of the footer that dynamic ones begin with
		return VHD, nil
	case is(0x40, "\x7f\x10\xda\xbe"):
		return VDI, nil
	case is(0, "QED\x00"):
		return qed, nil
	case is(0, "WithoutFreeSpace"), is(0, "WithouFreSpacExt"):
		return parallels, nil
	}
	if size >= sector { // fixed ones have it at their end only
		foot, err := readAt(r, size-sector, sector, size)
		if err != nil {
			return "", err
		}
		if bytes.HasPrefix(foot, []byte("conectix")) {
			return VHD, nil
		}
	}
	return Raw, nil
}

// isDescriptor tells a VMDK descriptor, a text that names other files. qemu's probing
// allows comments and blank lines before the mark (block/vmdk.c, vmdk_probe).
func isDescriptor(head []byte) bool {
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case bytes.HasPrefix(bytes.ToLower(line), []byte("# disk descriptor")),
			bytes.HasPrefix(line, []byte("version=1")), bytes.HasPrefix(line, []byte("version=2")),
			bytes.HasPrefix(line, []byte("version=3")):
			return true
		case len(bytes.TrimLeft(line, " ")) == 0, line[0] == '#':
		default:
			return false
		}
	}
	return false
}

// readAt reads up to n bytes; fewer at the end of size.
func readAt(r io.ReaderAt, off int64, n int, size int64) ([]byte, error) {
	if off < 0 || off > size {
		return nil, nil
	}
	b := make([]byte, min(int64(n), size-off))
	if _, err := r.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Inspect checks that an image of format f stands alone, is not encrypted and
// can be read by qemu-img without harm, and returns its virtual size. What does
// not pass wraps driver.ErrUnusable. Only what is needed for that is checked; a corrupt
// image may pass and fail in qemu-img.
func Inspect(r io.ReaderAt, size int64, f Format) (virtual int64, err error) {
	switch f {
	case Raw:
		virtual = size
	case Qcow2:
		virtual, err = inspectQcow2(r, size)
	case VMDK:
		virtual, err = inspectVMDK(r, size)
	case VHD:
		virtual, err = inspectVHD(r, size)
	case VHDX: // qemu reads no differencing ones; qemu-img info tells the size
		virtual = -1
	case VDI:
		virtual, err = inspectVDI(r, size)
	default:
		err = unusable(f, "can't be served")
	}
	if err == nil && (virtual == 0 || virtual < -1) {
		err = unusable(f, "has no size")
	}
	if err != nil {
		return 0, err
	}
	return virtual, nil
}

func unusable(f Format, format string, args ...any) error {
	return fmt.Errorf("%s image %s: %w", f, fmt.Sprintf(format, args...), driver.ErrUnusable)
}

// inspectQcow2 follows docs/interop/qcow2.txt of QEMU.
func inspectQcow2(r io.ReaderAt, size int64) (int64, error) {
	h, err := readAt(r, 0, 4096, size)
	if err != nil {
		return 0, err
	}
	if len(h) < 72 {
		return 0, unusable(Qcow2, "is too short")
	}
	be := binary.BigEndian
	version := be.Uint32(h[4:])
	switch {
	case version != 2 && version != 3:
		return 0, unusable(Qcow2, "has version %d", version)
	case be.Uint64(h[8:]) != 0:
		return 0, unusable(Qcow2, "has a backing file")
	case be.Uint32(h[32:]) != 0:
		return 0, unusable(Qcow2, "is encrypted")
	}
	if version == 3 {
		if len(h) < 104 {
			return 0, unusable(Qcow2, "is too short")
		}
		const dirty, corrupt, dataFile, compression, extendedL2 = 1, 2, 4, 8, 16
		switch features := be.Uint64(h[72:]); {
		case features&dataFile != 0:
			return 0, unusable(Qcow2, "has an external data file")
		case features&corrupt != 0:
			return 0, unusable(Qcow2, "is marked corrupt")
		case features&^(dirty|compression|extendedL2) != 0:
			return 0, unusable(Qcow2, "has unknown features %#x", features)
		}
	}
	return int64(be.Uint64(h[24:])), nil
}

// inspectVHD follows Microsoft's "Virtual Hard Disk Image Format Specification".
func inspectVHD(r io.ReaderAt, size int64) (int64, error) {
	foot, err := readAt(r, size-sector, sector, size)
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(foot, []byte("conectix")) {
		if foot, err = readAt(r, 0, sector, size); err != nil {
			return 0, err
		}
	}
	if len(foot) < sector {
		return 0, unusable(VHD, "is too short")
	}
	const fixed, dynamic = 2, 3
	if kind := binary.BigEndian.Uint32(foot[60:]); kind != fixed && kind != dynamic {
		return 0, unusable(VHD, "is of type %d, which refers to another file", kind)
	}
	// qemu may take the size from the geometry instead; qemu-img info tells.
	return -1, nil
}

// inspectVDI reads what block/vdi.c of QEMU describes.
func inspectVDI(r io.ReaderAt, size int64) (int64, error) {
	h, err := readAt(r, 0, sector, size)
	if err != nil {
		return 0, err
	}
	if len(h) < sector {
		return 0, unusable(VDI, "is too short")
	}
	le := binary.LittleEndian
	const dynamic, static = 1, 2
	if kind := le.Uint32(h[0x4c:]); kind != dynamic && kind != static {
		return 0, unusable(VDI, "is of type %d", kind)
	}
	if strings.Trim(string(h[0x1a8:0x1c8]), "\x00") != "" { // uuid_link, uuid_parent
		return 0, unusable(VDI, "refers to another file")
	}
	return int64(le.Uint64(h[0x170:])), nil
}
