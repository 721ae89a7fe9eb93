package rpc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type counter struct {
	mu   sync.Mutex
	runs map[int]int
	s    *rpc.Server
}

// ready waits until the server is.
func (c *counter) ready(t *testing.T) {
	t.Helper()
	if err := c.s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (c *counter) method() rpc.Method {
	return rpc.Handle(func(_ context.Context, _ rpc.Context, n map[string]int) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.runs[n["n"]]++
		return n["n"], nil
	})
}

func (c *counter) of(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[n]
}

// setup gives a broker with one server, n1, whose method m counts, and a client.
func setup(t *testing.T) (*memory.Broker, *rpc.Client, *counter) {
	t.Helper()
	b := memory.NewBroker()
	served, called := b.Open(), b.Open()
	count := &counter{runs: map[int]int{}}
	s := rpc.NewServer(served, rpc.ServerOptions{Topic: "t", Server: "n1", ReplyRetry: time.Second},
		rpc.Endpoint{Methods: map[string]rpc.Method{"m": count.method()}})
	count.s = s
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c, err := rpc.NewClient(called, rpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Inject(nil)
		cancel()
		if err := errors.Join(<-done, c.Close(), called.Close(), served.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(s.Ready(t.Context()), c.Connected(t.Context())); err != nil {
		t.Fatal(err)
	}
	return b, c, count
}

var n1 = rpc.Target{Topic: "t", Server: "n1"}

// first gives the fault to the first message that is, or is not, for the server.
func first(request bool, f memory.Fault) func(rpc.Message) memory.Fault {
	done := false
	return func(m rpc.Message) memory.Fault {
		if done || (m.Key == "t.n1") != request {
			return memory.Fault{}
		}
		done = true
		return f
	}
}

func TestFaults(t *testing.T) {
	for name, f := range map[string]memory.Fault{
		"duplicated":  {Duplicate: 3},
		"unconfirmed": {Unconfirmed: true},
		"lost":        {Lost: true},
		"late":        {Delay: 30 * time.Millisecond},
	} {
		for what, request := range map[string]bool{"request": true, "reply": false} {
			t.Run(name+" "+what, func(t *testing.T) {
				b, c, count := setup(t)
				b.Inject(first(request, f))
				var n int
				if err := c.Call(t.Context(), n1, "m", map[string]int{"n": 7}, &n); err != nil || n != 7 {
					t.Fatalf("%d, %v", n, err)
				}
				count.ready(t) // it may have lost its connection over its reply
				if err := c.Call(t.Context(), n1, "m", map[string]int{"n": 8}, &n); err != nil || n != 8 {
					t.Fatalf("%d, %v", n, err)
				}
				if count.of(7) != 1 || count.of(8) != 1 {
					t.Fatalf("executed %v", count.runs)
				}
			})
		}
	}
}

func TestDropped(t *testing.T) {
	for what, request := range map[string]bool{"request": true, "reply": false} {
		t.Run(what, func(t *testing.T) {
			b, c, _ := setup(t)
			b.Inject(first(request, memory.Fault{Drop: true}))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := c.Call(ctx, n1, "m", nil, nil); !errors.Is(err, rpc.ErrTimeout) {
				t.Fatal(err)
			}
		})
	}
}

func TestOnceIsNotSentAgain(t *testing.T) {
	b, c, count := setup(t)
	b.Inject(first(true, memory.Fault{Unconfirmed: true}))
	err := c.Call(t.Context(), n1, "m", map[string]int{"n": 1}, nil, rpc.Once())
	if !errors.Is(err, rpc.ErrConnectionLost) {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), n1, "m", map[string]int{"n": 2}, nil); err != nil {
		t.Fatal(err)
	}
	if count.of(1) > 1 {
		t.Fatalf("executed %v", count.runs)
	}
}

// TestChaos: whatever happens, each call ends by its deadline, a right answer is
// the right one, and none is executed twice.
func TestChaos(t *testing.T) {
	b, c, count := setup(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))       //nolint:gosec // a test
	b.Inject(func(rpc.Message) memory.Fault { // under the broker's lock
		switch r.IntN(40) {
		case 0:
			return memory.Fault{Lost: true}
		case 1:
			return memory.Fault{Unconfirmed: true}
		case 2, 3:
			return memory.Fault{Duplicate: 1 + r.IntN(3)}
		case 4, 5:
			return memory.Fault{Delay: time.Duration(r.IntN(20)) * time.Millisecond}
		case 6:
			return memory.Fault{Drop: true}
		}
		return memory.Fault{}
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var n int
			err := rpc.ErrNoConsumer
			for errors.Is(err, rpc.ErrNoConsumer) { // the server is just without connection
				err = c.Call(ctx, n1, "m", map[string]int{"n": i}, &n)
			}
			switch {
			case err == nil && n == i:
				mu.Lock()
				good++
				mu.Unlock()
			case err == nil:
				t.Errorf("call %d was answered %d", i, n)
			case !errors.Is(err, rpc.ErrTimeout):
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if good < 100 {
		t.Errorf("only %d of 200 got through", good)
	}
	for n, times := range count.runs {
		if times != 1 {
			t.Errorf("call %d was executed %d times", n, times)
		}
	}
}
