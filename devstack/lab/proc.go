package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procID names a process beyond doubt: a pid and the clock tick it was started at
// (field 22 of proc_pid_stat(5)), so that a recycled pid is never signalled.
type procID struct {
	Pid   int    `json:"pid"`
	Ticks uint64 `json:"ticks"`
}

// procStat is what the laboratory wants to know of /proc/PID/stat.
type procStat struct {
	pid, ppid, pgrp, session int
	state                    byte
	ticks                    uint64
	cpu                      uint64 // user + system time, in clock ticks
}

var errStat = errors.New("malformed process status")

// parseStat parses proc_pid_stat(5). The command name may hold spaces and parentheses.
func parseStat(s string) (procStat, error) {
	open, closing := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 1 || closing < open {
		return procStat{}, errStat
	}
	pid, err := strconv.Atoi(strings.TrimSpace(s[:open]))
	f := strings.Fields(s[closing+1:])
	if err != nil || len(f) < 20 || len(f[0]) != 1 {
		return procStat{}, errStat
	}
	var n [4]int
	for i, at := range []int{1, 2, 3} {
		if n[i], err = strconv.Atoi(f[at]); err != nil {
			return procStat{}, errStat
		}
	}
	var u [3]uint64
	for i, at := range []int{19, 11, 12} {
		if u[i], err = strconv.ParseUint(f[at], 10, 64); err != nil {
			return procStat{}, errStat
		}
	}
	return procStat{pid: pid, state: f[0][0], ppid: n[0], pgrp: n[1], session: n[2], ticks: u[0], cpu: u[1] + u[2]}, nil
}

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(b))
}

func identify(pid int) (procID, error) {
	st, err := readStat(pid)
	if err != nil {
		return procID{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return procID{Pid: pid, Ticks: st.ticks}, nil
}

// alive is false for a process that has ended, reaped or not.
func (p procID) alive() bool {
	if p.Pid <= 0 {
		return false
	}
	st, err := readStat(p.Pid)
	return err == nil && st.ticks == p.Ticks && st.state != 'Z' && st.state != 'X'
}

// signal sends a signal through a pidfd; a process that has ended is no error.
func (p procID) signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if !p.alive() { // asked after the open: from here on fd cannot mean another process
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.Pid, err)
	}
	return nil
}

// gone waits for the process's end.
func (p procID) gone(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if st, err := readStat(p.Pid); err != nil || st.ticks != p.Ticks {
		return nil // reaped, and perhaps its number given out again
	}
	// A pidfd is readable once all threads have ended, and with them the last open file
	// and socket; the state in /proc says Z as soon as the first thread has. The time
	// limit is there to notice ctx.
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d: %w", p.Pid, err)
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the end of process %d: %w", p.Pid, ctx.Err())
		}
	}
}

// allProcs lists the processes for which keep says yes.
func allProcs(keep func(procStat) bool) []procID {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []procID
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		st, err := readStat(pid)
		if err == nil && st.state != 'Z' && st.state != 'X' && keep(st) {
			out = append(out, procID{Pid: pid, Ticks: st.ticks})
		}
	}
	return out
}

// family is the process, all of its session and all of their descendants: every process
// the laboratory starts leads a session of its own, but a server's workers may leave it
// (Postgres's do). Only processes inside the namespace count, so a session or parent
// whose number was given out again is never touched.
func (l *Lab) family(p procID) []procID { return l.kin(p, map[int]bool{}) }

// kin is family, and whoever belongs to a session or parent in known, which grows.
func (l *Lab) kin(p procID, known map[int]bool) []procID {
	ns, err := os.Stat(netnsPath(l.st.Namespace))
	if err != nil {
		return nil
	}
	var all []procStat
	allProcs(func(st procStat) bool {
		all = append(all, st)
		return false
	})
	have := map[int]bool{}
	var out []procID
	for grown := true; grown; {
		grown = false
		for _, st := range all {
			kin := st.pid == p.Pid && st.ticks == p.Ticks || st.session == p.Pid && st.ticks >= p.Ticks || known[st.ppid] || known[st.session]
			if have[st.pid] || !kin || !inNamespace(ns, st.pid) {
				continue
			}
			have[st.pid], known[st.pid], grown = true, true, true
			out = append(out, procID{Pid: st.pid, Ticks: st.ticks})
		}
	}
	return out
}

