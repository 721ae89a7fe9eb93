package rpctest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

func testDrain(l *lab) {
	c, bus := l.client()
	g := newGate()
	_, stop := l.serve("n1", 1, map[string]rpc.Method{"gate": g.method()})
	first := l.background(c, "n1", "gate", 1)
	recv(l, g.started)
	l.must(c.Cast(l.ctx, l.at("n1"), "gate", sum{A: 2})) // waits behind it
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	l.until("server no longer listens", func() bool {
		n, err := bus.Consumers(l.ctx, l.topic+".n1")
		l.must(err)
		return n == 0
	})
	if len(stopped) > 0 {
		l.Fatal("stopped before the one under way was done")
	}
	close(g.open)
	if a := recv(l, first); a.err != nil || a.n != 2 {
		l.Fatalf("the one under way: %+v", a)
	}
	l.must(recv(l, stopped))
	// The one that was not begun is the next server's.
	l.serve("n1", 1, map[string]rpc.Method{"gate": g.method()})
	if n := recv(l, g.started); n != 2 {
		l.Fatalf("the one that waited: %d", n)
	}
}

func testCrash(l *lab) {
	c, _ := l.client()
	g1, g2 := newGate(), newGate()
	close(g2.open)
	bus, _ := l.serve("n1", 0, map[string]rpc.Method{"gate": g1.method()})
	r := l.background(c, "", "gate", 4)
	recv(l, g1.started)
	l.serve("n2", 0, map[string]rpc.Method{"gate": g2.method()})
	l.must(bus.Close()) // as if it were killed
	if a := recv(l, r); a.err != nil || a.n != 8 {
		l.Fatalf("got %+v", a)
	}
	if n := recv(l, g2.started); n != 4 {
		l.Fatalf("n2 got %d", n)
	}
	close(g1.open)
}

func testPrefetch(l *lab) {
	c, _ := l.client()
	slow, quick := newGate(), newGate()
	close(quick.open)
	l.serve("slow", 1, map[string]rpc.Method{"gate": slow.method()})
	l.must(c.Cast(l.ctx, l.at(""), "gate", sum{A: 100})) // keeps it busy
	recv(l, slow.started)
	l.serve("quick", 1, map[string]rpc.Method{"gate": quick.method()})
	for i := range 20 {
		l.must(c.Cast(l.ctx, l.at(""), "gate", sum{A: i}))
	}
	for range 20 {
		recv(l, quick.started)
	}
	close(slow.open)
}

func testServerDisconnected(l *lab) {
	c, _ := l.client()
	g := newGate()
	bus, _ := l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	r := l.background(c, "n1", "gate", 3)
	recv(l, g.started)
	l.reconnect(bus)
	close(g.open)
	if a := recv(l, r); a.err != nil || a.n != 6 {
		l.Fatalf("got %+v", a)
	}
	if n := g.runs.Load(); n != 1 {
		l.Fatalf("executed %d times", n)
	}
}

// reconnect breaks a connection and waits for the next one.
func (l *lab) reconnect(bus rpc.Transport) {
	l.Helper()
	before := bus.State().Generation
	l.h.Disconnect(l.T, bus)
	l.until("reconnect", func() bool {
		st := bus.State()
		return st.Connected && st.Generation > before
	})
}

func testClientDisconnected(l *lab) {
	c, bus := l.client()
	g := newGate()
	l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	r := l.background(c, "n1", "gate", 3)
	recv(l, g.started)
	l.reconnect(bus)
	close(g.open)
	if a := recv(l, r); a.err != nil || a.n != 6 {
		l.Fatalf("got %+v", a)
	}
	l.must(c.Connected(l.ctx))
	l.must(c.Healthy())
	if n := g.runs.Load(); n != 1 {
		l.Fatalf("executed %d times", n)
	}
}

func testOnce(l *lab) {
	c, bus := l.client()
	g := newGate()
	l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	r := l.background(c, "n1", "gate", 3, rpc.Once())
	recv(l, g.started)
	l.h.Disconnect(l.T, bus)
	l.is(recv(l, r).err, rpc.ErrConnectionLost)
	close(g.open)
}

func testRestart(l *lab) {
	c, bus := l.client()
	g := newGate()
	served, _ := l.serve("n1", 0, map[string]rpc.Method{"gate": g.method(), "add": add()})
	var calls []<-chan answer
	for i := range 10 {
		calls = append(calls, l.background(c, "n1", "gate", i))
	}
	for range 10 {
		recv(l, g.started)
	}
	before := [2]uint64{bus.State().Generation, served.State().Generation}
	l.h.Restart(l.T) // takes reply queue, requests and exchanges with it
	close(g.open)
	for i, r := range calls {
		if a := recv(l, r); a.err != nil || a.n != 2*i {
			l.Fatalf("call %d: %+v", i, a)
		}
	}
	if n := g.runs.Load(); n != 10 {
		l.Fatalf("executed %d times", n)
	}
	if bus.State().Generation == before[0] || served.State().Generation == before[1] {
		l.Fatal("nobody has noticed")
	}
	var n int
	l.must(c.Call(l.ctx, l.at("n1"), "add", sum{1, 1}, &n))
}

// testRestartCasts casts all the while; what was reported as sent after the restart arrives.
func testRestartCasts(l *lab) {
	c, _ := l.client()
	var mu sync.Mutex
	seen := map[int]int{}
	l.serve("n1", 0, map[string]rpc.Method{
		"hit": rpc.Handle(func(_ context.Context, _ rpc.Context, s sum) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			seen[s.A]++
			return s.A, nil
		}),
	})
	var stop atomic.Bool
	var wg sync.WaitGroup
	results := make(chan error, 10_000)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load() && i < 2000; i++ {
				id := w*10_000 + i
				var n int
				err := c.Call(l.ctx, l.at("n1"), "hit", sum{A: id}, &n)
				if err == nil && n != id {
					err = fmt.Errorf("call %d was answered %d", id, n)
				}
				results <- err
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 20 {
		l.must(recv(l, results))
	}
	l.h.Restart(l.T)
	for range 20 {
		l.must(recv(l, results)) // all calls get through, some late
	}
	stop.Store(true)
	wg.Wait()
	for len(results) > 0 {
		l.must(<-results)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range seen {
		if n != 1 {
			l.Errorf("call %d was executed %d times", id, n)
		}
	}
}
