package image

import (
	"encoding/binary"
	"io"
	"math"
	"strings"
)

// inspectVMDK follows VMware's "Virtual Disk Format 5.0": one sparse extent with an
// embedded descriptor is allowed, as exported by all tools for transport. All other
// kinds are descriptors that name files.
func inspectVMDK(r io.ReaderAt, size int64) (int64, error) {
	h, err := readAt(r, 0, sector, size)
	if err != nil {
		return 0, err
	}
	if len(h) < sector || string(h[:4]) != "KDMV" {
		return 0, unusable(VMDK, "is no single sparse file")
	}
	le := binary.LittleEndian
	capacity, at, n := le.Uint64(h[12:]), le.Uint64(h[28:]), le.Uint64(h[36:]) // sectors
	const most = 1 << 11                                                       // 1 MiB, qemu's limit
	switch {
	case capacity == 0 || capacity > math.MaxInt64/sector:
		// 0 makes qemu follow the descriptor's extents to other files.
		return 0, unusable(VMDK, "has no sound capacity")
	case at == 0 || n == 0 || n > most || at > uint64(size)/sector:
		return 0, unusable(VMDK, "has no sound descriptor")
	}
	text, err := readAt(r, int64(at)*sector, int(n)*sector, size)
	if err != nil {
		return 0, err
	}
	if err := inspectDescriptor(strings.TrimRight(string(text), "\x00")); err != nil {
		return 0, err
	}
	const atEnd = math.MaxUint64 // the grain directory's place is in a footer
	if le.Uint64(h[56:]) == atEnd {
		// qemu takes the header from there: it must say the same.
		foot, err := readAt(r, size-2*sector, sector, size)
		if err != nil {
			return 0, err
		}
		if len(foot) < sector || string(foot[:4]) != "KDMV" || le.Uint64(foot[12:]) != capacity ||
			le.Uint64(foot[28:]) != at || le.Uint64(foot[36:]) != n {
			return 0, unusable(VMDK, "has a footer other than its header")
		}
	}
	return int64(capacity) * sector, nil
}

func inspectDescriptor(text string) error {
	if strings.Contains(text, "\x00") {
		return unusable(VMDK, "has a malformed descriptor")
	}
	kind, extents := "", 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		lower := strings.ToLower(line)
		key, value, isPair := strings.Cut(lower, "=")
		fields := strings.Fields(lower)
		switch {
		case line == "" || line[0] == '#':
		case len(fields) > 2 && (fields[0] == "rw" || fields[0] == "rdonly" || fields[0] == "noaccess"):
			if fields[2] != "sparse" {
				return unusable(VMDK, "has an extent of type %s", fields[2])
			}
			extents++
		case isPair && strings.TrimSpace(key) == "createtype":
			if kind != "" {
				return unusable(VMDK, "has two types")
			}
			kind = strings.Trim(strings.TrimSpace(value), `"`)
		case isPair && strings.TrimSpace(key) == "parentcid":
			if strings.TrimSpace(value) != "ffffffff" {
				return unusable(VMDK, "has a parent")
			}
		case isPair && strings.HasPrefix(strings.TrimSpace(key), "parentfile"):
			return unusable(VMDK, "has a parent")
		case isPair: // geometry and the like
		default:
			return unusable(VMDK, "has a descriptor with a line that is not understood")
		}
	}
	if kind != "monolithicsparse" && kind != "streamoptimized" {
		return unusable(VMDK, "is of type %q", kind)
	}
	if extents != 1 {
		return unusable(VMDK, "has %d extents", extents)
	}
	return nil
}
