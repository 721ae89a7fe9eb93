package bench

import (
	"context"
	"fmt"
	"net/http"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

var memory = Case{Name: "memory", Title: "Memory of the control plane with 10,000 volumes", Run: runMemory}

const (
	memoryVolumes  = 10_000
	memoryPage     = 1_000
	memoryMetadata = 200 // volumes that get metadata
)

func runMemory(ctx context.Context, b *Bench) (err error) {
	s, err := newSite(ctx, b, "bench-memory", withPeer)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	last := make([]float64, 0, 2)
	for _, of := range s.both() {
		p, err := s.processes(of)
		if err != nil {
			return err
		}
		used := func(what string) error {
			m, err := familyMemory(p)
			if err != nil {
				return err
			}
			note := ""
			if of == s.peer {
				note = fmt.Sprintf("%d processes: API (4 workers), scheduler, volume service", m.processes)
			}
			b.Add(Row{What: what + ", PSS", Who: of.who, Unit: "MiB", Samples: []float64{m.pss}, Note: note})
			b.Add(Row{What: what + ", RSS", Who: of.who, Unit: "MiB", Samples: []float64{m.rss}})
			if what == memoryLast {
				last = append(last, m.pss)
			}
			return nil
		}
		if err := s.memoryWork(ctx, of, used); err != nil {
			return err
		}
	}
	if len(last) == 2 {
		b.Add(Row{What: memoryLast + ", PSS, ours ÷ " + cinderName + "'s", Unit: "×", Samples: []float64{last[0] / last[1]}, Goal: AtMost(0.1)})
	}
	return nil
}

const memoryLast = "after metadata was written to 200 of them"

// memoryWork has a contestant hold 10,000 volumes, list them page by page and write metadata.
func (s *site) memoryWork(ctx context.Context, of *service, used func(what string) error) error {
	id, err := of.create(ctx, "seed", "")
	if err != nil {
		return err
	}
	if err := of.available(ctx, []string{id}, availableLimit); err != nil {
		return err
	}
	if err := s.copies(ctx, of, id, memoryVolumes-1, of.project); err != nil {
		return err
	}
	if err := used("10,000 volumes exist"); err != nil {
		return err
	}
	ids, err := of.pages(ctx, memoryPage)
	if err != nil {
		return err
	}
	if len(ids) != memoryVolumes {
		return fmt.Errorf("%s lists %d volumes page by page, want %d", of.url, len(ids), memoryVolumes)
	}
	if err := used("after they were listed, 1,000 to a page"); err != nil {
		return err
	}
	_, err = load(ctx, memoryMetadata, volumesClients, func(ctx context.Context, i int) error {
		return of.do(ctx, http.MethodPost, "/volumes/"+ids[i]+"/metadata", object{"metadata": object{"purpose": "bench", "n": fmt.Sprint(i)}}, nil)
	})
	if err != nil {
		return err
	}
	return used(memoryLast)
}

// pages lists all volumes in detail and returns their ids.
func (s *service) pages(ctx context.Context, limit int) ([]string, error) {
	var ids []string
	for {
		path := fmt.Sprintf("/volumes/detail?limit=%d", limit)
		if len(ids) > 0 {
			path += "&marker=" + ids[len(ids)-1]
		}
		var out struct{ Volumes []struct{ ID string } }
		if err := s.do(ctx, http.MethodGet, path, nil, &out); err != nil {
			return nil, err
		}
		for _, v := range out.Volumes {
			ids = append(ids, v.ID)
		}
		if len(out.Volumes) < limit {
			return ids, nil
		}
	}
}

// processes are those that a contestant was started as.
func (s *site) processes(of *service) ([]int, error) {
	names := []string{"vmthunder-api-0"}
	if of == s.peer {
		names = []string{string(lab.Cinder), "cinder-scheduler", "cinder-volume"}
	}
	var pids []int
	for _, n := range names {
		p, err := s.lab.HostProcess(n)
		if err != nil {
			return nil, err
		}
		pids = append(pids, p.Pid())
	}
	return pids, nil
}
