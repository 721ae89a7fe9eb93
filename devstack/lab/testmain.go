package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// envInside marks a test process that runs inside the namespace already.
const envInside = "VMT_LAB_INSIDE"

// Main is for TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m, lab.Options{Services: …, Nodes: …})) }
//
// It makes a laboratory, or joins the one that VMT_LAB_STATE names, runs the test binary
// once more inside the laboratory's network namespace, where servers and nodes can be
// dialled like any address, and takes down what it made, also on SIGINT, on SIGTERM, on
// go test's time limit and on a crash; KEEP=1 leaves it standing and says where. Tests
// get the laboratory with FromEnv. The value is the exit status.
//
// A test that cannot have its laboratory fails; it is not skipped.
func Main(m interface{ Run() int }, o Options) int {
	if os.Getenv(envInside) == "1" {
		return m.Run()
	}
	code, err := outside(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "laboratory:", err)
		if code == 0 {
			code = 1
		}
	}
	return code
}

func outside(o Options) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	keep := os.Getenv(EnvKeep) == "1"
	if o.Progress == nil {
		o.Progress = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...) }
	}
	var l *Lab
	var err error
	if os.Getenv(EnvState) != "" {
		keep = true // not ours to take down
		l, err = FromEnv()
	} else {
		o.Owned = true
		l, err = Up(ctx, o)
	}
	if err != nil {
		return 1, err
	}
	code, err := l.rerun(ctx)
	if keep {
		if l.leash != nil {
			o.Progress("kept: %s; %s=%s joins it, vmthunder-lab -l %s down removes it", l.dir, EnvState, l.dir, l.dir)
		}
		return code, err
	}
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return code, errors.Join(err, l.Down(dctx))
}

// rerun runs this program once more with the same arguments, inside the namespace.
func (l *Lab) rerun(ctx context.Context) (int, error) {
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(exe, os.Args[1:]...) //nolint:noctx,gosec // this very program; its end is asked for below
	cmd.Env = append(os.Environ(), envInside+"=1", EnvState+"="+l.dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := l.inside(cmd.Start); err != nil {
		return 1, err
	}
	defer context.AfterFunc(ctx, func() {
		// SIGQUIT makes a Go program print where it stands, which is what go test
		// wants of a test that takes too long.
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	})()
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if c := exit.ExitCode(); c > 0 {
			return c, nil
		}
		return 1, fmt.Errorf("test process: %w", err)
	}
	return 0, err
}
