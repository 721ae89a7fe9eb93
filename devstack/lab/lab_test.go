//go:build lab

package lab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envCrash); dir != "" {
		os.Exit(crashing(dir))
	}
	os.Exit(lab.Main(m, lab.Options{
		Name:     "labtest",
		Services: []lab.Service{lab.Postgres, lab.Rabbit},
		Nodes:    lab.Nodes(1, 0),
	}))
}

func current(t *testing.T) (*lab.Lab, *lab.Node) {
	t.Helper()
	l, err := lab.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Node("node1")
	if err != nil {
		t.Fatal(err)
	}
	return l, n
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestExec(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	r, err := n.Exec(ctx, lab.Command{Argv: []string{"sh", "-c", "cat; echo $X $(pwd) $(hostname); echo oops >&2; exit 3"}, Env: []string{"X=y"}, Dir: "/tmp"}, strings.NewReader("in\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (lab.Result{Code: 3, Stdout: "in\ny /tmp node1\n", Stderr: "oops\n"}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if _, err := n.Run(ctx, "no-such-program"); err == nil {
		t.Error("a program that does not exist ran")
	}
	_, err = n.Run(ctx, "false")
	if exit := new(lab.ExitError); !errors.As(err, &exit) || exit.Result.Code != 1 {
		t.Errorf("false: %v", err)
	}
	if r, err := n.Exec(ctx, lab.Command{Argv: []string{"sh", "-c", "kill -9 $$"}}, nil); err != nil || r.Code != 137 {
		t.Errorf("killed command: %+v, %v", r, err)
	}
}

func TestExecManyAtOnce(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if out, err := n.Run(ctx, "echo", "x"); err != nil || out != "x\n" {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	wg.Wait()
}

func TestExecCancelKillsTheGroup(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	short, cancel := context.WithCancel(ctx)
	pr, pw := net.Pipe()
	go func() {
		buf := make([]byte, 8)
		_, _ = pr.Read(buf) // the command runs
		cancel()
	}()
	_, err := n.Stream(short, lab.Command{Argv: []string{"sh", "-c", "sleep 1234 & echo on; wait"}}, lab.Streams{Stdout: pw})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	for {
		out, err := n.Run(ctx, "sh", "-c", "ps ax -o args | grep '^sleep 1234' || true")
		if err != nil {
			t.Fatal(err)
		}
		if out == "" {
			return
		}
	}
}

func TestFiles(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	data := make([]byte, 3<<20+17)
	_, _ = rand.Read(data)
	if err := n.Put(ctx, "/tmp/blob", 0o750, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := n.Get(ctx, "/tmp/blob", &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Error("the file came back different")
	}
	if mode, err := n.Run(ctx, "stat", "-c", "%a", "/tmp/blob"); err != nil || mode != "750\n" {
		t.Errorf("mode %q, %v", mode, err)
	}
	if s, err := n.ReadFile(ctx, "/sys/block/ubda/size"); err != nil || s != "8388608\n" {
		t.Errorf("ubda has %q sectors, %v", s, err)
	}
	if _, err := n.ReadFile(ctx, "/nothing/here"); err == nil {
		t.Error("read a file that is not there")
	}
}

// The host must not change, whatever a node does to its own root.
func TestHostIsReadOnly(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	if err := n.WriteFile(ctx, "/etc/vmthunder-lab-test", 0o644, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/etc/vmthunder-lab-test"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node's /etc is the host's: %v", err)
	}
}

func TestKillAndRestart(t *testing.T) {
	l, n := current(t)
	ctx := timeout(t, 3*time.Minute)
	if _, err := n.Start(ctx, "talker", lab.Command{Argv: []string{"sh", "-c", "echo last words; exec sleep 1000"}}); err != nil {
		t.Fatal(err)
	}
	for {
		if b, _ := os.ReadFile(n.LogPath("talker")); string(b) == "last words\n" {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the program's output did not arrive on the host")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := n.Run(ctx, "sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' A | dd of=/dev/ubda bs=1M oflag=direct && echo kept > /var/lib/vmthunder/f && touch /run/gone /etc/iscsi/nodes/kept && sync"); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if n.Running() {
		t.Error("runs after Kill")
	}
	if s := l.Status(ctx); s.Nodes[0].Running || s.Nodes[0].Answers {
		t.Errorf("status after Kill: %+v", s.Nodes[0])
	}
	if err := n.Kill(ctx); err != nil {
		t.Errorf("second Kill: %v", err)
	}
	if err := n.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := n.Run(ctx, "sh", "-c", "head -c 1048576 /dev/ubda | tr -d A | wc -c; cat /var/lib/vmthunder/f; ls /run/gone 2>&1; ls /etc/iscsi/nodes; cat /etc/iscsi/initiatorname.iscsi")
	if err == nil {
		want := "0\nkept\nls: cannot access '/run/gone': No such file or directory\nkept\nInitiatorName=" + n.Initiator() + "\n"
		if out != want {
			t.Errorf("after reboot:\n%s\nwant:\n%s", out, want)
		}
	} else {
		t.Error(err)
	}
	if b, _ := os.ReadFile(n.LogPath("talker")); string(b) != "last words\n" {
		t.Errorf("the log did not survive: %q", b)
	}
}

func TestShape(t *testing.T) {
	l, n := current(t)
	ctx := timeout(t, time.Minute)
	if err := l.Shape(ctx, "node1", "8mbit"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := n.Put(ctx, "/tmp/slow", 0o600, bytes.NewReader(make([]byte, 2<<20))); err != nil {
		t.Fatal(err)
	}
	// 2 MiB less 256 KiB of burst at 1 MB/s cannot take less; nothing is said of more.
	if d := time.Since(start); d < 1500*time.Millisecond {
		t.Errorf("2 MiB came over an 8 Mbit/s link in %v", d)
	}
	for range 2 { // the second finds nothing to take off
		if err := l.Shape(ctx, "node1", "off"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Shape(ctx, "node1", "fast; reboot"); !errors.Is(err, lab.ErrOptions) {
		t.Errorf("bad rate: %v", err)
	}
}
