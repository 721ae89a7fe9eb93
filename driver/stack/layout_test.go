package stack

import (
	"testing"

	"github.com/vmthunder/vmthunder/driver/dm"
)

func TestPageTable(t *testing.T) {
	loops := []string{"/dev/loop3", "/dev/loop7"}
	for _, c := range []struct{ gib, region uint64 }{{1, 8}, {16, 8}, {17, 16}, {64, 32}, {1024, 512}} {
		table := PageTable(loops, c.gib<<21)
		got, err := dm.ParseSwitch(table[0])
		if err != nil || got.RegionSectors != c.region || len(got.Devices) != 2 || got.Devices[1] != loops[1] || table.Sectors() != c.gib<<21 {
			t.Errorf("%d GiB: %+v, %v", c.gib, table, err)
		}
	}
}
