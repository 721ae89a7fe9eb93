package bench

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// timings of a load's requests.
type timings struct {
	each []float64     // milliseconds
	wall time.Duration // from the first to the last
}

// perSecond is the rate of the whole load.
func (t timings) perSecond() float64 { return float64(len(t.each)) / t.wall.Seconds() }

// load sends n requests from so many clients, each of which sends its next when it has
// the answer to the one before.
func load(ctx context.Context, n, clients int, request func(ctx context.Context, i int) error) (timings, error) {
	t := timings{each: make([]float64, n)}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range clients {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				sent := time.Now()
				if err := request(ctx, i); err != nil {
					return err
				}
				t.each[i] = millis(time.Since(sent))
			}
			return nil
		})
	}
	err := g.Wait()
	t.wall = time.Since(start)
	return t, err
}
