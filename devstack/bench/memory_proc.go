package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryUse of some processes in MiB. PSS shares what several map among them, so it adds up.
type memoryUse struct {
	pss, rss  float64
	processes int
}

// familyMemory adds up the memory of processes and all their descendants.
func familyMemory(pids []int) (memoryUse, error) {
	parents, err := parentsOfAll()
	if err != nil {
		return memoryUse{}, err
	}
	var u memoryUse
	for _, pid := range family(pids, parents) {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			if os.IsNotExist(err) {
				continue // has ended meanwhile
			}
			return u, err
		}
		pss, rss, err := parseRollup(string(b))
		if err != nil {
			return u, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		u.pss, u.rss, u.processes = u.pss+pss, u.rss+rss, u.processes+1
	}
	return u, nil
}

// family is the processes with all their descendants, given the parent of every process.
func family(pids []int, parents map[int]int) []int {
	in := map[int]bool{}
	for _, p := range pids {
		in[p] = true
	}
	out := append([]int(nil), pids...)
	for grown := true; grown; {
		grown = false
		for pid, parent := range parents {
			if in[parent] && !in[pid] {
				in[pid], grown = true, true
				out = append(out, pid)
			}
		}
	}
	return out
}

// parentsOfAll reads /proc; processes that end meanwhile are left out.
func parentsOfAll() (map[int]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), "stat"))
		if err != nil {
			continue
		}
		// pid (name, with any characters) state ppid … (proc_pid_stat(5))
		_, rest, _ := cutLast(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 {
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	return parents, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// parseRollup reads the totals of proc_pid_smaps(5), which are in KiB, as MiB.
func parseRollup(s string) (pss, rss float64, err error) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return 0, 0, err
		}
		switch f[0] {
		case "Pss:":
			pss = kib / 1024
		case "Rss:":
			rss = kib / 1024
		}
	}
	if pss == 0 || rss == 0 {
		return 0, 0, fmt.Errorf("no Pss and Rss in %.60q", s)
	}
	return pss, rss, nil
}
