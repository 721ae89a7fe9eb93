package driver

import "context"

// CacheSpec is the read cache of one image on one node.
type CacheSpec struct {
	ImageID  string // UUID; the cache's identity: content is never reused for another image
	Upstream string // path of the read-only device beneath (multipath)
	Sectors  uint64 // of the upstream, a multiple of 8
	// Local holds the paths of the devices that Needs asked for, in its order.
	Local []string
	// Fresh says that Local was created just now or must be taken as lost:
	// whatever it holds is not this cache's.
	Fresh bool
}

// LocalDevice is a small persistent device that a cache driver wants for itself.
type LocalDevice struct {
	Suffix  string // of its name: sb, meta, data
	Sectors uint64
}

// MaxLocalDevices is how many thin numbers are set aside for a cache.
const MaxLocalDevices = 4

// CacheStats since the cache was assembled. Hits and Misses count requests as the
// driver counts them; a driver that cannot tell leaves all at zero.
type CacheStats struct {
	Hits, Misses uint64
	CachedBytes  uint64 // of this image, where known
}

// Cache is a read cache: what is read through its device is kept on a local disk.
// It never writes to the upstream device. Content outlives Stop, and a reboot where the
// driver can tell that it is whole; otherwise the driver starts cold. It never
// returns bytes of another image or another generation of its devices.
type Cache interface {
	// Name is bcache, dm-cache, flashcache or none.
	Name() string
	// Needs lists the local devices wanted for an image of sectors.
	Needs(sectors uint64) []LocalDevice
	// Start assembles the cache and returns the path of the cached device,
	// at least as large as the upstream. One that stands already is returned as it is.
	Start(ctx context.Context, s CacheSpec) (string, error)
	// Find returns the path of a cache that stands, or ErrNotFound.
	Find(ctx context.Context, imageID string) (string, error)
	// Stop takes the device down and lets go of Upstream and Local. ErrBusy while
	// open. With forget the content is dropped too.
	Stop(ctx context.Context, s CacheSpec, forget bool) error
	Stats(ctx context.Context, imageID string) (CacheStats, error)
}
