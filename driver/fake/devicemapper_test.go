package fake_test

import (
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const scratch = "/dev/scratch"

func dmNode() (*fake.DeviceMapper, *fake.Devices) {
	devs := fake.NewDevices()
	devs.Declare(scratch, 1<<21, false)
	return fake.NewDeviceMapper(devs), devs
}

func TestDeviceMapper(t *testing.T) {
	drivertest.DeviceMapper(t, func(t *testing.T) (driver.DeviceMapper, drivertest.DeviceMapperEnv) {
		m, devs := dmNode()
		return m, drivertest.DeviceMapperEnv{
			Disk: scratch, Open: devs.Open, Number: devs.Number, Stands: devs.Exists,
		}
	})
}

func TestDeviceMapperFaults(t *testing.T) {
	m, _ := dmNode()
	ctx, boom := t.Context(), errors.New("boom")
	for _, op := range []string{"create", "load", "resume"} {
		m.FailNext(op, "vmthunder-a", boom)
		if _, err := m.Create(ctx, "vmthunder-a", dm.NewTable(dm.Linear(8, scratch, 0)), driver.CreateOptions{}); !errors.Is(err, boom) {
			t.Errorf("%s: %v", op, err)
		}
		if _, err := m.Get(ctx, "vmthunder-a"); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%s: left over: %v", op, err)
		}
	}
	if _, err := m.Create(ctx, "vmthunder-a", dm.NewTable(dm.Linear(8, scratch, 0)), driver.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.FailNext("remove", "", boom)
	if err := m.Remove(ctx, "vmthunder-a"); !errors.Is(err, boom) {
		t.Error(err)
	}
	if err := m.Remove(ctx, "vmthunder-a"); err != nil {
		t.Error(err)
	}
}

// What makes the design the way it is: see the contract's package comment.
func TestDeviceMapperClaims(t *testing.T) {
	m, devs := dmNode()
	ctx := t.Context()
	devs.Declare("/dev/sda", 1000, true)
	if _, err := m.Create(ctx, "w", dm.NewTable(dm.Linear(8, "/dev/sda", 0)), driver.CreateOptions{}); err == nil {
		t.Error("a read-only disk was opened for writing")
	}
	if _, err := m.Create(ctx, "r", dm.NewTable(dm.Linear(8, "/dev/sda", 0)), driver.CreateOptions{ReadOnly: true}); err != nil {
		t.Error(err)
	}
	if _, err := devs.Claim("/dev/sda"); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("claim of a mapped disk: %v", err)
	}
	export, err := devs.Claim("/dev/mapper/r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(ctx, "s", dm.NewTable(dm.Linear(8, "/dev/mapper/r", 0)), driver.CreateOptions{ReadOnly: true}); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("table over an exported device: %v", err)
	}
	if err := m.Remove(ctx, "r"); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("remove of an exported device: %v", err)
	}
	if err := export.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(ctx, "r"); err != nil {
		t.Error(err)
	}
}
