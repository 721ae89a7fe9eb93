package bcache

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

const (
	// DataOffset is where an image's data begins on its backing device, in sectors:
	// the least that bcache allows.
	DataOffset = 16
	// BlockSectors is the unit of caching and the logical block size of the cached
	// device; that of the backing devices must be the set's.
	BlockSectors = 8
	// LocalSectors is the size of the local device that holds the superblock: 64 KiB,
	// one block of a thin pool.
	LocalSectors = 128

	// SetLabel marks the cache devices that this package formatted. Any other
	// is somebody else's.
	SetLabel = "vmthunder-cache"

	// MinCacheBytes is the smallest cache device that can be formatted.
	MinCacheBytes = 64 << 20

	maxBucketSectors = 1024 // 512 KiB, what make-bcache uses
	minBucketSectors = 128
	// The kernel refuses a cache device with fewer than 513 buckets: it keeps one
	// in 1024 in reserve, rounded to a power of two (cache_alloc).
	wantBuckets = 1024
)

// Mode of a backing device's cache (BDEV_CACHE_MODE, flags bits 0-3).
const modeWritearound = 2

// newBacking is the superblock of a new generation of an image's backing device.
//
// A cache set knows the content of a backing device by the device's UUID alone. So each
// generation gets a random one: whatever a set still holds of an earlier generation
// or of another image can't be found under it. The image's id is in the label, where
// its 32 digits just fit.
func newBacking(image, generation uuid.UUID) Superblock {
	return Superblock{
		Version:      VersionBacking,
		UUID:         generation,
		Label:        label(image),
		Flags:        modeWritearound,
		DataOffset:   DataOffset,
		BlockSectors: BlockSectors,
		// make-bcache writes these for both kinds of device.
		BucketSectors: maxBucketSectors,
	}
}

// label is the image's id without dashes.
func label(image uuid.UUID) string { return hex.EncodeToString(image[:]) }

// newCache is the superblock of a new, empty cache device that is a set by itself.
// The set's UUID goes into the magic numbers of everything in it, so that nothing left from
// an earlier set on the same disk can be taken for its own.
func newCache(bytes int64, set, device uuid.UUID) (Superblock, error) {
	if bytes < MinCacheBytes {
		return Superblock{}, fmt.Errorf("cache device of %d MiB is too small: at least %d MiB", bytes>>20, MinCacheBytes>>20)
	}
	sectors := uint64(bytes) / 512
	bucket := uint64(maxBucketSectors)
	for bucket > minBucketSectors && sectors/bucket < wantBuckets {
		bucket /= 2
	}
	return Superblock{
		Version:       VersionCache,
		UUID:          device,
		Set:           set,
		Label:         SetLabel,
		Buckets:       sectors / bucket,
		BlockSectors:  BlockSectors,
		BucketSectors: uint16(bucket),
		InSet:         1,
		// The superblock ends at sector 16 and must end before this.
		FirstBucket: 1,
	}, nil
}
