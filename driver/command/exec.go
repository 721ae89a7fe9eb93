package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// searchPath is fixed, because a service may be started with any PATH and the
// administrator's programs are in sbin.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// killWait is how long to wait for a killed program to let go of its pipes.
const killWait = 2 * time.Second

// Exec runs programs of this host. Its zero value is ready for use.
type Exec struct{}

var _ Runner = Exec{}

// Look returns the absolute path of an installed program, or an error that wraps
// driver.ErrUnavailable.
func Look(name string) (string, error) {
	candidates := []string{name}
	if !filepath.IsAbs(name) {
		if strings.Contains(name, "/") {
			return "", fmt.Errorf("program %q: not an absolute path: %w", name, driver.ErrUnavailable)
		}
		candidates = nil
		for _, dir := range filepath.SplitList(searchPath) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, path := range candidates {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s is not installed: %w", name, driver.ErrUnavailable)
}

// Run implements [Runner].
func (Exec) Run(ctx context.Context, c Cmd) (Result, error) {
	path, err := Look(c.Name)
	if err != nil {
		return Result{}, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var stdout, stderr limited
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Env = append([]string{"PATH=" + searchPath, "LC_ALL=C", "LANG=C", "HOME=/"}, c.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait

	err = cmd.Run()
	res := Result{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes()}
	if err == nil {
		return res, nil
	}
	if ctx.Err() != nil {
		return res, fmt.Errorf("%s: stopped after at most %s: %w", c, timeout, ctx.Err())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return res, fmt.Errorf("%s: %w", c, err)
	}
	code := exit.ExitCode()
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	return res, newExitError(c, code, res.Stderr)
}

// limited keeps the first MaxOutput bytes and swallows the rest, so that a
// program that talks too much neither fills the memory nor dies of a closed pipe.
// (The buffer is not embedded: its ReadFrom would be used and know no limit.)
type limited struct{ buf bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := MaxOutput - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
