package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// The kernel writes these structures in its own byte order.
var order = binary.NativeEndian

// Sizes and offsets of include/uapi/linux/dm-ioctl.h, the same on all 64-bit machines.
const (
	headerLen = 312 // struct dm_ioctl
	offName   = 48
	offUUID   = 176
	nameLen   = 128 // with the final NUL
	uuidLen   = 129 // with the final NUL
	specLen   = 40  // struct dm_target_spec
	typeLen   = 16  // with the final NUL
)

// errCodec: the kernel's answer is not of the form that its header file gives.
var errCodec = errors.New("malformed answer from device-mapper")

// header is struct dm_ioctl without the fields that the codec fills in.
type header struct {
	targetCount uint32
	openCount   int32
	flags       uint32
	eventNr     uint32
	dev         uint64 // new_encode_dev: unix.Major and unix.Minor take it apart
	name, uuid  string
}

// marshal writes h and payload into a buffer of size bytes for the kernel.
func (h header) marshal(payload []byte, size int) ([]byte, error) {
	if len(h.name) >= nameLen || len(h.uuid) >= uuidLen {
		return nil, fmt.Errorf("device-mapper name %q or UUID %q is too long", h.name, h.uuid)
	}
	buf := make([]byte, max(size, headerLen+len(payload)))
	order.PutUint32(buf[0:], 4) // the interface's version: 4.0.0 is enough for every command
	order.PutUint32(buf[12:], uint32(len(buf)))
	order.PutUint32(buf[16:], headerLen)
	order.PutUint32(buf[20:], h.targetCount)
	order.PutUint32(buf[24:], uint32(h.openCount))
	order.PutUint32(buf[28:], h.flags)
	order.PutUint32(buf[32:], h.eventNr)
	order.PutUint64(buf[40:], h.dev)
	copy(buf[offName:], h.name)
	copy(buf[offUUID:], h.uuid)
	copy(buf[headerLen:], payload)
	return buf, nil
}

// unmarshal reads what the kernel put into buf and returns its payload.
func unmarshal(buf []byte) (header, []byte, error) {
	if len(buf) < headerLen {
		return header{}, nil, fmt.Errorf("%w: %d bytes", errCodec, len(buf))
	}
	h := header{
		targetCount: order.Uint32(buf[20:]),
		openCount:   int32(order.Uint32(buf[24:])),
		flags:       order.Uint32(buf[28:]),
		eventNr:     order.Uint32(buf[32:]),
		dev:         order.Uint64(buf[40:]),
		name:        cString(buf[offName : offName+nameLen]),
		uuid:        cString(buf[offUUID : offUUID+uuidLen]),
	}
	size, start := uint64(order.Uint32(buf[12:])), uint64(order.Uint32(buf[16:]))
	// A command without data leaves data_size at the header's used part.
	if size > uint64(len(buf)) {
		return header{}, nil, fmt.Errorf("%w: %d bytes announced in %d", errCodec, size, len(buf))
	}
	if start > size {
		start = size
	}
	return h, buf[start:size], nil
}

// cString returns what stands before the first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// align8 rounds up to a multiple of 8.
func align8(n int) int { return (n + 7) &^ 7 }

// marshalTable writes a table in the form of DM_TABLE_LOAD, in which next is the
// distance from a struct dm_target_spec to the following one.
func marshalTable(t driver.Table) ([]byte, error) {
	var out []byte
	for _, s := range t {
		if len(s.Type) == 0 || len(s.Type) >= typeLen {
			return nil, fmt.Errorf("device-mapper target type %q is too long or empty", s.Type)
		}
		n := align8(specLen + len(s.Params) + 1)
		b := make([]byte, n)
		order.PutUint64(b[0:], s.Start)
		order.PutUint64(b[8:], s.Length)
		order.PutUint32(b[20:], uint32(n))
		copy(b[24:], s.Type)
		copy(b[specLen:], s.Params)
		out = append(out, b...)
	}
	return out, nil
}

