package bench

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	var seen [20]atomic.Int32
	var at, most atomic.Int32
	tm, err := load(t.Context(), len(seen), 3, func(_ context.Context, i int) error {
		most.Store(max(most.Load(), at.Add(1)))
		defer at.Add(-1)
		seen[i].Add(1)
		return nil
	})
	if err != nil || len(tm.each) != len(seen) || tm.wall <= 0 || most.Load() > 3 {
		t.Errorf("%v, %d timings in %s, %d at once", err, len(tm.each), tm.wall, most.Load())
	}
	for i := range seen {
		if n := seen[i].Load(); n != 1 {
			t.Errorf("request %d was sent %d times", i, n)
		}
	}
	broken := errors.New("broken")
	var sent atomic.Int32
	_, err = load(t.Context(), 1000, 2, func(ctx context.Context, i int) error {
		if sent.Add(1) == 5 {
			return broken
		}
		return ctx.Err()
	})
	if !errors.Is(err, broken) || sent.Load() > 10 {
		t.Errorf("%v after %d requests, want it to end with the first error", err, sent.Load())
	}
}

func TestRates(t *testing.T) {
	tm := timings{each: make([]float64, 50), wall: 2 * time.Second}
	if got := tm.perSecond(); got != 25 {
		t.Errorf("%v per second", got)
	}
	rows := against(
		ratesFigures{creates: []float64{500, 400}, shows: []float64{3000, 3000}, list: []float64{20, 10}},
		ratesFigures{creates: []float64{10, 10}, shows: []float64{100, 101}, list: []float64{400, 500}})
	for i, want := range [][]float64{{50, 40}, {30, 3000.0 / 101}, {20, 50}} {
		if !slices.Equal(rows[i].Samples, want) {
			t.Errorf("%s: %v, want %v", rows[i].What, rows[i].Samples, want)
		}
	}
	if got := quantiles([]timings{{each: []float64{3, 1, 2}}, {each: []float64{5}}}, 0.5); !slices.Equal(got, []float64{2, 5}) {
		t.Errorf("quantiles %v", got)
	}
}
