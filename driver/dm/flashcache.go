package dm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// FlashcacheMode is how flashcache writes.
type FlashcacheMode int

// Modes of flashcache; writeback is never wanted here.
const (
	FlashcacheWriteThrough FlashcacheMode = 2
	FlashcacheWriteAround  FlashcacheMode = 3
)

// FlashcacheStart is what flashcache does with what is on the cache device.
type FlashcacheStart int

// Ways to start.
const (
	FlashcacheReload      FlashcacheStart = 1 // what is there is used
	FlashcacheCreate      FlashcacheStart = 2 // refused if there is a cache
	FlashcacheForceCreate FlashcacheStart = 3 // what is there is lost
)

// FlashcacheTarget is the out-of-tree cache of the VMThunder paper. Parameters in
// order, from the comment above flashcache_ctr in flashcache's flashcache_conf.c
// (version 3): disk, cache device, name of the cache, mode, persistence, and for a
// new cache block size in sectors, cache size in blocks, associativity.
type FlashcacheTarget struct {
	Disk, Cache  string // paths: the module remembers and prints them
	Name         string // of the cache, usually the device's
	Mode         FlashcacheMode
	Start        FlashcacheStart
	BlockSectors uint64 // power of two; the module's default (8) if 0; not for a reload
}

// Segment of sectors.
func (f FlashcacheTarget) Segment(sectors uint64) driver.Segment {
	a := []any{escape(f.Disk), escape(f.Cache), f.Name, int(f.Mode), int(f.Start)}
	if f.BlockSectors != 0 && f.Start != FlashcacheReload {
		a = append(a, f.BlockSectors)
	}
	return line(sectors, "flashcache", a...)
}

// ParseFlashcache is the reverse of [FlashcacheTarget.Segment], for tables as they
// are given to the module; what the module prints as its table is a report.
func ParseFlashcache(s driver.Segment) (FlashcacheTarget, error) {
	a := args{fields: SplitParams(s.Params)}
	t := FlashcacheTarget{Disk: a.str(), Cache: a.str(), Name: a.str()}
	t.Mode, t.Start = FlashcacheMode(a.small()), FlashcacheStart(a.small())
	if a.more() {
		t.BlockSectors = a.num()
	}
	return t, a.done(s, "flashcache")
}

// small is a num below 10.
func (a *args) small() int {
	n := a.num()
	if n > 9 {
		a.fail()
		return 0
	}
	return int(n)
}

// FlashcacheStatus is the part of flashcache's report that tells how well it does.
type FlashcacheStatus struct {
	Reads, ReadHits uint64 // requests
}

// ParseFlashcacheStatus reads "reads(N)" and "read hits(N)" out of the report.
func ParseFlashcacheStatus(params string) (FlashcacheStatus, error) {
	var st FlashcacheStatus
	for _, f := range []struct {
		key string
		to  *uint64
	}{{"reads(", &st.Reads}, {"read hits(", &st.ReadHits}} {
		_, rest, ok := strings.Cut(params, f.key)
		num, _, closed := strings.Cut(rest, ")")
		n, err := strconv.ParseUint(strings.TrimSpace(num), 10, 64)
		if !ok || !closed || err != nil {
			return FlashcacheStatus{}, fmt.Errorf("%w: flashcache status without %s)", errParams, f.key)
		}
		*f.to = n
	}
	return st, nil
}
