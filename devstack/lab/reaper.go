package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// ReaperArg is the argument by which vmthunder-lab runs RunReaper.
const ReaperArg = "reaper"

// startReaper starts a process outside the namespace that holds the reading end of a
// pipe. When the owner ends, even by SIGKILL, the kernel closes the writing end, and
// the reaper takes the laboratory down.
func (l *Lab) startReaper() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	log, err := os.OpenFile(l.LogPath("reaper"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a log
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(l.st.Binary, ReaperArg, l.dir) //nolint:noctx,gosec // outlives this process on purpose
	cmd.Env = append(cleanEnv(filepath.Join(l.dir, "home")), EnvKeep+"="+os.Getenv(EnvKeep))
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return fmt.Errorf("start reaper: %w", err)
	}
	p, err := identify(cmd.Process.Pid)
	go func() { _ = cmd.Wait() }()
	if err != nil {
		_ = w.Close()
		return err
	}
	l.leash = w
	return os.WriteFile(l.pidFile("reaper"), []byte(fmt.Sprintf("%d %d\n", p.Pid, p.Ticks)), 0o644)
}

// RunReaper waits for the end of the laboratory's owner, which shows as the end of in,
// and takes the laboratory down.
func RunReaper(ctx context.Context, dir string, in io.Reader) error {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	l, err := Open(dir)
	if errors.Is(err, ErrNoLab) {
		return nil // taken down in good order
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if os.Getenv(EnvKeep) == "1" {
		return nil
	}
	return l.Down(ctx)
}
