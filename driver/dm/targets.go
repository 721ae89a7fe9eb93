package dm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// errParams: a target's parameters are not of the form that its documentation gives.
var errParams = errors.New("unexpected target parameters")

// NewTable puts segments one behind the other, whatever their Start was.
func NewTable(segments ...driver.Segment) driver.Table {
	t := make(driver.Table, 0, len(segments))
	var at uint64
	for _, s := range segments {
		s.Start = at
		at += s.Length
		t = append(t, s)
	}
	return t
}

// line makes a segment that starts at 0; [NewTable] puts it where it belongs.
// Paths among the arguments must have gone through escape.
func line(sectors uint64, typ string, args ...any) driver.Segment {
	return driver.Segment{Length: sectors, Type: typ, Params: strings.TrimSuffix(fmt.Sprintln(args...), "\n")}
}

// Zero reads as zeros and swallows writes (zero.rst).
func Zero(sectors uint64) driver.Segment { return driver.Segment{Length: sectors, Type: "zero"} }

// Error fails all I/O.
func Error(sectors uint64) driver.Segment { return driver.Segment{Length: sectors, Type: "error"} }

// LinearTarget maps onto a part of a device (linear.rst).
type LinearTarget struct {
	Device string // path or major:minor
	Offset uint64 // sectors
}

// Segment of sectors.
func (l LinearTarget) Segment(sectors uint64) driver.Segment {
	return line(sectors, "linear", escape(l.Device), l.Offset)
}

// Linear is short for a [LinearTarget]'s segment: sectors of device from offset on.
func Linear(sectors uint64, device string, offset uint64) driver.Segment {
	return LinearTarget{Device: device, Offset: offset}.Segment(sectors)
}

// ParseLinear is the reverse of [LinearTarget.Segment].
func ParseLinear(s driver.Segment) (LinearTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := LinearTarget{Device: a.str(), Offset: a.num()}
	return t, a.done(s, "linear")
}

// MultipathTarget sends I/O down one path, or holds it back while there is none
// (drivers/md/dm-mpath.c). The path must be request-based: a disk or a loop device,
// no other device-mapper device.
type MultipathTarget struct {
	Device        string // path or major:minor; "" for no path at all
	Selector      string // round-robin (if "") or service-time
	QueueIfNoPath bool
}

// Segment of sectors.
func (m MultipathTarget) Segment(sectors uint64) driver.Segment {
	features := []any{0}
	if m.QueueIfNoPath {
		features = []any{1, "queue_if_no_path"}
	}
	if m.Device == "" {
		return line(sectors, "multipath", append(features, 0, 0, 0)...)
	}
	selector := m.Selector
	if selector == "" {
		selector = "round-robin"
	}
	// No hardware handler; one group, which is tried first; its selector without
	// arguments; one path with as many arguments as the kernel's table shows:
	// a repeat count and, for service-time, a relative throughput.
	path := []any{1, escape(m.Device), 1}
	if selector == "service-time" {
		path = []any{2, escape(m.Device), 1, 1}
	}
	return line(sectors, "multipath", append(append(features, 0, 1, 1, selector, 0, 1), path...)...)
}

// ParseMultipath is the reverse of [MultipathTarget.Segment].
func ParseMultipath(s driver.Segment) (MultipathTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	var t MultipathTarget
	for range a.count() {
		t.QueueIfNoPath = a.str() == "queue_if_no_path" || t.QueueIfNoPath
	}
	for range a.count() { // hardware handler, which a SCSI device may bring along
		a.str()
	}
	groups := a.num()
	a.num() // the group that is tried next
	if groups > 0 {
		t.Selector = a.str()
		for range a.count() {
			a.str()
		}
		paths := a.num()
		perPath := a.count()
		t.Device = a.str()
		for range perPath {
			a.str()
		}
		if groups != 1 || paths != 1 {
			a.fail()
		}
	}
	return t, a.done(s, "multipath")
}

// SwitchTarget spreads regions of one size over devices, in turn; a region stands at
// the same place of its device (switch.rst; drivers/md/dm-switch.c,
// initialize_region_table).
type SwitchTarget struct {
	Devices       []string // paths or major:minor, at least one
	RegionSectors uint64
}

// Segment of sectors.
func (t SwitchTarget) Segment(sectors uint64) driver.Segment {
	a := []any{len(t.Devices), t.RegionSectors, 0}
	for _, d := range t.Devices {
		a = append(a, escape(d), 0)
	}
	return line(sectors, "switch", a...)
}

// ParseSwitch is the reverse of [SwitchTarget.Segment]. Devices with an offset are an error.
func ParseSwitch(s driver.Segment) (SwitchTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	n := a.count()
	t := SwitchTarget{RegionSectors: a.num()}
	for range a.count() {
		a.str()
	}
	for range n {
		t.Devices = append(t.Devices, a.str())
		if a.num() != 0 {
			a.fail()
		}
	}
	if n == 0 || t.RegionSectors == 0 {
		a.fail()
	}
	return t, a.done(s, "switch")
}

// SnapshotTarget is copy-on-write over a device (snapshot.rst).
type SnapshotTarget struct {
	Origin, Cow  string // path or major:minor
	Transient    bool   // the content is lost with the device (N); else it is kept on Cow (P)
	ChunkSectors uint64 // of a new Cow; a power of two, at least a page; 8 is 4 KiB
}

