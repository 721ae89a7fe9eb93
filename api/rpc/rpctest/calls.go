package rpctest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

func testCall(l *lab) {
	c, _ := l.client()
	var got rpc.Identity
	l.serve("n1", 0, map[string]rpc.Method{
		"add": add(),
		"who": rpc.Handle(func(_ context.Context, c rpc.Context, _ struct{}) (any, error) {
			got = c.Identity()
			return nil, nil //nolint:nilnil // nothing to say
		}),
	})
	var n int
	l.must(c.Call(l.ctx, l.at("n1"), "add", sum{2, 3}, &n))
	if n != 5 {
		l.Fatalf("2+3 = %d", n)
	}
	l.must(c.Call(l.ctx, l.at(""), "add", sum{4, 5}, &n))
	if n != 9 {
		l.Fatalf("4+5 = %d", n)
	}
	id := rpc.Identity{UserID: "u1", ProjectID: "p1", Roles: []string{"member"}, RequestID: "req-1", IsAdmin: true}
	l.must(c.Call(rpc.WithContext(l.ctx, rpc.NewContext(id)), l.at("n1"), "who", nil, nil))
	if got.UserID != "u1" || got.ProjectID != "p1" || !slices.Equal(got.Roles, id.Roles) || got.RequestID != "req-1" || !got.IsAdmin {
		l.Fatalf("identity is %+v", got)
	}
}

func testBig(l *lab) {
	c, _ := l.client()
	l.serve("n1", 0, map[string]rpc.Method{
		"echo": func(_ context.Context, _ rpc.Context, raw json.RawMessage) (any, error) { return raw, nil },
	})
	want := map[string]string{"text": strings.Repeat("Grüße \"<&>\u2028\U0001f600\\ ", 40_000)} // many frames
	got := map[string]string{}
	l.must(c.Call(l.ctx, l.at("n1"), "echo", want, &got))
	if got["text"] != want["text"] {
		l.Fatal("came back otherwise")
	}
}

func testErrors(l *lab) {
	c, _ := l.client()
	l.serve("n1", 0, map[string]rpc.Method{
		"missing": func(context.Context, rpc.Context, json.RawMessage) (any, error) {
			return nil, fmt.Errorf("find 7: %w", errMissing)
		},
		"plain": func(context.Context, rpc.Context, json.RawMessage) (any, error) {
			return nil, errors.New("went wrong")
		},
		"panic":    func(context.Context, rpc.Context, json.RawMessage) (any, error) { panic("oh") },
		"encode":   func(context.Context, rpc.Context, json.RawMessage) (any, error) { return make(chan int), nil },
		"add":      add(),
		"deadline": func(context.Context, rpc.Context, json.RawMessage) (any, error) { return nil, rpc.ErrTimeout },
	})
	call := func(method string, args any, version string) error {
		return c.Call(l.ctx, rpc.Target{Topic: l.topic, Server: "n1", Version: version}, method, args, nil)
	}
	l.is(call("missing", nil, "1.0"), errMissing)
	remote := func(err error) *rpc.RemoteError {
		var e *rpc.RemoteError
		if !errors.As(err, &e) {
			l.Fatalf("%v is no RemoteError", err)
		}
		return e
	}
	if e := remote(call("missing", nil, "")); e.Class != "ThingNotFound" || e.Message != "find 7: thing not found" {
		l.Fatalf("got %+v", e)
	}
	if e := remote(call("plain", nil, "1.1")); e.Class != "Exception" || e.Module != "builtins" || e.Message != "went wrong" {
		l.Fatalf("got %+v", e)
	}
	l.is(call("panic", nil, "1.0"), rpc.ErrPanic)
	remote(call("encode", nil, "1.0"))
	l.is(call("add", map[string]string{"a": "x"}, "1.0"), rpc.ErrInvalidArguments)
	l.is(call("add", []int{1}, "1.0"), rpc.ErrInvalidArguments)
	l.is(call("nothing", nil, "1.0"), rpc.ErrNoSuchMethod)
	l.is(call("add", nil, "1.3"), rpc.ErrUnsupportedVersion)
	l.is(call("add", nil, "2.0"), rpc.ErrUnsupportedVersion)
	l.must(call("add", nil, "1.2"))
	var s string
	l.is(c.Call(l.ctx, l.at("n1"), "add", nil, &s), rpc.ErrBadMessage)
}

func testNobody(l *lab) {
	c, _ := l.client()
	l.is(c.Call(l.ctx, l.at("n1"), "add", nil, nil), rpc.ErrNoConsumer)
	l.is(c.Call(l.ctx, l.at(""), "add", nil, nil), rpc.ErrNoConsumer)
	l.is(c.Cast(l.ctx, l.at("n1"), "add", nil), rpc.ErrNoConsumer)
	l.must(c.Fanout(l.ctx, l.at(""), "add", nil))

	_, stop := l.serve("n1", 0, map[string]rpc.Method{"add": add()})
	l.must(c.Call(l.ctx, l.at("n1"), "add", nil, nil))
	l.must(stop())
	// Its queue still stands, yet nobody is there.
	l.is(c.Call(l.ctx, l.at("n1"), "add", nil, nil), rpc.ErrNoConsumer)

	// A cast waits for it.
	g := newGate()
	l.must(c.Cast(l.ctx, l.at("n1"), "gate", sum{A: 7}))
	l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	if n := recv(l, g.started); n != 7 {
		l.Fatalf("got %d", n)
	}
	close(g.open)
}

