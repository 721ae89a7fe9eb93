package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

var volumes = Case{Name: "volumes", Title: "100 volumes from one image, first request to last available", Run: runVolumes}

const (
	volumesCount   = 100
	volumesClients = 8
	volumesFew     = 20 // from the image, on both: the peer copies it each time
)

const whyBlank = "blank volumes, which is the easier job: from the image it copies the whole of it for each, see below"

// runVolumes makes volumes of an image that has been imported already, as it is for all
// volumes but an image's first.
func runVolumes(ctx context.Context, b *Bench) (err error) {
	s, err := newSite(ctx, b, "bench-volumes", withPeer)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	b.Progress("importing the image")
	first, err := s.ours.create(ctx, "first", s.image)
	if err != nil {
		return err
	}
	if err := s.ours.available(ctx, []string{first}, availableLimit); err != nil {
		return err
	}
	batch := Row{What: "100 from the image, one batch request, until available", Unit: "s", Goal: AtMost(0.5)}
	for range b.Runs {
		took, err := s.timed(ctx, s.ours, func() ([]string, error) { return s.ours.batch(ctx, volumesCount, s.image) })
		if err != nil {
			return err
		}
		batch.Samples = append(batch.Samples, took)
	}
	b.Add(batch)
	if err := s.hundred(ctx, b); err != nil {
		return err
	}
	return s.few(ctx, b)
}

// timed makes volumes, waits until they are available, says how many seconds that took and
// removes them.
func (s *site) timed(ctx context.Context, of *service, create func() ([]string, error)) (float64, error) {
	start := time.Now()
	ids, err := create()
	if err != nil {
		return 0, err
	}
	if err := of.available(ctx, ids, availableLimit); err != nil {
		return 0, err
	}
	return time.Since(start).Seconds(), s.wipe(ctx, of)
}

// singles makes n volumes by as many requests and keeps what each request took.
func (s *site) singles(ctx context.Context, of *service, n int, image string, posts *[]timings) (float64, error) {
	return s.timed(ctx, of, func() ([]string, error) {
		ids := make([]string, n)
		t, err := load(ctx, n, volumesClients, func(ctx context.Context, i int) (err error) {
			ids[i], err = of.create(ctx, fmt.Sprintf("v-%d", i+1), image)
			return err
		})
		*posts = append(*posts, t)
		return ids, err
	})
}

// hundred measures single requests: ours from the image, the peer's for blank volumes.
func (s *site) hundred(ctx context.Context, b *Bench) error {
	posts := make([][]timings, 2)
	contestants := []func(context.Context) (float64, error){
		func(ctx context.Context) (float64, error) {
			return s.singles(ctx, s.ours, volumesCount, s.image, &posts[0])
		},
	}
	if s.peer != nil {
		contestants = append(contestants, func(ctx context.Context) (float64, error) {
			return s.singles(ctx, s.peer, volumesCount, "", &posts[1])
		})
	}
	took, err := InTurn(ctx, b.Runs, contestants...)
	all := Row{What: "100 from the image, single requests, 8 at a time, until available", Unit: "s", Samples: took[0], Goal: AtMost(1.5)}
	p50 := Row{What: "a request for one from the image, 8 at a time, median", Unit: "ms", Samples: quantiles(posts[0], 0.5), Goal: AtMost(15)}
	p99 := Row{What: "a request for one from the image, 8 at a time, 99th percentile", Unit: "ms", Samples: quantiles(posts[0], 0.99)}
	for _, r := range []*Row{&all, &p50, &p99} {
		b.Add(*r)
		if s.peer == nil {
			continue
		}
		r.What, r.Who, r.Goal, r.Note = strings.Replace(r.What, "from the image", "blank", 1), cinderName, nil, whyBlank
		switch r {
		case &all:
			r.Samples = took[1]
		case &p50:
			r.Samples = quantiles(posts[1], 0.5)
		default:
			r.Samples = quantiles(posts[1], 0.99)
		}
		b.Add(*r)
	}
	return err
}

// few measures volumes from the image on both.
func (s *site) few(ctx context.Context, b *Bench) error {
	var contestants []func(context.Context) (float64, error)
	for _, of := range s.both() {
		contestants = append(contestants, func(ctx context.Context) (float64, error) {
			return s.singles(ctx, of, volumesFew, s.image, &[]timings{})
		})
	}
	took, err := InTurn(ctx, b.Runs, contestants...)
	if err != nil {
		return err
	}
	for i, of := range s.both() {
		b.Add(Row{What: "20 from the image, single requests, 8 at a time, until available", Who: of.who, Unit: "s", Samples: took[i]})
	}
	return nil
}

// quantiles of each load's requests.
func quantiles(of []timings, q float64) []float64 {
	out := make([]float64, 0, len(of))
	for _, t := range of {
		out = append(out, Quantile(slices.Clone(t.each), q))
	}
	return out
}
