package fake_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

func TestObjects(t *testing.T) {
	drivertest.Objects(t, func(*testing.T) driver.ObjectStore { return fake.NewObjects() })
}
