//go:build kernel

package dm_test

import (
	"io"
	"os"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/drivertest"
)

// These tests run as root on a node that may be taken apart, with a scratch disk.

func testDisk() string {
	if d := os.Getenv("VMT_TEST_DISK"); d != "" {
		return d
	}
	return "/dev/ubda"
}

func kernelMapper(t *testing.T) *dm.Mapper {
	m := dm.New(command.Exec{})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// blank zeroes the first and those 4 KiB of the disk at which metadata is put.
func blank(t *testing.T, offsets ...int64) {
	t.Helper()
	f, err := os.OpenFile(testDisk(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range append(offsets, 0) {
		if _, err := f.WriteAt(make([]byte, 8192), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKernelConformance(t *testing.T) {
	drivertest.DeviceMapper(t, func(t *testing.T) (driver.DeviceMapper, drivertest.DeviceMapperEnv) {
		blank(t, 4096*512)
		return kernelMapper(t), drivertest.DeviceMapperEnv{
			Disk:   testDisk(),
			Open:   func(path string) (io.Closer, error) { return os.Open(path) },
			Number: dm.Number,
			Stands: func(path string) bool { _, err := os.Lstat(path); return err == nil },
		}
	})
}
