package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/memory"
	"github.com/vmthunder/vmthunder/api/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	b := memory.NewBroker()
	rpctest.Run(t, rpctest.Harness{
		Open:    func(*testing.T) rpc.Transport { return b.Open() },
		Restart: func(*testing.T) { b.Restart() },
		Disconnect: func(t *testing.T, bus rpc.Transport) {
			t.Helper()
			m, ok := bus.(*memory.Bus)
			if !ok {
				t.Fatal("not ours")
			}
			m.Disconnect()
		},
	})
}
