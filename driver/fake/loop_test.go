package fake_test

import (
	"fmt"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

func TestLoop(t *testing.T) {
	drivertest.Loop(t, func(t *testing.T) (driver.Loop, drivertest.LoopEnv) {
		m, devs := dmNode()
		d, err := m.Create(t.Context(), "vmthunder-test-disk", dm.NewTable(dm.Linear(2048, scratch, 0)), driver.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		return fake.NewLoop(devs), drivertest.LoopEnv{
			File: func(_ *testing.T, bytes uint64) string {
				files++
				path := fmt.Sprintf("/images/%d", files)
				devs.DeclareFile(path, bytes)
				return path
			},
			Disk: d.Path, DiskAlias: fmt.Sprintf("/dev/dm-%d", d.Minor), DiskBytes: 2048 * 512,
			Open: devs.Open, Claim: devs.Claim,
		}
	})
}
