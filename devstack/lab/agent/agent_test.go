package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func serve(t *testing.T) *Client {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = new(Server).Serve(ctx, l)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return &Client{Address: l.Addr().String(), Dial: (&net.Dialer{}).DialContext}
}

func TestCommandsAndFiles(t *testing.T) {
	c := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB both ways
	r, err := c.Exec(ctx, Command{Argv: []string{"cat"}}, strings.NewReader(big))
	if err != nil || r.Stdout != big {
		t.Errorf("cat: %d bytes, %v", len(r.Stdout), err)
	}
	// The command does not want its input; its status must arrive all the same.
	for range 20 {
		r, err := c.Exec(ctx, Command{Argv: []string{"sh", "-c", "exit 5"}}, strings.NewReader(big))
		if err != nil || r.Code != 5 {
			t.Fatalf("unread input: %+v, %v", r, err)
		}
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := c.Put(ctx, path, 0o640, strings.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if err := c.Get(ctx, path, &back); err != nil || back.String() != big {
		t.Errorf("get: %d bytes, %v", back.Len(), err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", st, err)
	}
	// A source that fails must not leave half a file, nor hang.
	if err := c.Put(ctx, path, 0o640, io.MultiReader(strings.NewReader("half"), failing{})); err == nil {
		t.Error("a failing source was put")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != big {
		t.Errorf("the old file was hurt: %d bytes, %v", len(b), err)
	}
	if err := c.Get(ctx, path+"x", io.Discard); !errors.Is(err, ErrRemote) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := c.Run(ctx); !errors.Is(err, ErrRemote) {
		t.Errorf("no command: %v", err)
	}
}

// All that a command has written arrives, and nobody waits for a child that it has left.
func TestOutputOfTheBackground(t *testing.T) {
	c := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 20 {
		r, err := c.Exec(ctx, Command{Argv: []string{"sh", "-c", "sleep 60 & echo $!; seq 10000; echo err >&2"}}, nil)
		if err != nil || r.Code != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		pid, rest, _ := strings.Cut(r.Stdout, "\n")
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
		if !strings.HasSuffix(rest, "\n10000\n") || len(rest) != 48894 || r.Stderr != "err\n" {
			t.Fatalf("%d bytes, and %q", len(rest), r.Stderr)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken source") }

func TestBackground(t *testing.T) {
	c := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log := filepath.Join(t.TempDir(), "log")
	cmd := Command{Argv: []string{"sh", "-c", "echo started; exec sleep 1000"}}
	if _, err := c.Start(ctx, "p", cmd, log); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(ctx, "p", cmd, log); !errors.Is(err, ErrRemote) {
		t.Errorf("second start: %v", err)
	}
	if err := c.Signal(ctx, "p", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(ctx, "p"); err != nil || code != 128+15 {
		t.Errorf("ended with %d, %v", code, err)
	}
	ps, err := c.Processes(ctx)
	if err != nil || len(ps) != 1 || ps[0].Running || ps[0].Code != 143 {
		t.Errorf("processes %+v, %v", ps, err)
	}
	if err := c.Signal(ctx, "p", syscall.SIGTERM); !errors.Is(err, ErrRemote) {
		t.Errorf("signal to an ended one: %v", err)
	}
	if _, err := c.Wait(ctx, "q"); !errors.Is(err, ErrRemote) {
		t.Errorf("wait for one never started: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{'1', 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{'1', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, p, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := (&frameWriter{w: &out}).write(k, p); err != nil || !bytes.Equal(out.Bytes(), b[:5+len(p)]) {
			t.Errorf("frame %q %q came back %q, %v", k, p, out.Bytes(), err)
		}
	})
}
