//go:build rabbit

package transport_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/rabbittest"
)

// python runs the genuine oslo.messaging, of the system's Python and no other.
// It ends when its standard input does.
func python(t *testing.T, mode, url, topic string) <-chan string {
	t.Helper()
	//nolint:gosec // fixed program, test's own URL
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-W", "ignore", "../testdata/interop.py", mode, url, topic)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + t.TempDir()}
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatalf("oslo.messaging is needed: %v", err)
	}
	lines := make(chan string, 100)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(errs.String())
		}
	})
	return lines
}

func line(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case s, ok := <-lines:
		if !ok {
			t.Fatal("Python ended early")
		}
		return s
	case <-time.After(60 * time.Second):
		t.Fatal("Python says nothing")
	}
	return ""
}

var errThing = errors.New("thing not found")

func things() rpc.ErrorTable {
	return rpc.ErrorTable{{Class: "ThingNotFound", Module: "vmthunder.exception", Err: errThing}}
}

// TestPythonServer: our client, oslo's server.
func TestPythonServer(t *testing.T) {
	b := rabbittest.Start(t)
	lines := python(t, "server", b.URL(), "interop-a")
	if s := line(t, lines); s != "ready" {
		t.Fatal(s)
	}
	c, err := rpc.NewClient(open(t, b.URL(), quick()), rpc.ClientOptions{Errors: things()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 60*time.Second)
	ctx = rpc.WithContext(ctx, rpc.NewContext(rpc.Identity{UserID: "go-user", Roles: []string{"admin"}}))
	at := rpc.Target{Topic: "interop-a", Server: "python", Version: "1.0"}
	var sum struct {
		Sum  int
		User string
		Text string
	}
	if err := c.Call(ctx, at, "add", map[string]int{"a": 2, "b": 40}, &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Sum != 42 || sum.User != "go-user" || sum.Text != "Grüße <&> \U0001f600" {
		t.Fatalf("got %+v", sum)
	}
	err = c.Call(ctx, at, "fail", nil, nil)
	var remote *rpc.RemoteError
	if !errors.Is(err, errThing) || !errors.As(err, &remote) || remote.Message != "thing 7 is away" || len(remote.Traceback) == 0 {
		t.Fatalf("got %v %+v", err, remote)
	}
	if err := c.Call(ctx, at, "nothing", nil, nil); !errors.Is(err, rpc.ErrNoSuchMethod) {
		t.Fatalf("got %v", err)
	}
	at.Version = "3.0"
	if err := c.Call(ctx, at, "add", nil, nil); !errors.Is(err, rpc.ErrUnsupportedVersion) {
		t.Fatalf("got %v", err)
	}
	at.Version = "1.2"
	var done string
	if err := c.Call(ctx, at, "slow", map[string]float64{"seconds": 4}, &done, rpc.Monitor(2*time.Second)); err != nil || done != "done" {
		t.Fatalf("%q, %v", done, err)
	}
	for _, f := range []func(context.Context, rpc.Target, string, any) error{c.Cast, c.Fanout} {
		text := fmt.Sprint(time.Now().UnixNano())
		if err := f(ctx, at, "note", map[string]string{"text": text}); err != nil {
			t.Fatal(err)
		}
		if s := line(t, lines); s != `{"note": "`+text+`"}` {
			t.Fatal(s)
		}
	}
}

// TestPythonClient: oslo's client, our server.
func TestPythonClient(t *testing.T) {
	b := rabbittest.Start(t)
	hits := make(chan string, 10)
	type sum struct{ A, B int }
	methods := map[string]rpc.Method{
		"add": rpc.Handle(func(_ context.Context, c rpc.Context, s sum) (any, error) {
			return map[string]any{"sum": s.A + s.B, "user": c.Identity().UserID}, nil
		}),
		"missing": func(context.Context, rpc.Context, json.RawMessage) (any, error) {
			return nil, fmt.Errorf("find 7: %w", errThing)
		},
		"plain": func(context.Context, rpc.Context, json.RawMessage) (any, error) { return nil, errors.New("went wrong") },
		"slow": func(context.Context, rpc.Context, json.RawMessage) (any, error) {
			time.Sleep(5 * time.Second) // beyond the caller's monitor
			return "done", nil
		},
		"hit": rpc.Handle(func(_ context.Context, _ rpc.Context, a struct{ Text string }) (any, error) {
			hits <- a.Text
			return nil, nil //nolint:nilnil // nothing to say
		}),
	}
	s := rpc.NewServer(open(t, b.URL(), quick()), rpc.ServerOptions{Topic: "interop-b", Server: "go", Errors: things()},
		rpc.Endpoint{Version: "1.2", Methods: methods})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := s.Ready(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	lines := python(t, "client", b.URL(), "interop-b")
	for _, want := range []string{
		`{"result": {"sum": 5, "user": "python-user"}, "name": "call"}`,
		`{"result": {"sum": 9, "user": "python-user"}, "name": "any"}`,
		`{"class": "RemoteError", "message": "find 7: thing not found", "remote": "ThingNotFound", "name": "sentinel"}`,
		`{"class": "Exception", "message": "went wrong\n", "name": "plain"}`,
		`{"class": "RemoteError", "message": "method nothing: no such RPC method", "remote": "NoSuchMethod", "name": "method"}`,
		`{"result": "done", "name": "monitor"}`,
		`{"result": {"sum": 0, "user": "python-user"}, "name": "end"}`,
	} {
		if got := line(t, lines); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	seen := map[string]bool{}
	for range 2 {
		select {
		case h := <-hits:
			seen[h] = true
		case <-time.After(20 * time.Second):
			t.Fatal("no cast came")
		}
	}
	if !seen["cast"] || !seen["fanout"] {
		t.Fatalf("got %v", seen)
	}
}

// TestPythonListener: our notifications, oslo's listener.
func TestPythonListener(t *testing.T) {
	b := rabbittest.Start(t)
	n, err := rpc.NewNotifier(open(t, b.URL(), quick()), rpc.NotifierOptions{
		Driver: rpc.DriverMessagingV2, Topics: []string{"interop-n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := rpc.NewContext(rpc.Identity{UserID: "go-user"}).With("auth_token", "sesame")
	if err != nil {
		t.Fatal(err)
	}
	ctx := rpc.WithContext(within(t, 60*time.Second), rc)
	if err := n.Notify(ctx, "volume.create.end", rpc.PriorityInfo, "volume.host@b", map[string]any{"size": 7}); err != nil {
		t.Fatal(err)
	}
	lines := python(t, "listen", b.URL(), "interop-n")
	if s := line(t, lines); s != "ready" {
		t.Fatal(s)
	}
	got := line(t, lines)
	head, stamp, _ := strings.Cut(got, `, "timestamp": `)
	if head != `{"event_type": "volume.create.end", "publisher_id": "volume.host@b", "payload": {"size": 7}, "user": "go-user", "token": null` {
		t.Fatal(got)
	}
	if _, err := time.Parse(`"2006-01-02 15:04:05.000000"}`, stamp); err != nil {
		t.Fatal(err)
	}
}
