package wire

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/memory"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/db/model"
)

// A node says over the bus what it sees. One of an older version, and one that is not there, are told apart.
func TestLookOverTheBus(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	broker := memory.NewBroker()
	open := func() *Bus {
		l := logrus.New()
		l.SetOutput(io.Discard)
		c := &config.Config{ControlExchange: "openstack"}
		b := &Bus{Transport: broker.Open(), cfg: c, log: logrus.NewEntry(l)}
		var err error
		if b.Client, err = rpc.NewClient(b.Transport, rpc.ClientOptions{Exchange: c.ControlExchange, Errors: errorsOnBus, Timeout: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	node := open()
	done := make(chan error, 2)
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	go func() {
		done <- node.serve(ctx, rpc.TopicNode, "n1", map[string]rpc.Method{methodLook: lookMethod(func(context.Context) model.Observed {
			return model.Observed{Host: "n1", Generation: 7}
		})})
	}()
	go func() {
		done <- node.serve(ctx, rpc.TopicNode, "old", map[string]rpc.Method{methodThins: rpc.Handle(func(context.Context, rpc.Context, thinsArgs) (model.Thins, error) {
			return model.Thins{}, nil
		})})
	}()
	control := nodes{open()}
	until := func(host string, want error) model.Observed {
		t.Helper()
		for {
			o, err := control.Look(ctx, host)
			if errors.Is(err, want) {
				return o
			}
			// It may not listen yet.
			if !errors.Is(err, model.ErrUnavailable) || ctx.Err() != nil {
				t.Fatalf("%s: %v, want %v", host, err, want)
			}
		}
	}
	if o := until("n1", nil); o.Host != "n1" || o.Generation != 7 {
		t.Errorf("%+v", o)
	}
	until("old", model.ErrInvalid)
	until("nowhere", model.ErrUnavailable)
}
