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
			Write: func(_ string, id uint32, blocks int, exceptions bool) {
				m.SetThinMapped(fake.PoolName, id, uint64(blocks)*128)
				if exceptions {
					m.SetThinExceptions(fake.PoolName, id)
				}
			},
			Fill: func(string) {
				p.SetUsed(1<<14 - 128)
				m.SetThinMapped(fake.PoolName, 1, 1<<20)
			},
		}
	})
}
