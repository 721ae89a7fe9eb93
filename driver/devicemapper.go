package driver

import "context"

// Segment is one line of a device-mapper table. Params is what follows the
// target's name in dmsetup(8); package driver/dm makes it from typed values.
type Segment struct {
	Start  uint64 // sectors
	Length uint64 // sectors
	Type   string // linear, zero, multipath, switch, snapshot, thin-pool, thin, cache, flashcache, error
	Params string
}

// Table is the mapping of a device, in order of Start and without holes.
type Table []Segment

// Sectors returns the size of the device that t makes.
func (t Table) Sectors() uint64 {
	if len(t) == 0 {
		return 0
	}
	last := t[len(t)-1]
	return last.Start + last.Length
}

// Device is a device-mapper device that stands. One with neither a live nor an
// inactive table (half made) has Sectors 0.
type Device struct {
	Name      string // unique on the node, at most 127 bytes
	UUID      string // at most 128 bytes; see [DeviceUUID]
	Path      string // /dev/mapper/NAME
	Major     uint32
	Minor     uint32
	OpenCount int
	ReadOnly  bool
	Suspended bool
	Live      bool // has a live table
}

// CreateOptions of a device.
type CreateOptions struct {
	UUID     string
	ReadOnly bool
}

// ReloadOptions of the exchange of a live table.
type ReloadOptions struct {
	ReadOnly bool
	// NoFlush leaves queued I/O queued while suspended (multipath without a
	// path would wait for ever otherwise); NoLockFS leaves file systems on the
	// device alone.
	NoFlush, NoLockFS bool
}

// DeviceMapper speaks to the kernel's device-mapper, by ioctl or through dmsetup.
// Reference: the kernel's Documentation/admin-guide/device-mapper.
type DeviceMapper interface {
	// Create makes a device with a live table and its node /dev/mapper/NAME.
	// A device of this name with the same UUID, table and mode is success; any
	// other is ErrExists. On failure nothing of the name is left.
	Create(ctx context.Context, name string, t Table, o CreateOptions) (Device, error)
	// Reload exchanges the live table: load, suspend, resume. If the resume
	// can't be done the old table is live again.
	Reload(ctx context.Context, name string, t Table, o ReloadOptions) error
	// Remove takes the device down, with its node. ErrBusy while open.
	Remove(ctx context.Context, name string) error
	Suspend(ctx context.Context, name string, o ReloadOptions) error
	Resume(ctx context.Context, name string) error
	// Message sends to the target at sector and returns its answer, if it gives one.
	Message(ctx context.Context, name string, sector uint64, message string) (string, error)
	// Get returns one device, ErrNotFound if it does not stand.
	Get(ctx context.Context, name string) (Device, error)
	// List returns every device whose name begins with prefix.
	List(ctx context.Context, prefix string) ([]Device, error)
	// Table and Status return the live table and each target's status line
	// (in Params); devices in tables are "major:minor".
	Table(ctx context.Context, name string) (Table, error)
	Status(ctx context.Context, name string) (Table, error)
	// Targets returns the target types the kernel has now, with versions,
	// loading nothing. HasTarget tries to load the module of a missing one.
	HasTarget(ctx context.Context, targetType string) (bool, error)
}
