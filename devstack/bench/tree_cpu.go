package bench

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ownCPU is what this process has used, user and system.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procStat is what /proc/PID/stat says, see proc(5).
type procStat struct {
	parent   int
	own      time.Duration // user and system
	children time.Duration // of those that have ended and were waited for
}

// userHZ is the unit of times in /proc, 100 a second on every architecture that matters.
const userHZ = time.Second / 100

// parseStat reads a line of /proc/PID/stat; the name in it may hold anything.
func parseStat(line string) (procStat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return procStat{}, fmt.Errorf("stat %q has no name", line)
	}
	fields := strings.Fields(line[end+1:]) // from the third on
	if len(fields) < 15 {
		return procStat{}, fmt.Errorf("stat %q is too short", line)
	}
	var n [5]int64
	for i, f := range []int{1, 11, 12, 13, 14} {
		v, err := strconv.ParseInt(fields[f], 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("stat %q: %w", line, err)
		}
		n[i] = v
	}
	return procStat{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * userHZ, children: time.Duration(n[3]+n[4]) * userHZ}, nil
}

func readStat(pid string) (procStat, error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(b))
}

// postmaster finds the first process of the Postgres that answers.
func postmaster(ctx context.Context, dsn string) (int, error) {
	conn, err := sql.Open("postgres", dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var pid int
	if err := conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return 0, err
	}
	st, err := readStat(strconv.Itoa(pid))
	return st.parent, err
}

// postgresCPU is what all of Postgres has used: its first process with those that have
// ended, and those that run.
func (s *treeSite) postgresCPU() time.Duration {
	first, err := readStat(strconv.Itoa(s.postgres))
	if err != nil {
		return 0
	}
	sum := first.own + first.children
	entries, _ := os.ReadDir("/proc") // what can't be read can't be counted
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if st, err := readStat(e.Name()); err == nil && st.parent == s.postgres {
			sum += st.own
		}
	}
	return sum
}
