package driver

import "context"

// PoolStatus tells of the node's thin pool.
type PoolStatus struct {
	UUID          string // written into the device when the pool was made
	TotalBytes    uint64
	FreeBytes     uint64 // unallocated data blocks
	MetadataTotal uint64 // bytes
	MetadataFree  uint64 // bytes
	BlockBytes    uint64 // unit of allocation
	// Mode is rw, ro, out_of_data_space or fail, as the kernel says.
	Mode string
}

// ThinInfo tells of one thin device of a pool.
type ThinInfo struct {
	ID          uint32
	MappedBytes uint64 // that it takes in the pool, shared ones among them
	EndBytes    uint64 // behind the last one that is mapped; from there on it reads as zeros
	// Device that stands on it, by its device-mapper name; "" if none does.
	Device string
	// Exceptions: it holds the exceptions of a dm-snapshot, which are nothing without the
	// origin that they were made on.
	Exceptions bool
}

// Pool is the node's dm-thin pool. Thin devices are known by a number of 24 bits
// that the control plane chooses and never uses again on the same pool.
// Reference: Documentation/admin-guide/device-mapper/thin-provisioning.rst.
type Pool interface {
	// Open makes the pool stand, from a volume group, a disk or a file as
	// configured. A wholly blank device is formatted, with a new UUID; one that
	// holds anything else is ErrForeign; one that is missing ErrUnavailable.
	Open(ctx context.Context) (PoolStatus, error)
	Status(ctx context.Context) (PoolStatus, error)
	// Close takes the pool down; ErrBusy while a thin device is active.
	Close(ctx context.Context) error
	// CreateThin makes an empty thin device; one that exists and has no more data than a block
	// is success, with more it is ErrForeign. A pool without free blocks is ErrNoSpace.
	CreateThin(ctx context.Context, id uint32) error
	// SnapThin makes id a snapshot of origin. An active origin must be suspended.
	SnapThin(ctx context.Context, id, origin uint32) error
	// DeleteThin gives the blocks back; a missing one is success, an active one ErrBusy.
	DeleteThin(ctx context.Context, id uint32) error
	// Activate makes the device-mapper device NAME of sectors over thin device id
	// and returns its path. A thin device that was never created is ErrNotFound:
	// it is never created on the way, since that would pass off an empty device
	// as one whose data was lost.
	Activate(ctx context.Context, name, uuid string, id uint32, sectors uint64) (string, error)
	// Grow gives the active device NAME over thin device id a larger size; one that has
	// it is success.
	Grow(ctx context.Context, name string, id uint32, sectors uint64) error
	// ListThins tells of the thin devices whose numbers are wanted, in order, as they are at one
	// moment. It holds up nobody.
	ListThins(ctx context.Context, want func(id uint32) bool) ([]ThinInfo, error)
	// Deactivate takes NAME down and keeps the data.
	Deactivate(ctx context.Context, name string) error
}
