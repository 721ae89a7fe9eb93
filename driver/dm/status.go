package dm

import (
	"fmt"
	"strconv"
	"strings"
)

// SnapshotStatus is the status line of a snapshot target (snapshot.rst).
type SnapshotStatus struct {
	Used, Total, Metadata uint64 // sectors of the copy-on-write device
	// Invalid says that the content is lost: the device ran full (Overflow too), or
	// an I/O error hit its metadata.
	Invalid, Overflow, MergeFailed bool
}

// ParseSnapshotStatus reads "USED/TOTAL METADATA", Invalid, Overflow or Merge failed.
// The kernel says Unknown where it can't tell the numbers; they are 0 then.
func ParseSnapshotStatus(params string) (SnapshotStatus, error) {
	switch strings.TrimSpace(params) {
	case "Invalid":
		return SnapshotStatus{Invalid: true}, nil
	case "Overflow":
		return SnapshotStatus{Invalid: true, Overflow: true}, nil
	case "Merge failed":
		return SnapshotStatus{MergeFailed: true}, nil
	case "Unknown":
		return SnapshotStatus{}, nil
	}
	var st SnapshotStatus
	a := args{fields: strings.Fields(params)}
	st.Used, st.Total = a.pair()
	st.Metadata = a.num()
	return st, a.status("snapshot", params)
}

// Modes of a thin pool.
const (
	PoolReadWrite      = "rw"
	PoolReadOnly       = "ro"
	PoolOutOfDataSpace = "out_of_data_space"
	PoolFailed         = "fail"
)

// ThinPoolStatus is the status line of a thin-pool target (thin-provisioning.rst).
type ThinPoolStatus struct {
	Transaction            uint64
	UsedMetadata, Metadata uint64 // blocks of 4 KiB
	UsedData, Data         uint64 // blocks of the pool's block size
	HeldRoot               string // "-" or the block of the metadata snapshot
	Mode                   string // rw, ro, out_of_data_space or fail
	Discard                string // discard_passdown, no_discard_passdown or ignore_discard
	ErrorIfNoSpace         bool
	NeedsCheck             bool
	MetadataLowWater       uint64 // blocks of 4 KiB, 0 where the kernel doesn't tell
}

// ParseThinPoolStatus reads "TRANSACTION META/META DATA/DATA ROOT MODE DISCARD
// NOSPACE CHECK LOWWATER", or Fail or Error.
func ParseThinPoolStatus(params string) (ThinPoolStatus, error) {
	switch strings.TrimSpace(params) {
	case "Fail", "Error":
		return ThinPoolStatus{Mode: PoolFailed}, nil
	}
	var st ThinPoolStatus
	a := args{fields: strings.Fields(params)}
	st.Transaction = a.num()
	st.UsedMetadata, st.Metadata = a.pair()
	st.UsedData, st.Data = a.pair()
	st.HeldRoot = a.str()
	switch st.Mode = a.str(); st.Mode {
	case PoolReadWrite, PoolReadOnly, PoolOutOfDataSpace:
	default:
		a.fail()
	}
	st.Discard = a.str()
	switch a.str() {
	case "error_if_no_space":
		st.ErrorIfNoSpace = true
	case "queue_if_no_space":
	default:
		a.fail()
	}
	// Older kernels end here.
	if a.more() {
		st.NeedsCheck = a.str() == "needs_check"
	}
	if a.more() {
		st.MetadataLowWater = a.num()
	}
	a.fields = nil // newer ones may say more
	return st, a.status("thin-pool", params)
}

// ThinStatus is the status line of a thin target.
type ThinStatus struct {
	Mapped uint64 // sectors
	Failed bool   // the pool has failed; Mapped is unknown
}

// ParseThinStatus reads "MAPPED HIGHEST", Fail, Error or "-" (no data device).
func ParseThinStatus(params string) (ThinStatus, error) {
	switch strings.TrimSpace(params) {
	case "Fail", "Error":
		return ThinStatus{Failed: true}, nil
	case "-":
		return ThinStatus{}, nil
	}
	a := args{fields: strings.Fields(params)}
	st := ThinStatus{Mapped: a.num()}
	if f := a.str(); f != "-" { // the highest mapped sector, if any
		if _, err := strconv.ParseUint(f, 10, 64); err != nil {
			a.fail()
		}
	}
	return st, a.status("thin", params)
}