func testCasts(l *lab) {
	c, _ := l.client()
	type hit struct {
		server string
		a      int
	}
	hits := make(chan hit, 100)
	for _, name := range []string{"n1", "n2", "n3"} {
		l.serve(name, 0, map[string]rpc.Method{
			"hit": rpc.Handle(func(_ context.Context, _ rpc.Context, s sum) (int, error) {
				hits <- hit{name, s.A}
				return 0, nil
			}),
		})
	}
	l.must(c.Cast(l.ctx, l.at("n2"), "hit", sum{A: 1}))
	if h := recv(l, hits); h != (hit{"n2", 1}) {
		l.Fatalf("got %v", h)
	}
	l.must(c.Fanout(l.ctx, l.at(""), "hit", sum{A: 2}))
	seen := map[string]bool{}
	for range 3 {
		h := recv(l, hits)
		if h.a != 2 || seen[h.server] {
			l.Fatalf("got %v after %v", h, seen)
		}
		seen[h.server] = true
	}
	got := []int{}
	for i := range 12 {
		l.must(c.Cast(l.ctx, l.at(""), "hit", sum{A: 10 + i}))
	}
	for range 12 {
		h := recv(l, hits)
		got = append(got, h.a)
		seen[h.server] = false
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 12 || got[0] != 10 || got[11] != 21 {
		l.Fatalf("casts that came: %v", got)
	}
	for s, without := range seen {
		if without {
			l.Errorf("%s got none of 12", s)
		}
	}
	select {
	case h := <-hits:
		l.Fatalf("one too many: %v", h)
	default:
	}
}

func testConcurrency(l *lab) {
	c, _ := l.client()
	var now, most atomic.Int64
	l.serve("n1", 4, map[string]rpc.Method{
		"work": rpc.Handle(func(_ context.Context, _ rpc.Context, s sum) (int, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			time.Sleep(time.Millisecond) // lets others in, if they may
			return s.A + s.B, nil
		}),
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			var n int
			if err := c.Call(l.ctx, l.at("n1"), "work", sum{i, 1}, &n); err != nil || n != i+1 {
				l.Errorf("call %d: %d, %v", i, n, err)
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > 4 {
		l.Fatalf("%d at once", m)
	}
}

func testDeadline(l *lab) {
	c, _ := l.client()
	g := newGate()
	l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	ctx, cancel := context.WithTimeout(l.ctx, 150*time.Millisecond)
	defer cancel()
	err := c.Call(ctx, l.at("n1"), "gate", sum{A: 1}, nil)
	l.is(err, rpc.ErrTimeout)
	l.is(err, context.DeadlineExceeded)
	close(g.open)
	// Its late reply disturbs nobody.
	var n int
	l.must(c.Call(l.ctx, l.at("n1"), "gate", sum{A: 2}, &n))
	if n != 4 {
		l.Fatalf("got %d", n)
	}
}

func testCancelled(l *lab) {
	c, _ := l.client()
	g := newGate()
	l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	ctx, cancel := context.WithCancel(l.ctx)
	result := make(chan error, 1)
	go func() { result <- c.Call(ctx, l.at("n1"), "gate", nil, nil) }()
	recv(l, g.started)
	cancel()
	l.is(recv(l, result), context.Canceled)
	other := l.background(c, "n1", "gate", 3)
	recv(l, g.started)
	l.must(c.Close())
	l.is(recv(l, other).err, rpc.ErrClosed)
	l.is(c.Call(l.ctx, l.at("n1"), "gate", nil, nil), rpc.ErrClosed)
	close(g.open)
}

func testMonitor(l *lab) {
	c, _ := l.client()
	g := newGate()
	bus, _ := l.serve("n1", 0, map[string]rpc.Method{"gate": g.method()})
	r := l.background(c, "n1", "gate", 5, rpc.Monitor(time.Second))
	recv(l, g.started)
	select { // more than two silences long
	case a := <-r:
		l.Fatalf("ended: %+v", a)
	case <-time.After(2500 * time.Millisecond):
	}
	close(g.open)
	if a := recv(l, r); a.err != nil || a.n != 10 {
		l.Fatalf("got %+v", a)
	}
	// A server that is cut off gives no sign of life.
	g.open = make(chan struct{})
	r = l.background(c, "n1", "gate", 6, rpc.Monitor(time.Second))
	recv(l, g.started)
	l.must(bus.Close())
	l.is(recv(l, r).err, rpc.ErrTimeout)
	close(g.open)
}

func testToken(l *lab) {
	bus := l.open()
	tokens := make(chan string, 2)
	l.serve("n1", 0, map[string]rpc.Method{
		"who": func(_ context.Context, c rpc.Context, _ json.RawMessage) (any, error) {
			tokens <- string(c.Get("auth_token"))
			return nil, nil //nolint:nilnil // nothing to say
		},
	})
	rc, err := rpc.NewContext(rpc.Identity{UserID: "u"}).With("auth_token", "sesame")
	l.must(err)
	for send, want := range map[bool]string{false: "null", true: `"sesame"`} {
		c, err := rpc.NewClient(bus, rpc.ClientOptions{SendToken: send})
		l.must(err)
		l.must(c.Call(rpc.WithContext(l.ctx, rc), l.at("n1"), "who", nil, nil))
		if got := recv(l, tokens); got != want {
			l.Errorf("token with SendToken=%v is %s", send, got)
		}
		l.must(c.Close())
	}
}
