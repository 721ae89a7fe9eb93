package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Case is one thing that is measured.
type Case struct {
	Name  string // one word, to choose it by
	Title string
	Run   func(ctx context.Context, b *Bench) error
}

// Cases in the order they run.
var Cases = []Case{volumes, rates, spread, attach, read, growth, memory, tree}

// Options of a run.
type Options struct {
	// Runs of each figure, at least 1; figures that have a peer take at least 5.
	Runs int
	// Cases to run by name; none: all.
	Cases    []string
	Progress func(format string, args ...any)
}

// Bench is a run in progress.
type Bench struct {
	Options
	Report *Report
}

// Run runs the cases. A case that fails is said so in the report and does not keep the
// others from running; the error names all that failed.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Runs < 1 {
		o.Runs = 5
	}
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	chosen, err := choose(o.Cases)
	if err != nil {
		return nil, err
	}
	b := &Bench{Options: o, Report: &Report{Machine: machine(), Started: time.Now().UTC(), Runs: o.Runs}}
	var failed error
	for _, c := range chosen {
		o.Progress("%s: %s", c.Name, c.Title)
		start := time.Now()
		s := &Section{Name: c.Name, Title: c.Title}
		b.Report.Sections = append(b.Report.Sections, s)
		if err := c.Run(ctx, b); err != nil {
			s.Error = err.Error()
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.Name, err))
		}
		s.Seconds = time.Since(start).Seconds()
		if ctx.Err() != nil {
			return b.Report, failed
		}
	}
	return b.Report, failed
}

func choose(names []string) ([]Case, error) {
	if len(names) == 0 {
		return Cases, nil
	}
	var out []Case
	for _, n := range names {
		i := slices.IndexFunc(Cases, func(c Case) bool { return c.Name == n })
		if i < 0 {
			var known []string
			for _, c := range Cases {
				known = append(known, c.Name)
			}
			return nil, fmt.Errorf("there is no case %q; there are %s", n, strings.Join(known, ", "))
		}
		out = append(out, Cases[i])
	}
	return out, nil
}

// Add puts a row into the section of the running case.
func (b *Bench) Add(r Row) {
	s := b.Report.Sections[len(b.Report.Sections)-1]
	s.Rows = append(s.Rows, r)
	b.Progress("  %s", r.String())
}

// InTurn runs every contestant once, then every one again, and so on (A B A B), n times,
// and returns each one's samples. The first error ends it.
func InTurn(ctx context.Context, n int, contestants ...func(context.Context) (float64, error)) ([][]float64, error) {
	out := make([][]float64, len(contestants))
	for range n {
		for i, f := range contestants {
			if err := ctx.Err(); err != nil {
				return out, err
			}
			v, err := f(ctx)
			if err != nil {
				return out, err
			}
			out[i] = append(out[i], v)
		}
	}
	return out, nil
}
