//go:build rabbit

package transport_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/rabbittest"
	"github.com/vmthunder/vmthunder/api/rpc/rpctest"
	"github.com/vmthunder/vmthunder/api/rpc/transport"
)

func quick() transport.Options {
	return transport.Options{RetryMin: 20 * time.Millisecond, RetryMax: 300 * time.Millisecond}
}

func open(t *testing.T, url string, o transport.Options) *transport.Bus {
	t.Helper()
	bus, err := transport.Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	return bus
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestSuite(t *testing.T) {
	b := rabbittest.Start(t)
	var proxies sync.Map
	rpctest.Run(t, rpctest.Harness{
		Open: func(t *testing.T) rpc.Transport {
			p := b.Proxy(t)
			bus, err := transport.Open(p.URL(), quick())
			if err != nil {
				t.Fatal(err)
			}
			proxies.Store(bus, p)
			return bus
		},
		Restart: func(t *testing.T) {
			t.Helper()
			if err := errors.Join(b.Stop(), b.Start()); err != nil {
				t.Fatal(err)
			}
		},
		Disconnect: func(t *testing.T, bus rpc.Transport) {
			t.Helper()
			p, _ := proxies.Load(bus)
			p.(*rabbittest.Proxy).Cut()
		},
	})
}

func TestWrongPassword(t *testing.T) {
	b := rabbittest.Start(t)
	bus := open(t, strings.Replace(b.URL(), "%3A", "x", 1), quick())
	c, err := rpc.NewClient(bus, rpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Call(within(t, 10*time.Second), rpc.Target{Topic: "t"}, "m", nil, nil)
	if !errors.Is(err, rpc.ErrNotConnected) || strings.Contains(fmt.Sprint(err), "p@ss") {
		t.Fatalf("got %v", err)
	}
	if err := c.Healthy(); !errors.Is(err, rpc.ErrNotConnected) {
		t.Fatalf("got %v", err)
	}
}

func TestFailover(t *testing.T) {
	b := rabbittest.Start(t)
	// One that refuses, one that accepts and says nothing, the real one.
	silent := newSilent(t)
	real := strings.TrimSuffix(strings.TrimPrefix(b.URL(), "rabbit://"), "/")
	o := quick()
	o.ConnectTimeout = 300 * time.Millisecond
	for range 4 { // the order is by chance
		bus := open(t, "rabbit://u:p@127.0.0.1:1,u:p@"+silent+","+real+"//", o)
		c, err := rpc.NewClient(bus, rpc.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Connected(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTopologyMismatch(t *testing.T) {
	b := rabbittest.Start(t)
	one, other := open(t, b.URL(), quick()), open(t, b.URL(), quick())
	m := rpc.Message{Exchange: rpc.Exchange{Name: "mismatch", Kind: "topic"}, Body: []byte("{}")}
	if _, err := one.Publish(within(t, 10*time.Second), m); err != nil {
		t.Fatal(err)
	}
	m.Exchange.Durable = true
	if _, err := other.Publish(within(t, 10*time.Second), m); !errors.Is(err, rpc.ErrTopology) {
		t.Fatalf("got %v", err)
	}
	c, err := other.Subscribe(rpc.Subscription{
		Queues:  []rpc.Queue{{Name: "mismatch-q", Bindings: []rpc.Binding{{Exchange: m.Exchange, Key: "k"}}}},
		Deliver: func(rpc.Delivery) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(within(t, time.Second)); !errors.Is(err, rpc.ErrTopology) {
		t.Fatalf("got %v", err)
	}
	if st := other.State(); !st.Connected || st.Generation != 1 {
		t.Fatalf("the connection suffered: %+v", st)
	}
}

// TestPoison: a message the broker refuses closes its channel; those beside it
// must not notice.
func TestPoison(t *testing.T) {
	b := rabbittest.Start(t)
	bus := open(t, b.URL(), quick())
	ctx := within(t, 60*time.Second)
	q := rpc.Queue{Name: "poison", AutoDelete: true}
	if _, err := bus.Publish(ctx, rpc.Message{Queue: &q, Key: q.Name, Body: []byte(`0`), Mandatory: true}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				m := rpc.Message{Key: q.Name, Body: fmt.Appendf(nil, `"%d %d"`, i, j), Mandatory: true}
				if _, err := bus.Publish(ctx, m); err != nil {
					t.Errorf("good one: %v", err)
				}
			}
		})
	}
	for range 5 {
		m := rpc.Message{Key: q.Name, Body: make([]byte, 5_000_000), Mandatory: true} // above max_message_size
		if _, err := bus.Publish(ctx, m); !errors.Is(err, rpc.ErrRefused) {
			t.Errorf("poison: %v", err)
		}
	}
	wg.Wait()
	if g := bus.State().Generation; g != 1 {
		t.Errorf("connected %d times", g)
	}
	// None was lost; some may have come twice.
	seen := map[string]bool{}
	got := make(chan string, 1000)
	_, err := bus.Subscribe(rpc.Subscription{Queues: []rpc.Queue{q}, Deliver: func(d rpc.Delivery) {
		got <- string(d.Body)
		_ = d.Ack()
	}})
	if err != nil {
		t.Fatal(err)
	}
	for len(seen) < 161 {
		select {
		case s := <-got:
			seen[s] = true
		case <-ctx.Done():
			t.Fatalf("only %d of 161 came", len(seen))
		}
	}
}

// TestReturnsMatch: among many on one channel exactly the unroutable ones fail.
func TestReturnsMatch(t *testing.T) {
	b := rabbittest.Start(t)
	bus := open(t, b.URL(), quick())
	ctx := within(t, 60*time.Second)
	q := rpc.Queue{Name: "returns", AutoDelete: true}
	if _, err := bus.Publish(ctx, rpc.Message{Queue: &q, Key: q.Name, Body: []byte(`0`)}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			m := rpc.Message{Key: q.Name, Mandatory: true, Body: fmt.Appendf(nil, `%d`, i)}
			if i%3 == 0 {
				m.Key = "returns-nowhere"
			}
			_, err := bus.Publish(ctx, m)
			if i%3 == 0 && !errors.Is(err, rpc.ErrNoConsumer) || i%3 != 0 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestWithoutBroker: what is closed while there is none is closed at once.
func TestWithoutBroker(t *testing.T) {
	b := rabbittest.Start(t)
	p := b.Proxy(t)
	bus := open(t, p.URL(), quick())
	s := rpc.NewServer(bus, rpc.ServerOptions{Topic: "without", Server: "n", DrainTime: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c, err := rpc.NewClient(bus, rpc.ClientOptions{})
	if err := errors.Join(err, s.Ready(within(t, 20*time.Second)), c.Connected(within(t, 20*time.Second))); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	<-bus.State().Changed
	call := make(chan error, 1)
	go func() { call <- c.Call(t.Context(), rpc.Target{Topic: "without", Server: "n"}, "m", nil, nil) }()
	cancel()
	for _, wait := range []struct {
		what string
		ch   <-chan error
	}{{"server", done}, {"client", run(c.Close)}, {"transport", run(bus.Close)}, {"call", call}} {
		select {
		case err := <-wait.ch:
			if wait.what == "call" != errors.Is(err, rpc.ErrClosed) {
				t.Errorf("%s: %v", wait.what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s goes on", wait.what)
		}
	}
}

func run(f func() error) <-chan error {
	ch := make(chan error, 1)
	go func() { ch <- f() }()
	return ch
}

// TestFrozenBroker: it neither answers nor hangs up.
func TestFrozenBroker(t *testing.T) {
	b := rabbittest.Start(t)
	o := quick()
	o.Heartbeat = 2 * time.Second
	bus := open(t, b.URL(), o)
	s := rpc.NewServer(open(t, b.URL(), o), rpc.ServerOptions{Topic: "frozen", Server: "n"}, rpc.Endpoint{
		Methods: map[string]rpc.Method{"m": rpc.Handle(func(_ context.Context, _ rpc.Context, n map[string]int) (int, error) {
			return n["n"], nil
		})},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c, err := rpc.NewClient(bus, rpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Ready(within(t, 20*time.Second)), c.Connected(within(t, 20*time.Second))); err != nil {
		t.Fatal(err)
	}
	if err := b.Pause(); err != nil {
		t.Fatal(err)
	}
	err = c.Call(within(t, 500*time.Millisecond), rpc.Target{Topic: "frozen", Server: "n"}, "m", nil, nil)
	if !errors.Is(err, rpc.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	late := make(chan error, 1)
	go func() {
		var n int
		err := c.Call(within(t, 60*time.Second), rpc.Target{Topic: "frozen", Server: "n"}, "m", map[string]int{"n": 42}, &n)
		if err == nil && n != 42 {
			err = fmt.Errorf("got %d", n)
		}
		late <- err
	}()
	// Heartbeats stay out, so the connection is given up.
	for end := time.Now().Add(20 * time.Second); c.Healthy() == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("still thinks it is connected")
			break
		}
	}
	if err := b.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Errorf("call made while frozen: %v", err)
	}
}

// BenchmarkCall is a round trip with probe, request, reply and their confirmations.
func BenchmarkCall(b *testing.B) {
	url := rabbittest.Start(b).URL()
	var buses [2]*transport.Bus
	for i := range buses {
		bus, err := transport.Open(url, quick())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = bus.Close() }()
		buses[i] = bus
	}
	s := rpc.NewServer(buses[0], rpc.ServerOptions{Topic: "bench", Server: "n"}, rpc.Endpoint{
		Methods: map[string]rpc.Method{"m": rpc.Handle(func(context.Context, rpc.Context, struct{}) (int, error) { return 1, nil })},
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c, err := rpc.NewClient(buses[1], rpc.ClientOptions{})
	if err := errors.Join(err, s.Ready(ctx), c.Connected(ctx)); err != nil {
		b.Fatal(err)
	}
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			b.SetParallelism(max(parallel/2, 1))
			call := func() {
				if err := c.Call(ctx, rpc.Target{Topic: "bench", Server: "n"}, "m", nil, nil); err != nil {
					b.Error(err)
				}
			}
			if parallel == 1 {
				for b.Loop() {
					call()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call()
				}
			})
		})
	}
}
