package command

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

func sh(script string) Cmd { return Cmd{Name: "sh", Args: []string{"-c", script}} }

func TestExec(t *testing.T) {
	ctx := t.Context()
	c := sh("cat; echo $LC_ALL $PATH $EXTRA; echo warn >&2")
	c.Stdin, c.Env = []byte("in\n"), []string{"EXTRA=x"}
	res, err := Exec{}.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(res.Stdout), "in\nC "+searchPath+" x\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if string(res.Stderr) != "warn\n" {
		t.Errorf("stderr %q", res.Stderr)
	}
}

func TestExecFailure(t *testing.T) {
	res, err := Exec{}.Run(t.Context(), sh("echo out; echo 'no such\nthing' >&2; exit 21"))
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 21 || string(res.Stdout) != "out\n" {
		t.Fatalf("got %v, %q", err, res.Stdout)
	}
	if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, "no such thing") {
		t.Errorf("message %q", s)
	}
	_, err = Exec{}.Run(t.Context(), sh("kill -TERM $$"))
	if !errors.As(err, &exit) || exit.Code != 128+15 {
		t.Errorf("killed by a signal: %v", err)
	}
	if _, err = (Exec{}).Run(t.Context(), Cmd{Name: "no-such-program"}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("missing program: %v", err)
	}
	if _, err = (Exec{}).Run(t.Context(), Cmd{Name: "./sh"}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("relative program: %v", err)
	}
}

// A grandchild that holds the pipe open must not outlive the command's time.
func TestExecKillsTheGroup(t *testing.T) {
	dir := t.TempDir()
	c := sh("sleep 600 & echo $! > " + dir + "/pid.tmp; mv " + dir + "/pid.tmp " + dir + "/pid; wait")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := Exec{}.Run(ctx, c); done <- err }()
	var pid int
	for deadline := time.Now().Add(20 * time.Second); pid == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the program did not start")
		}
		b, err := os.ReadFile(dir + "/pid")
		if err == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the grandchild is still there")
		}
	}
}

// alive tells whether pid runs; a zombie that nobody has reaped yet does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestExecTimeout(t *testing.T) {
	c := sh("sleep 600")
	c.Timeout = 50 * time.Millisecond
	if _, err := (Exec{}).Run(t.Context(), c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestExecLimitsOutput(t *testing.T) {
	res, err := Exec{}.Run(t.Context(), Cmd{Name: "head", Args: []string{"-c", "5000000", "/dev/zero"}})
	if err != nil || len(res.Stdout) != MaxOutput {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
}

func TestRecorderAndCounting(t *testing.T) {
	rec := &Recorder{Reply: Scripted(map[string]string{"lvs a b": "x"})}
	count := &Counting{Runner: rec}
	res, err := count.Run(t.Context(), Cmd{Name: "lvs", Args: []string{"a", "b"}})
	if err != nil || string(res.Stdout) != "x" {
		t.Fatalf("%q %v", res.Stdout, err)
	}
	var exit *ExitError
	if _, err = count.Run(t.Context(), Cmd{Name: "lvs"}); !errors.As(err, &exit) || exit.Code != 127 {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(rec.Lines(), ";"); got != "lvs a b;lvs" || count.Count() != 2 {
		t.Errorf("recorded %q, counted %d", got, count.Count())
	}
	if len((&Recorder{}).Calls()) != 0 {
		t.Error("a new recorder is not empty")
	}
}

func TestTraced(t *testing.T) {
	var told []string
	tr := Traced{Runner: Exec{}, Ended: func(c Cmd, took time.Duration, err error) {
		if took <= 0 {
			t.Errorf("%s took %s", c, took)
		}
		told = append(told, c.String())
		if err != nil {
			told = append(told, "failed")
		}
	}}
	res, err := tr.Run(t.Context(), sh("echo out"))
	if err != nil || string(res.Stdout) != "out\n" {
		t.Errorf("%q %v", res.Stdout, err)
	}
	var exit *ExitError
	if _, err := tr.Run(t.Context(), sh("exit 3")); !errors.As(err, &exit) {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(told, ";"); got != "sh -c echo out;sh -c exit 3;failed" {
		t.Errorf("told %q", got)
	}
}
