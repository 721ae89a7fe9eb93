package fake_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

func TestPool(t *testing.T) {
	drivertest.Pool(t, func(t *testing.T) drivertest.PoolEnv {
		m, devs := dmNode()
		p := fake.NewPool(m, scratch)
		return drivertest.PoolEnv{
			Pool:    func() driver.Pool { return p },
			DM:      m,
			Open:    devs.Open,
			Reboot:  m.Reboot,
			Foreign: func() { p.SetForeign(true) },
			Missing: func() { devs.Forget(scratch) },
			Fill: func(string) {
				p.SetUsed(1<<14 - 128)
				m.SetThinMapped(fake.PoolName, 1, 1<<20)
			},
		}
	})
}
