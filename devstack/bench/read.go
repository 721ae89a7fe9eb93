package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vmthunder/vmthunder/devstack/bench/disk"
)

var read = Case{Name: "read", Title: "4 KiB random reads of a warm volume", Run: runRead}

const (
	readRuns   = 7
	readCount  = 3000     // reads of one contestant in one run
	readSlot   = 64 << 10 // of the reads that find the page cache empty
	readRaw    = "/dev/ubdb"
	readRawAt  = 16 << 20 // where the cache's buckets begin, or a little later
	readCached = "/dev/bcache0"
)

// reading is a contestant.
type reading struct {
	who, what string
	request   disk.Request
	cold      bool // empty the page cache before each run
	// runs: the latencies of each, in µs, sorted.
	runs [][]float64
}

func runRead(ctx context.Context, b *Bench) (err error) {
	s, err := newWarmSite(ctx, b, "bench-read")
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	if err := s.warmCache(ctx); err != nil {
		return err
	}
	for _, depth := range []int{1, 16} {
		if err := s.readAtDepth(ctx, b, depth); err != nil {
			return err
		}
	}
	return nil
}

// warmCache reads all of the image past the page cache until nothing comes from the parent any
// more: bcache does not keep each block that it reads for the first time.
func (s *warmSite) warmCache(ctx context.Context) error {
	for range 6 {
		if err := ctx.Err(); err != nil {
			return err
		}
		before, err := s.counted(s.path())
		if err != nil {
			return err
		}
		if _, err := s.disks.ask(disk.Request{Op: disk.Drop}); err != nil {
			return err
		}
		if err := s.warm(); err != nil {
			return err
		}
		after, err := s.counted(s.path())
		if err != nil {
			return err
		}
		if after == before {
			return nil
		}
	}
	return errors.New("the image is read from the parent again and again")
}

// path is the device that stands for the parent.
func (s *warmSite) path() string { return "/dev/mapper/vmthunder-image-" + s.image + "-path" }

func (s *warmSite) readAtDepth(ctx context.Context, b *Bench, depth int) error {
	random := disk.Request{Op: disk.Random, Bytes: warmImageBytes, Count: readCount, Depth: depth}
	raw, page, cached := random, random, random
	raw.Path, raw.Offset = readRaw, readRawAt
	page.Path, cached.Path = s.device, s.device
	cached.Count, cached.Slot = 0, readSlot
	all := []*reading{
		{who: "raw local disk", request: raw},
		{what: ", warm in the page layer", request: page},
		{what: ", in bcache only", request: cached, cold: true},
	}
	var seed uint64
	var contestants []func(context.Context) (float64, error)
	for _, r := range all {
		contestants = append(contestants, func(context.Context) (float64, error) {
			seed++
			return 0, s.readOnce(r, seed)
		})
	}
	if _, err := InTurn(ctx, max(readRuns, b.Runs), contestants...); err != nil {
		return err
	}
	for _, r := range all {
		what := fmt.Sprintf("depth %d%s", depth, r.what)
		b.Add(Row{What: what + ", p50", Who: r.who, Unit: "µs", Samples: r.quantiles(0.5), Note: readNotes[r.who+r.what]})
		b.Add(Row{What: what + ", p99", Who: r.who, Unit: "µs", Samples: r.quantiles(0.99)})
	}
	for _, r := range all[1:] {
		row := Row{What: fmt.Sprintf("depth %d%s, p50 ÷ raw local disk's", depth, r.what), Unit: "×", Samples: ratios(r.quantiles(0.5), all[0].quantiles(0.5))}
		if !r.cold {
			row.Note = "Below 1 because it is answered from RAM: the page cache of the layer that all volumes of the image share."
		}
		b.Add(row)
	}
	return nil
}

// readNotes say what a figure leaves out.
var readNotes = map[string]string{
	"raw local disk":           "The node's cache disk itself, read with O_DIRECT. It is a file of the host, most of it in the host's RAM, so a real SSD takes its own time on top; one look at the clock is taken off each figure.",
	", warm in the page layer": "The whole image was read before; not one of these reads reaches bcache, as the kernel's counters show.",
	", in bcache only":         "The page cache is emptied before each run and no page is read twice in it; all reads are bcache hits, nothing comes from the parent.",
}

// readOnce is one run of a contestant. It sees to it by the kernel's counters that the reads
// were served where they are said to be.
func (s *warmSite) readOnce(r *reading, seed uint64) error {
	if r.cold {
		// The image's first page is fetched again, so that what was dropped of the program is there.
		for _, q := range []disk.Request{{Op: disk.Drop}, {Op: disk.First, Path: r.request.Path}} {
			if _, err := s.disks.ask(q); err != nil {
				return err
			}
		}
	} else if r.who == "" {
		if err := s.warm(); err != nil { // another contestant has emptied the page cache
			return err
		}
	}
	q := r.request
	q.Seed = seed
	fromParent, err := s.counted(s.path())
	if err != nil {
		return err
	}
	fromCache, err := s.counted(readCached)
	if err != nil {
		return err
	}
	a, err := s.disks.ask(q)
	if err != nil {
		return err
	}
	n := int64(len(a.Ns))
	parent, err := s.counted(s.path())
	if err != nil {
		return err
	}
	cache, err := s.counted(readCached)
	if err != nil {
		return err
	}
	switch parent, cache = parent-fromParent, cache-fromCache; {
	case parent != 0:
		return fmt.Errorf("%d of %d reads of a warm volume went to the parent", parent, n)
	case r.cold && cache < n*9/10:
		return fmt.Errorf("only %d of %d reads went to bcache with an empty page cache", cache, n)
	case !r.cold && cache != 0:
		return fmt.Errorf("%d of %d reads of a volume that is warm in the page layer went to bcache", cache, n)
	}
	us := a.Micros()
	slices.Sort(us)
	r.runs = append(r.runs, us)
	return nil
}

// counted is how many reads a device of the node has served.
func (s *warmSite) counted(path string) (int64, error) {
	a, err := s.disks.ask(disk.Request{Op: disk.Counted, Path: path})
	return a.Reads, err
}

// quantiles of each run.
func (r *reading) quantiles(q float64) []float64 {
	var out []float64
	for _, run := range r.runs {
		out = append(out, Quantile(run, q))
	}
	return out
}

// ratios of what was measured in the same turn.
func ratios(of, to []float64) []float64 {
	var out []float64
	for i := range min(len(of), len(to)) {
		out = append(out, of[i]/to[i])
	}
	return out
}
