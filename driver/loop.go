package driver

import "context"

// LoopDevice is a bound loop device.
type LoopDevice struct {
	Path     string // /dev/loopN
	Backing  string // path of the file or block device beneath, as the kernel has it
	ReadOnly bool
	Bytes    uint64
}

// LoopOptions of a loop device to be bound.
type LoopOptions struct {
	ReadOnly bool
	// DirectIO bypasses the page cache of the backing. The page layer wants it
	// off: the page cache is the point.
	DirectIO bool
	// ReadAheadSectors of the device, in sectors; 0 turns read-ahead off.
	ReadAheadSectors uint64
}

// Loop binds loop devices (drivers/block/loop.c; ioctls of loop(4)).
type Loop interface {
	// Attach binds backing to a free loop device. If one is bound to the same backing
	// (same device and inode) with the same mode already, it is returned.
	Attach(ctx context.Context, backing string, o LoopOptions) (LoopDevice, error)
	// AttachAll returns n such devices in order of their numbers, of those that are bound
	// already the first, and binds what is missing, all or none.
	AttachAll(ctx context.Context, backing string, o LoopOptions, n int) ([]LoopDevice, error)
	// Find returns the loop device bound to backing, or ErrNotFound.
	Find(ctx context.Context, backing string) (LoopDevice, error)
	// Detach unbinds and returns when the kernel has let go of the backing.
	// An unbound or missing device is success; ErrBusy while it is open.
	Detach(ctx context.Context, path string) error
	List(ctx context.Context) ([]LoopDevice, error)
}
