package load

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Record is what is known outside of the loads of one volume.
type Record struct {
	mu     sync.Mutex
	Acked  map[uint64]uint64 // by block: the newest write that was acknowledged
	Last   uint64            // newest sequence number that was begun
	Writes int               // acknowledged
	Reads  int               // that gave what they should
	Errors []string          // that an operation has given
	Wrong  []string          // blocks with other bytes than they should have
	Waits  []time.Duration   // how long each operation took
	seen   map[uint64]uint64 // of the scan in progress
	Ready  chan struct{}     // closed when the load of the moment has begun
}

// NewRecord of a volume that nothing was written to.
func NewRecord() *Record { return &Record{Acked: map[uint64]uint64{}} }

// Begin must come before each load's lines. scan tells whether it begins with a scan.
func (r *Record) Begin(scan bool) (ready <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Ready, r.seen = make(chan struct{}), nil
	if scan {
		r.seen = map[uint64]uint64{}
	}
	return r.Ready
}

// Done is how much was done so far.
func (r *Record) Done() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Writes + r.Reads
}

// Follow takes the lines of a load until they end. ended tells whether the load said that it was at
// its end.
func (r *Record) Follow(lines io.Reader) (ended bool, err error) {
	s := bufio.NewScanner(lines)
	for s.Scan() {
		end, err := r.line(s.Text())
		if err != nil {
			return false, fmt.Errorf("%w: %q", err, s.Text())
		}
		ended = ended || end
	}
	return ended, s.Err()
}

func (r *Record) line(l string) (end bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind, rest, _ := strings.Cut(l, " ")
	switch kind {
	case "end":
		return true, nil
	case "ready":
		r.scanned()
		close(r.Ready)
		return false, nil
	case "e":
		r.Errors = append(r.Errors, rest)
		return false, nil
	case "bad":
		r.Wrong = append(r.Wrong, rest)
		return false, nil
	}
	var n []uint64
	for _, w := range strings.Fields(rest) {
		x, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return false, err
		}
		n = append(n, x)
	}
	switch {
	case kind == "k" && len(n) == 2 && r.seen != nil:
		r.seen[n[0]] = n[1]
	case kind == "w" && len(n) == 2:
		r.Last = max(r.Last, n[1])
	case kind == "a" && len(n) == 3:
		r.Acked[n[0]] = n[1]
		r.Writes++
		r.Waits = append(r.Waits, time.Duration(n[2])*time.Microsecond) //nolint:gosec // it is no billion years
	case kind == "r" && len(n) == 2:
		r.Reads++
		r.Waits = append(r.Waits, time.Duration(n[1])*time.Microsecond) //nolint:gosec // it is no billion years
	default:
		return false, errLine
	}
	return false, nil
}

var errLine = fmt.Errorf("no line of a load")

// scanned compares what a scan has found with what was acknowledged. What is newer counts from now on.
func (r *Record) scanned() {
	if r.seen == nil {
		return
	}
	for block, acked := range r.Acked {
		if have := r.seen[block]; have < acked {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%d lost: write %d was acknowledged, it holds %d", block, acked, have))
		}
	}
	for block, have := range r.seen {
		r.Acked[block] = have
		r.Last = max(r.Last, have)
	}
	r.seen = nil
}