// unmarshalTable reads the answer of DM_TABLE_STATUS, in which next is the
// distance from the beginning of the payload.
func unmarshalTable(b []byte, count uint32) (driver.Table, error) {
	var t driver.Table
	pos := uint64(0)
	for range count {
		if pos > uint64(len(b)) || uint64(len(b))-pos < specLen {
			return nil, fmt.Errorf("%w: table ends after %d of %d targets", errCodec, len(t), count)
		}
		s := b[pos:]
		next := uint64(order.Uint32(s[20:]))
		end := uint64(len(b))
		if next >= pos+specLen && next < end {
			end = next
		} else if next < pos+specLen && len(t)+1 < int(count) {
			return nil, fmt.Errorf("%w: target %d points to %d", errCodec, len(t), next)
		}
		t = append(t, driver.Segment{
			Start:  order.Uint64(s[0:]),
			Length: order.Uint64(s[8:]),
			Type:   cString(s[24 : 24+typeLen]),
			Params: trimParams(cString(b[pos+specLen : end])),
		})
		pos = next
	}
	return t, nil
}

// trimParams takes the blank away that many targets write at the end of their line.
func trimParams(s string) string { return string(bytes.TrimSpace([]byte(s))) }

// listed is one entry of DM_LIST_DEVICES.
type listed struct {
	dev  uint64
	name string
}

// unmarshalNames reads the answer of DM_LIST_DEVICES (struct dm_name_list).
// What the kernel puts behind the name (event number, UUID) depends on its
// version and isn't read.
func unmarshalNames(b []byte) ([]listed, error) {
	var names []listed
	for pos := uint64(0); ; {
		if uint64(len(b)) < pos+12 {
			if len(names) == 0 && len(b) < 12 {
				return nil, nil
			}
			return nil, fmt.Errorf("%w: device list ends at %d of %d bytes", errCodec, pos, len(b))
		}
		dev, next := order.Uint64(b[pos:]), uint64(order.Uint32(b[pos+8:]))
		if dev == 0 { // how an empty list looks
			return names, nil
		}
		end := uint64(len(b))
		if next != 0 {
			if next < 13 || pos+next > end {
				return nil, fmt.Errorf("%w: device list points to %d of %d bytes", errCodec, pos+next, len(b))
			}
			end = pos + next
		}
		names = append(names, listed{dev: dev, name: cString(b[pos+12 : end])})
		if next == 0 {
			return names, nil
		}
		pos += next
	}
}

// TargetVersion is a target type the kernel has.
type TargetVersion struct {
	Type                string
	Major, Minor, Patch uint32
}

// unmarshalVersions reads the answer of DM_LIST_VERSIONS (struct dm_target_versions).
func unmarshalVersions(b []byte) ([]TargetVersion, error) {
	var out []TargetVersion
	for pos := uint64(0); ; {
		if uint64(len(b)) < pos+16 {
			return nil, fmt.Errorf("%w: list of targets ends at %d of %d bytes", errCodec, pos, len(b))
		}
		v := b[pos:]
		next, end := uint64(order.Uint32(v)), uint64(len(b))
		if next != 0 {
			if next < 17 || pos+next > end {
				return nil, fmt.Errorf("%w: list of targets points to %d of %d bytes", errCodec, pos+next, len(b))
			}
			end = pos + next
		}
		out = append(out, TargetVersion{
			Type:  cString(b[pos+16 : end]),
			Major: order.Uint32(v[4:]), Minor: order.Uint32(v[8:]), Patch: order.Uint32(v[12:]),
		})
		if next == 0 {
			return out, nil
		}
		pos += next
	}
}

// DevNumber is a block device's number.
type DevNumber struct{ Major, Minor uint32 }

// String is how device-mapper tables write a device, as major:minor.
func (d DevNumber) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// devNumber takes the kernel's 64-bit form apart.
func devNumber(dev uint64) DevNumber {
	return DevNumber{unix.Major(dev), unix.Minor(dev)}
}

// unmarshalDeps reads the answer of DM_TABLE_DEPS (struct dm_target_deps).
func unmarshalDeps(b []byte) ([]DevNumber, error) {
	if len(b) < 8 {
		return nil, nil // a device without a table
	}
	n := uint64(order.Uint32(b))
	if uint64(len(b)-8)/8 < n {
		return nil, fmt.Errorf("%w: %d dependencies in %d bytes", errCodec, n, len(b))
	}
	deps := make([]DevNumber, 0, n)
	for i := range n {
		deps = append(deps, devNumber(order.Uint64(b[8+8*i:])))
	}
	return deps, nil
}

// marshalMessage writes struct dm_target_msg.
func marshalMessage(sector uint64, message string) []byte {
	b := make([]byte, align8(8+len(message)+1))
	order.PutUint64(b, sector)
	copy(b[8:], message)
	return b
}
