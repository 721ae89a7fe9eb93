package disk

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Arg is the argument by which a program calls [Serve].
const Arg = "in-node"

// ReadBytes is the size of one read, and what it is aligned to.
const ReadBytes = 4096

// Op is what a request asks for.
type Op string

// Operations.
const (
	First   Op = "first"   // open Path and read its first bytes
	Scan    Op = "scan"    // read Bytes of Path from Offset on
	Random  Op = "random"  // timed reads at random places there
	Drop    Op = "drop"    // write back, and empty the node's page cache
	Counted Op = "counted" // the reads that Path has served
)

// Request is one line of input.
type Request struct {
	Op     Op     `json:"op"`
	Path   string `json:"path,omitempty"`
	Offset int64  `json:"offset,omitempty"` // bytes
	Bytes  int64  `json:"bytes,omitempty"`
	// Count of random reads. With a Slot it is one read in each slot of so many bytes instead,
	// so that none is read twice.
	Count int    `json:"count,omitempty"`
	Slot  int64  `json:"slot,omitempty"`
	Depth int    `json:"depth,omitempty"` // reads under way at once; 0 is 1
	Seed  uint64 `json:"seed,omitempty"`
}

// Answer is one line of output.
type Answer struct {
	Error string `json:"error,omitempty"`
	// Ns is how long each read took, in ns. Clock is how much of each is the clock's.
	Ns    []int64 `json:"ns,omitempty"`
	Clock int64   `json:"clock,omitempty"`
	Reads int64   `json:"reads,omitempty"`
}

// Serve answers requests until its input ends. All reads are direct.
func Serve(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // it would show in the latencies
	w := bufio.NewWriter(out)
	e := json.NewEncoder(w)
	for s := bufio.NewScanner(in); s.Scan(); runtime.GC() {
		var r Request
		var a Answer
		err := json.Unmarshal(s.Bytes(), &r)
		if err == nil {
			a, err = r.do()
		}
		if err != nil {
			a = Answer{Error: err.Error()}
		}
		if err := errors.Join(e.Encode(a), w.Flush()); err != nil {
			return err
		}
	}
	return nil
}

func (r Request) do() (Answer, error) {
	switch r.Op {
	case Drop:
		unix.Sync()
		return Answer{}, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
	case Counted:
		n, err := served(r.Path)
		return Answer{Reads: n}, err
	}
	fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return Answer{}, fmt.Errorf("open %s: %w", r.Path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	switch r.Op {
	case First:
		_, err = oneByOne(fd, []int64{0})
		return Answer{}, err
	case Scan:
		return Answer{}, scan(fd, r.Offset, r.Bytes)
	case Random:
		a := Answer{Clock: clockCost()}
		if r.Depth <= 1 {
			a.Ns, err = oneByOne(fd, r.places())
		} else {
			a.Ns, err = manyAtOnce(fd, r.places(), r.Depth)
		}
		return a, err
	}
	return Answer{}, fmt.Errorf("unknown operation %q", r.Op)
}

// places are the offsets of a random read.
func (r Request) places() []int64 {
	rng := rand.New(rand.NewPCG(r.Seed, 0)) //nolint:gosec // the same places again, not secrets
	if r.Slot > 0 {
		at := make([]int64, r.Bytes/r.Slot)
		for i := range at {
			at[i] = r.Offset + int64(i)*r.Slot + rng.Int64N(r.Slot/ReadBytes)*ReadBytes
		}
		rng.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		return at
	}
	at := make([]int64, r.Count)
	for i := range at {
		at[i] = r.Offset + rng.Int64N(r.Bytes/ReadBytes)*ReadBytes
	}
	return at
}

// now is the monotonic clock in ns. A node's clock is a system call; time.Now makes two.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // never fails for this clock
	return t.Nano()
}

// clockCost is the median time between two looks at the clock, in ns.
func clockCost() int64 {
	d := make([]int64, 1000)
	for i := range d {
		t := now()
		d[i] = now() - t
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// served is how many reads a block device has served (Documentation/block/stat.rst).
func served(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	return strconv.ParseInt(first, 10, 64)
}

// Micros are the reads' latencies in µs, without the clock's own time.
func (a Answer) Micros() []float64 {
	out := make([]float64, len(a.Ns))
	for i, n := range a.Ns {
		out[i] = float64(max(0, n-a.Clock)) / 1000
	}
	return out
}
