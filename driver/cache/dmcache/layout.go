package dmcache

import "github.com/vmthunder/vmthunder/driver"

const (
	// DefaultBlockSectors is the unit of caching, 32 KiB: the least that dm-cache allows. A block is
	// copied whole, so a larger one makes cold random reads dearer.
	DefaultBlockSectors = 64
	// maxBlockSectors is the largest that dm-cache allows, 1 GiB.
	maxBlockSectors = 2 << 20
	// maxBlocks is where the kernel begins to warn that a cache takes too much memory.
	maxBlocks = 1_000_000

	sectorBytes = 512
	// The size of the metadata, after the kernel's dm-cache documentation: 4 MiB and 16 bytes
	// per block.
	metaBase     = 4 << 20
	metaPerBlock = 16
	// superblockBytes is the first block of the metadata; zeros make the kernel format it.
	superblockBytes = 4096
)

// layout of one image's cache.
type layout struct {
	block      uint64 // sectors
	data, meta uint64 // sectors of the two local devices
}

// plan computes the layout for an image of sectors. At most limit sectors of it are cached, 0
// for all of them. The block is doubled until no more than maxBlocks are needed.
func plan(sectors, block, limit uint64) layout {
	if limit == 0 || limit > sectors {
		limit = sectors
	}
	block = max(block/DefaultBlockSectors*DefaultBlockSectors, DefaultBlockSectors)
	for (limit+block-1)/block > maxBlocks && 2*block <= maxBlockSectors {
		block *= 2
	}
	blocks := max((limit+block-1)/block, 1)
	const align = 4096 / sectorBytes
	meta := (metaBase + metaPerBlock*blocks + sectorBytes - 1) / sectorBytes
	return layout{block: block, data: blocks * block, meta: (meta + align - 1) / align * align}
}

func (l layout) needs() []driver.LocalDevice {
	return []driver.LocalDevice{{Suffix: "meta", Sectors: l.meta}, {Suffix: "data", Sectors: l.data}}
}