// CacheStatus is the status line of a cache target (cache.rst).
type CacheStatus struct {
	MetadataBlockSectors   uint64
	UsedMetadata, Metadata uint64 // metadata blocks
	BlockSectors           uint64
	UsedBlocks, Blocks     uint64
	ReadHits, ReadMisses   uint64
	WriteHits, WriteMisses uint64
	Demotions, Promotions  uint64
	Dirty                  uint64 // blocks
	Mode                   string // writethrough, passthrough or writeback
	Policy                 string
	ReadOnly               bool // of the metadata
	NeedsCheck             bool
	Failed                 bool // nothing else is known
}

// ParseCacheStatus reads dm-cache's status, or Fail or Error.
func ParseCacheStatus(params string) (CacheStatus, error) {
	switch strings.TrimSpace(params) {
	case "Fail", "Error":
		return CacheStatus{Failed: true}, nil
	}
	var st CacheStatus
	a := args{fields: strings.Fields(params)}
	st.MetadataBlockSectors = a.num()
	st.UsedMetadata, st.Metadata = a.pair()
	st.BlockSectors = a.num()
	st.UsedBlocks, st.Blocks = a.pair()
	for _, to := range []*uint64{
		&st.ReadHits, &st.ReadMisses, &st.WriteHits, &st.WriteMisses,
		&st.Demotions, &st.Promotions, &st.Dirty,
	} {
		*to = a.num()
	}
	for range a.count() {
		switch f := a.str(); f {
		case "writethrough", "passthrough", "writeback":
			st.Mode = f
		}
	}
	for range a.count() { // core arguments
		a.str()
	}
	st.Policy = a.str()
	for range a.count() {
		a.str()
	}
	st.ReadOnly = a.str() == "ro"
	if a.more() {
		st.NeedsCheck = a.str() == "needs_check"
	}
	a.fields = nil
	return st, a.status("cache", params)
}

// MultipathPath is one path of a multipath target.
type MultipathPath struct {
	Device   DevNumber
	Active   bool // A; F is failed
	Failures uint64
}

// MultipathStatus is the status line of a multipath target (dm-mpath.c).
type MultipathStatus struct {
	// QueueIO says that I/O waits for a path to be initialised, as it does before
	// the first request. That I/O waits for want of a path shows in no path being
	// usable while the table says queue_if_no_path.
	QueueIO bool
	Paths   []MultipathPath
}

// Usable tells whether any path is active.
func (m MultipathStatus) Usable() bool {
	for _, p := range m.Paths {
		if p.Active {
			return true
		}
	}
	return false
}

// ParseMultipathStatus reads the features, the hardware handler's and each group's status.
func ParseMultipathStatus(params string) (MultipathStatus, error) {
	var st MultipathStatus
	a := args{fields: strings.Fields(params)}
	for i := range a.count() {
		if n := a.num(); i == 0 {
			st.QueueIO = n != 0
		}
	}
	for range a.count() {
		a.str()
	}
	groups := a.num()
	a.num() // the group that is tried next
	for g := uint64(0); g < groups && !a.bad; g++ {
		a.str() // A active, E enabled, D disabled
		for range a.count() {
			a.str()
		}
		paths := a.num()
		perPath := a.num()
		for p := uint64(0); p < paths && !a.bad; p++ {
			dev, ok := parseNumber(a.str())
			if !ok {
				a.fail()
			}
			path := MultipathPath{Device: dev}
			switch a.str() {
			case "A":
				path.Active = true
			case "F":
			default:
				a.fail()
			}
			path.Failures = a.num()
			for i := uint64(0); i < perPath && !a.bad; i++ {
				a.str()
			}
			st.Paths = append(st.Paths, path)
		}
	}
	return st, a.status("multipath", params)
}

// pair reads USED/TOTAL.
func (a *args) pair() (used, total uint64) {
	u, t, _ := strings.Cut(a.str(), "/")
	used, err1 := strconv.ParseUint(u, 10, 64)
	total, err2 := strconv.ParseUint(t, 10, 64)
	if err1 != nil || err2 != nil {
		a.fail()
	}
	return used, total
}

func (a *args) status(typ, params string) error {
	if a.bad || len(a.fields) > 0 {
		return fmt.Errorf("%w: status of a %s target: %q", errParams, typ, params)
	}
	return nil
}
