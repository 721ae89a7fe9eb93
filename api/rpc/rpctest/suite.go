// Package rpctest is the suite that every [rpc.Transport] passes, together with
// client, server and notifier on top of it.
package rpctest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

// Harness gives the suite its broker.
type Harness struct {
	// Open makes a connection, closed by the suite.
	Open func(t *testing.T) rpc.Transport
	// Restart crashes the broker; it is back on return.
	Restart func(t *testing.T)
	// Disconnect breaks one connection made by Open.
	Disconnect func(t *testing.T, bus rpc.Transport)
}

// patience bounds everything; no test waits so long when all is well.
const patience = 60 * time.Second

var (
	errMissing = errors.New("thing not found")
	errTable   = rpc.ErrorTable{{Class: "ThingNotFound", Module: "vmthunder.exception", Err: errMissing}}
	topics     atomic.Int64
)

// lab is one test's surroundings.
type lab struct {
	*testing.T
	h     Harness
	ctx   context.Context //nolint:containedctx // of the test
	topic string
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, f := range map[string]func(*lab){
		"call": testCall, "errors": testErrors, "nobody": testNobody, "casts": testCasts,
		"concurrency": testConcurrency, "deadline": testDeadline, "monitor": testMonitor,
		"drain": testDrain, "crash": testCrash, "prefetch": testPrefetch, "notify": testNotify,
		"server disconnected": testServerDisconnected, "client disconnected": testClientDisconnected,
		"once": testOnce, "restart": testRestart, "restart while casting": testRestartCasts,
		"token": testToken, "cancelled": testCancelled, "big": testBig,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			t.Cleanup(cancel)
			f(&lab{T: t, h: h, ctx: ctx, topic: fmt.Sprintf("suite-%d-%d", time.Now().UnixNano(), topics.Add(1))})
		})
	}
}

func (l *lab) open() rpc.Transport {
	l.Helper()
	bus := l.h.Open(l.T)
	l.Cleanup(func() {
		if err := bus.Close(); err != nil {
			l.Errorf("close transport: %v", err)
		}
	})
	return bus
}

func (l *lab) client() (*rpc.Client, rpc.Transport) {
	l.Helper()
	bus := l.open()
	c, err := rpc.NewClient(bus, rpc.ClientOptions{Errors: errTable})
	l.must(err)
	l.Cleanup(func() { _ = c.Close() })
	l.must(c.Connected(l.ctx))
	return c, bus
}

// serve starts a server; stop ends it gracefully.
func (l *lab) serve(name string, concurrency int, methods map[string]rpc.Method) (bus rpc.Transport, stop func() error) {
	l.Helper()
	bus = l.open()
	s := rpc.NewServer(bus, rpc.ServerOptions{
		Topic: l.topic, Server: name, Concurrency: concurrency, Errors: errTable, ReplyRetry: 20 * time.Second,
	}, rpc.Endpoint{Version: "1.2", Methods: methods})
	ctx, cancel := context.WithCancel(l.ctx)
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-result })
	l.Cleanup(func() { _ = stop() })
	l.must(s.Ready(l.ctx))
	return bus, stop
}

func (l *lab) at(server string) rpc.Target {
	return rpc.Target{Topic: l.topic, Server: server, Version: "1.0"}
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) is(err, want error) {
	l.Helper()
	if !errors.Is(err, want) {
		l.Fatalf("error is %v, want %v", err, want)
	}
}

// recv waits for a value, with the test's patience.
func recv[T any](l *lab, ch <-chan T) T {
	l.Helper()
	select {
	case v := <-ch:
		return v
	case <-l.ctx.Done():
		l.Fatal("nothing came in time")
		panic("not reached")
	}
}

// until waits for a condition no event tells of.
func (l *lab) until(what string, f func() bool) {
	l.Helper()
	for !f() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-l.ctx.Done():
			l.Fatalf("not in time: %s", what)
		}
	}
}

type sum struct {
	A int `json:"a"`
	B int `json:"b"`
}

func add() rpc.Method {
	return rpc.Handle(func(_ context.Context, _ rpc.Context, s sum) (int, error) { return s.A + s.B, nil })
}

// gate is a method that tells when it starts and ends when it may.
type gate struct {
	started chan int
	open    chan struct{}
	runs    atomic.Int64
}

func newGate() *gate { return &gate{started: make(chan int, 100), open: make(chan struct{})} }

func (g *gate) method() rpc.Method {
	return rpc.Handle(func(ctx context.Context, _ rpc.Context, s sum) (int, error) {
		g.runs.Add(1)
		g.started <- s.A
		select {
		case <-g.open:
			return s.A * 2, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
}

// background makes a call in a goroutine.
func (l *lab) background(c *rpc.Client, server, method string, a int, opts ...rpc.CallOption) <-chan answer {
	ch := make(chan answer, 1)
	go func() {
		var r answer
		r.err = c.Call(l.ctx, l.at(server), method, sum{A: a}, &r.n, opts...)
		ch <- r
	}()
	return ch
}

type answer struct {
	n   int
	err error
}
