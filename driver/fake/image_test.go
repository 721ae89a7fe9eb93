package fake_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

func TestImageStore(t *testing.T) {
	drivertest.ImageStore(t, func(t *testing.T) (driver.ImageStore, drivertest.ImageEnv) {
		t.Helper()
		s := fake.NewImageStore(nil)
		return s, drivertest.ImageEnv{
			Publish: func(_ *testing.T, content []byte) driver.ImageSource {
				return s.Publish(uuid.NewString(), content, false)
			},
			Corrupt: func(_ *testing.T, content []byte) driver.ImageSource {
				return s.Publish(uuid.NewString(), content, true)
			},
			Downloads: s.Downloads,
			Block:     func(*testing.T) func() { return s.Block() },
			Read:      func(_ *testing.T, f driver.ImageFile) []byte { return s.Content(f) },
		}
	})
}
