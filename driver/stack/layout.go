package stack

import (
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// SectorBytes is the unit of device-mapper tables.
const SectorBytes = 512

// ChunkSectors is the size of a dm-snapshot chunk: what one first write to a place copies.
const ChunkSectors = 8

// exceptionsPerArea is how many 16-byte exceptions one metadata area of one chunk
// holds (drivers/md/dm-snap-persistent.c).
const exceptionsPerArea = ChunkSectors * SectorBytes / 16

// CowSectors is the size of a COW store that can take every chunk of a volume of
// the given sectors: header, then areas of one metadata chunk and its data chunks.
// So a snapshot can never overflow and become invalid; what may run out is the
// thin pool, and that queues.
func CowSectors(volume uint64) uint64 {
	chunks := (volume + ChunkSectors - 1) / ChunkSectors
	areas := (chunks+exceptionsPerArea-1)/exceptionsPerArea + 1
	return (1 + areas*(1+exceptionsPerArea)) * ChunkSectors
}

// baseTable is the image seen at the volume's size: the page layer, then zeros.
func baseTable(page string, imageSectors, volumeSectors uint64) driver.Table {
	if imageSectors >= volumeSectors {
		return driver.Table{linear(0, volumeSectors, page, 0)}
	}
	return driver.Table{
		linear(0, imageSectors, page, 0),
		{Start: imageSectors, Length: volumeSectors - imageSectors, Type: "zero"},
	}
}

// PageLoops is how many loop devices an image's page layer consists of, and its relay: so
// many reads go upstream side by side. See package driver's essay.
const PageLoops = 8

// pageRegions bounds the table that dm-switch keeps, half a byte for each region.
const pageRegions = 1 << 22

// PageTable spreads the reads of an image over loop devices that all stand on the same
// thing, in regions of 4 KiB; in larger ones where an image has more than 16 GiB.
func PageTable(loops []string, sectors uint64) driver.Table {
	region := uint64(ChunkSectors)
	for sectors/region > pageRegions {
		region *= 2
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d 0", len(loops), region)
	for _, l := range loops {
		fmt.Fprintf(&b, " %s 0", l)
	}
	return driver.Table{{Length: sectors, Type: "switch", Params: b.String()}}
}

// volumeTable is what a VM gets of an image's volume (P: exceptions survive a reboot).
func volumeTable(base, cow string, sectors uint64) driver.Table {
	return driver.Table{{Length: sectors, Type: "snapshot", Params: fmt.Sprintf("%s %s P %d", base, cow, ChunkSectors)}}
}

func linear(start, length uint64, device string, offset uint64) driver.Segment {
	return driver.Segment{Start: start, Length: length, Type: "linear", Params: fmt.Sprintf("%s %d", device, offset)}
}

// PathTable is the multipath over one session's disk. queue_if_no_path holds I/O
// back while there is no way to a parent, instead of failing it.
func PathTable(number string, sectors uint64) driver.Table {
	return driver.Table{{Length: sectors, Type: "multipath", Params: fmt.Sprintf("1 queue_if_no_path 0 1 1 round-robin 0 1 1 %s 1", number)}}
}

func mapper(name string) string { return "/dev/mapper/" + name }
