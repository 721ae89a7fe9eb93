package agent

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	pauses := func(err error, n int) (all []time.Duration, sum time.Duration) {
		var p patience
		for range n {
			d := p.next(err)
			all, sum = append(all, d), sum+d
		}
		return all, sum
	}
	for name, c := range map[string]struct {
		err   error
		n     int
		last  time.Duration
		total time.Duration
	}{
		"the first":                   {errors.New("x"), 1, 200 * time.Millisecond, 200 * time.Millisecond},
		"longer each time":            {errors.New("x"), 4, 675 * time.Millisecond, 1625 * time.Millisecond},
		"no longer than the last":     {errors.New("x"), 30, lastRetry, 0},
		"a parent that is being made": {fmt.Errorf("image: %w", errNoParent), 50, parentRetry, 0},
		"a parent that never comes":   {fmt.Errorf("image: %w", errNoParent), 100, lastRetry, 0},
	} {
		all, sum := pauses(c.err, c.n)
		if got := all[c.n-1]; got != c.last {
			t.Errorf("%s: pause %d is %s, want %s", name, c.n, got, c.last)
		}
		if c.total != 0 && sum != c.total {
			t.Errorf("%s: %d pauses take %s, want %s", name, c.n, sum, c.total)
		}
	}
}