// killFamily ends the process and its family at once and waits until none is left, nor
// any that was born meanwhile.
func (l *Lab) killFamily(ctx context.Context, p procID) error {
	known := map[int]bool{}
	for {
		ps := l.kin(p, known)
		if len(ps) == 0 {
			return nil
		}
		if err := killAll(ctx, ps); err != nil {
			return err
		}
	}
}

func killAll(ctx context.Context, ps []procID) error {
	for _, p := range ps {
		if err := p.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, p := range ps {
		if err := p.gone(ctx); err != nil {
			return err
		}
	}
	return nil
}

func inNamespace(ns os.FileInfo, pid int) bool {
	x, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && os.SameFile(ns, x)
}

// spec is a process to start inside the namespace.
type spec struct {
	name string // of its pid and log files
	argv []string
	env  []string // whole environment
	dir  string
	log  string // path of the file that takes stdout and stderr
	cred *syscall.Credential
	bind string // directory that is to be a mount point, see mounted; empty: none
}

func (l *Lab) pidFile(name string) string { return filepath.Join(l.dir, "run", name+".pid") }

func (l *Lab) procOf(name string) (procID, bool) {
	b, err := os.ReadFile(l.pidFile(name))
	if err != nil {
		return procID{}, false
	}
	var p procID
	if _, err := fmt.Sscanf(string(b), "%d %d", &p.Pid, &p.Ticks); err != nil {
		return procID{}, false
	}
	return p, p.alive()
}

// startProc starts a process in the namespace, in a session of its own.
func (l *Lab) startProc(s spec) (procID, error) {
	if p, ok := l.procOf(s.name); ok {
		return p, fmt.Errorf("start %s: %w, pid %d", s.name, ErrRunning, p.Pid)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a log for people
	if err != nil {
		return procID{}, fmt.Errorf("start %s: %w", s.name, err)
	}
	defer log.Close()
	cmd := exec.Command(s.argv[0], s.argv[1:]...) //nolint:noctx,gosec // outlives its caller; stopped by its session
	cmd.Env, cmd.Dir = s.env, s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.cred}
	start := func() error { return l.inside(cmd.Start) }
	if s.bind != "" {
		start = func() error { return l.mounted(s.bind, cmd.Start) }
	}
	if err := start(); err != nil {
		return procID{}, fmt.Errorf("start %s: %w", s.name, err)
	}
	p, err := identify(cmd.Process.Pid)
	go func() { _ = cmd.Wait() }() // reaps; how it ended is in its log
	if err != nil {
		return p, fmt.Errorf("start %s: %w%s", s.name, err, tail(s.log))
	}
	text := fmt.Sprintf("%d %d\n", p.Pid, p.Ticks)
	if err := os.WriteFile(l.pidFile(s.name), []byte(text), 0o644); err != nil {
		_ = l.killFamily(context.Background(), p)
		return p, fmt.Errorf("start %s: %w", s.name, err)
	}
	return p, nil
}

// stopProc ends a process and its session: with sig first, and by force after grace.
func (l *Lab) stopProc(ctx context.Context, name string, sig syscall.Signal, grace time.Duration) error {
	p, ok := l.procOf(name)
	defer os.Remove(l.pidFile(name))
	family := l.family(p)
	if ok && sig != syscall.SIGKILL {
		for _, q := range family {
			_ = q.signal(syscall.SIGCONT) // a stopped process cannot end by itself
		}
		if err := p.signal(sig); err != nil {
			return err
		}
		gctx, cancel := context.WithTimeout(ctx, grace)
		_ = p.gone(gctx)
		cancel()
	}
	if p.Pid == 0 {
		return nil
	}
	// Those who lost their parent in the orderly part are no descendants any more.
	if err := killAll(ctx, family); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	if err := l.killFamily(ctx, p); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

// tail returns the last lines of a log for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	return "; log " + path + " ends:\n" + strings.Join(lines, "\n")
}

// cleanEnv is the environment of all servers: nothing of the caller's leaks in.
func cleanEnv(home string, more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC"}, more...)
}
