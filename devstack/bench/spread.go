package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

var spread = Case{Name: "spread", Title: "8 cold nodes read the same 32 MiB of an image at once", Run: runSpread}

const (
	spreadNodes = 8
	// spreadImage is small, so that the peer that copies all of it is done in a minute.
	spreadImage = 64 << 20
	spreadSet   = 32 << 20
	spreadSeed  = 2014
	// spreadDepth is how many requests a node has under way, as a guest does that starts
	// its services side by side.
	spreadDepth = 4
)

// spreadRate is the speed of all links, both ways.
type spreadRate struct {
	name    string // as tc has it
	words   string
	bytes   float64 // a second
	oneOnly bool    // one run of the trees alone
}

// At the lower rate the links are the limit even where two processors do the work of nine
// kernels.
var spreadRates = []spreadRate{
	{"100mbit", "100 Mbit/s", 100e6 / 8, false},
	{"20mbit", "20 Mbit/s", 20e6 / 8, true},
}

var spreadDegrees = []int{1, 2, 4}

func runSpread(ctx context.Context, b *Bench) (err error) {
	specs := []lab.NodeSpec{{Name: "origin", Memory: 384}}
	for i := range spreadNodes {
		specs = append(specs, lab.NodeSpec{Name: fmt.Sprintf("node%d", i+1)})
	}
	l, err := lab.Up(ctx, lab.Options{
		Name: "bench-spread", Services: []lab.Service{lab.Postgres, lab.Rabbit, lab.Keystone, lab.Glance}, Nodes: specs, Owned: true, Progress: b.Progress,
	})
	if err != nil {
		return err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, l.Down(down))
	}()
	c, err := cluster.Start(ctx, l, cluster.Options{
		Origins: []string{"origin"}, Progress: b.Progress,
		SetNode: map[string]map[string]string{"origin": {"node.compute": "false"}},
	})
	if err != nil {
		return err
	}
	s, err := newSpreadSite(ctx, c, b.Progress)
	if err != nil {
		return err
	}
	for _, r := range spreadRates {
		if err := s.measure(ctx, b, r); err != nil {
			return fmt.Errorf("at %s: %w", r.words, err)
		}
	}
	return nil
}

// measure lets all contestants run in turn at one rate and adds their rows.
func (s *spreadSite) measure(ctx context.Context, b *Bench, rate spreadRate) error {
	var all []*spreadContestant
	for _, d := range spreadDegrees {
		all = append(all, s.treeContestant(d))
	}
	runs := 1
	if !rate.oneOnly {
		runs = b.Runs
		all = append(all, s.starContestant(), s.qcow2Contestant(), s.copyContestant())
	}
	var turns []func(context.Context) (float64, error)
	for _, c := range all {
		turns = append(turns, func(ctx context.Context) (float64, error) {
			r, err := c.run(ctx, rate)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", c.words(), err)
			}
			c.results = append(c.results, r)
			b.Progress("  %s, %s: %s", c.words(), rate.words, r)
			return r.seconds, nil
		})
	}
	if _, err := InTurn(ctx, runs, turns...); err != nil {
		return err
	}
	for _, c := range all {
		for _, row := range c.rows(rate, b.Report.Machine.Cores, runs < b.Runs) {
			b.Add(row)
		}
	}
	return nil
}