// Segment of sectors.
func (t SnapshotTarget) Segment(sectors uint64) driver.Segment {
	mode := "P"
	if t.Transient {
		mode = "N"
	}
	return line(sectors, "snapshot", escape(t.Origin), escape(t.Cow), mode, t.ChunkSectors)
}

// ParseSnapshot is the reverse of [SnapshotTarget.Segment].
func ParseSnapshot(s driver.Segment) (SnapshotTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := SnapshotTarget{Origin: a.str(), Cow: a.str()}
	switch a.str() {
	case "P", "PO":
	case "N":
		t.Transient = true
	default:
		a.fail()
	}
	t.ChunkSectors = a.num()
	return t, a.done(s, "snapshot")
}

// ThinPoolTarget is a pool of blocks (thin-provisioning.rst).
type ThinPoolTarget struct {
	Metadata, Data string // path or major:minor
	BlockSectors   uint64 // 128 to 2097152, a multiple of 128
	LowWater       uint64 // free blocks at which the kernel raises an event
	// SkipBlockZeroing lets a new block show what was on the disk before: only for
	// pools all of whose users may see each other's data.
	SkipBlockZeroing bool
	// ErrorIfNoSpace fails writes to a full pool, which are held back otherwise.
	ErrorIfNoSpace bool
}

// Segment of sectors.
func (p ThinPoolTarget) Segment(sectors uint64) driver.Segment {
	var features []any
	if p.SkipBlockZeroing {
		features = append(features, "skip_block_zeroing")
	}
	if p.ErrorIfNoSpace {
		features = append(features, "error_if_no_space")
	}
	a := []any{escape(p.Metadata), escape(p.Data), p.BlockSectors, p.LowWater, len(features)}
	return line(sectors, "thin-pool", append(a, features...)...)
}

// ParseThinPool is the reverse of [ThinPoolTarget.Segment]; features it does not know are passed over.
func ParseThinPool(s driver.Segment) (ThinPoolTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := ThinPoolTarget{Metadata: a.str(), Data: a.str(), BlockSectors: a.num(), LowWater: a.num()}
	if a.more() {
		for range a.count() {
			switch a.str() {
			case "skip_block_zeroing":
				t.SkipBlockZeroing = true
			case "error_if_no_space":
				t.ErrorIfNoSpace = true
			}
		}
	}
	return t, a.done(s, "thin-pool")
}

// ThinTarget is a device of a pool.
type ThinTarget struct {
	Pool string // path or major:minor of the pool's device
	ID   uint32 // 24 bits
}

// Segment of sectors.
func (t ThinTarget) Segment(sectors uint64) driver.Segment {
	return line(sectors, "thin", escape(t.Pool), t.ID)
}

// ParseThin is the reverse of [ThinTarget.Segment]. An external origin is an error.
func ParseThin(s driver.Segment) (ThinTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := ThinTarget{Pool: a.str()}
	id := a.num()
	if id >= 1<<24 {
		a.fail()
	}
	t.ID = uint32(id)
	return t, a.done(s, "thin")
}

// CacheTarget is dm-cache (cache.rst).
type CacheTarget struct {
	Metadata, Cache, Origin string // path or major:minor
	BlockSectors            uint64 // 64 to 2097152, a multiple of 64
	Mode                    string // writethrough or passthrough; writeback is never wanted here
	Policy                  string // smq if ""
}

// Segment of sectors.
func (c CacheTarget) Segment(sectors uint64) driver.Segment {
	policy := c.Policy
	if policy == "" {
		policy = "smq"
	}
	return line(sectors, "cache", escape(c.Metadata), escape(c.Cache), escape(c.Origin), c.BlockSectors, 1, c.Mode, policy, 0)
}

// ParseCache is the reverse of [CacheTarget.Segment]. Mode is the first feature
// of the three modes; other features and policy arguments are passed over.
func ParseCache(s driver.Segment) (CacheTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := CacheTarget{Metadata: a.str(), Cache: a.str(), Origin: a.str(), BlockSectors: a.num()}
	for range a.count() {
		switch f := a.str(); f {
		case "writethrough", "passthrough", "writeback":
			t.Mode = f
		}
	}
	t.Policy = a.str()
	for range a.count() {
		a.str()
	}
	return t, a.done(s, "cache")
}

// args reads parameters one after the other; a missing or wrong one makes done fail.
type args struct {
	fields []string
	bad    bool
}

func (a *args) more() bool { return len(a.fields) > 0 }
func (a *args) fail()      { a.bad = true }

func (a *args) str() string {
	if len(a.fields) == 0 {
		a.bad = true
		return ""
	}
	s := a.fields[0]
	a.fields = a.fields[1:]
	return s
}

func (a *args) num() uint64 {
	n, err := strconv.ParseUint(a.str(), 10, 64)
	if err != nil {
		a.bad = true
	}
	return n
}

// count is a num that announces that many fields.
func (a *args) count() int {
	n := a.num()
	if n > uint64(len(a.fields)) {
		a.bad = true
		return 0
	}
	return int(n)
}

// done tells whether s is of type typ and all its parameters were read.
func (a *args) done(s driver.Segment, typ string) error {
	if s.Type != typ || a.bad || len(a.fields) > 0 {
		return fmt.Errorf("%w: %s %q, wanted a %s target", errParams, s.Type, s.Params, typ)
	}
	return nil
}
