package bench

import (
	"math"
	"strings"
	"testing"
)

// The parts of a range are the range, each number once.
func TestShare(t *testing.T) {
	for _, x := range []struct{ first, last, n int }{{1, 100, 9}, {100, 1000, 9}, {1000, 10000, 9}, {5, 8, 9}, {0, 9, 9}} {
		next := x.first
		for i := range x.n {
			from, to := share(x.first, x.last, i, x.n)
			if from != next || to < from-1 {
				t.Errorf("part %d of %d to %d is %d to %d, want it to begin with %d", i, x.first, x.last, from, to, next)
			}
			next = to + 1
		}
		if next != x.last {
			t.Errorf("%d to %d: the parts end at %d", x.first, x.last, next)
		}
	}
}

func TestGrowthRow(t *testing.T) {
	r := growthRow("x", []float64{1, 10, 11, 15})
	if len(r.Samples) != 1 || r.Samples[0] != 1.5 || !r.Met() || !strings.HasSuffix(r.Note, "100: 1, 1000: 10, 10000: 11, 100000: 15") {
		t.Errorf("row %+v", r)
	}
	if r := growthRow("x", []float64{1, 10, 11, 15.1}); r.Met() {
		t.Errorf("%v meets its goal", r)
	}
	if r := growthRow("x", []float64{1, 10}); !math.IsNaN(r.Median()) || r.Met() {
		t.Errorf("a row without its largest size: %v", r)
	}
}
