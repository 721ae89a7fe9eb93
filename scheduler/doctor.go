package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/doctor"
	"github.com/vmthunder/vmthunder/scheduler/reconcile"
)

// How a check-up is paced.
const (
	// stuckAfter: what is being worked on and has not moved for so long is wrong.
	stuckAfter = 15 * time.Minute
	// lookers bounds the nodes that are looked at side by side.
	lookers = 16
	// lookTimeout bounds the answer of one node, lookAgain is between two looks at one that is at work.
	lookTimeout = 15 * time.Second
	lookAgain   = 500 * time.Millisecond
)

// Doctor looks for differences between the database and what stands on the nodes, and within the database.
// With c.Repair it mends what is safe, and looks again: what is left is in the findings, what was done
// in Mended. Without, nothing is changed anywhere.
//
// model.ErrInvalid: c names what can't be an image or a volume; model.ErrNotFound: what is not there.
func (s *Service) Doctor(ctx context.Context, c model.Checkup) (model.Diagnosis, error) {
	d, err := s.examine(ctx, c)
	if err != nil || !c.Repair {
		return d, err
	}
	mended := s.mend(ctx, doctor.Repairs(d.Findings))
	if len(mended) == 0 {
		return d, nil
	}
	d, err = s.examine(ctx, c)
	d.Mended = mended
	return d, err
}

func (s *Service) examine(ctx context.Context, c model.Checkup) (model.Diagnosis, error) {
	only, err := s.scope(ctx, c)
	if err != nil {
		return model.Diagnosis{}, err
	}
	census, err := s.store.Census(ctx)
	if err != nil {
		return model.Diagnosis{}, err
	}
	o := doctor.Options{Now: s.opt.Now(), Degree: s.opt.Degree, Stuck: stuckAfter}
	d := model.Diagnosis{
		At: o.Now, Nodes: len(census.Nodes), Images: len(census.Images), Volumes: census.Volumes, Snapshots: census.Snapshots, More: census.More,
	}
	found := doctor.Rows(census, o)

	trees := map[uuid.UUID][]model.Finding{}
	for _, i := range census.Images {
		if c.Image != "" && c.Image != i.ID.String() {
			continue
		}
		if trees[i.ID], err = s.examineTree(ctx, i.ID, o); err != nil {
			return d, err
		}
	}
	looks, err := s.lookAll(ctx, census, only)
	if err != nil {
		return d, err
	}
	for _, l := range looks {
		n := l.State.Node
		if l.Seen != nil {
			d.Answered++
		}
		if d.OldestHost == "" || d.Oldest != nil && (n.LastSeen == nil || n.LastSeen.Before(*d.Oldest)) {
			d.OldestHost, d.Oldest = n.Host, n.LastSeen
		}
		found = append(found, doctor.Node(l, o)...)
	}
	// Trees change in several steps; what was wrong before the nodes were looked at and is not any more
	// was one of those.
	for id, before := range trees {
		if len(before) == 0 {
			continue
		}
		after, err := s.examineTree(ctx, id, o)
		if err != nil {
			return d, err
		}
		found = append(found, after...)
	}
	d.Findings = doctor.Sort(doctor.Filter(found, c))
	return d, nil
}

// scope is which nodes are asked; nil is all.
func (s *Service) scope(ctx context.Context, c model.Checkup) (map[string]bool, error) {
	var of [2]*uuid.UUID
	for i, text := range []string{c.Volume, c.Image} {
		if text == "" {
			continue
		}
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is no id", model.ErrInvalid, text)
		}
		of[i] = &id
	}
	if c.Node != "" {
		if _, err := s.store.Node(ctx, c.Node); err != nil {
			return nil, fmt.Errorf("node %s: %w", c.Node, err)
		}
	}
	if of[0] != nil {
		if _, err := s.store.Volume(ctx, *of[0]); err != nil {
			return nil, err
		}
	}
	if of[1] != nil {
		if _, err := s.store.Image(ctx, *of[1]); err != nil {
			return nil, err
		}
	}
	switch {
	case c.Node != "":
		return map[string]bool{c.Node: true}, nil
	case of[0] == nil && of[1] == nil:
		return nil, nil //nolint:nilnil // all
	}
	hosts, err := s.store.HomesOf(ctx, of[0], of[1])
	if err != nil {
		return nil, err
	}
	only := map[string]bool{}
	for _, h := range hosts {
		only[h] = true
	}
	return only, nil
}

// examineTree reads an image and its tree in one transaction. One that is gone by now has nothing wrong.
func (s *Service) examineTree(ctx context.Context, image uuid.UUID, o doctor.Options) ([]model.Finding, error) {
	r, err := s.store.ReadTree(ctx, image)
	if errors.Is(err, model.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return doctor.Tree(r.Image, r.Members, nodeMap(r.Nodes), r.Imports, o), nil
}

// lookAll looks at the nodes, a few at a time, in the order of the census.
func (s *Service) lookAll(ctx context.Context, census model.Census, only map[string]bool) ([]doctor.Look, error) {
	var hosts []string
	for _, n := range census.Nodes {
		if only == nil || only[n.Host] {
			hosts = append(hosts, n.Host)
		}
	}
	looks, errs := make([]doctor.Look, len(hosts)), make([]error, len(hosts))
	slots := make(chan struct{}, lookers)
	var running sync.WaitGroup
	for i, host := range hosts {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			looks[i], errs[i] = s.look(ctx, host)
			looks[i].Volumes, looks[i].Attached = census.Homes[host], census.Attached[host]
		})
	}
	running.Wait()
	return looks, errors.Join(errs...)
}

// look looks at a node until it is at rest, or has had time enough. It fails only if the database does.
func (s *Service) look(ctx context.Context, host string) (doctor.Look, error) {
	patience := time.NewTimer(s.opt.Settle)
	defer patience.Stop()
	var l doctor.Look
	first := int64(-1)
	for waiting := true; ; {
		state, err := s.store.NodeState(ctx, host)
		if err != nil {
			return l, err
		}
		l.State, l.Doc = state, reconcile.Desired(state, reconcile.Options{MaxImageBytes: s.opt.MaxImageBytes})
		if !state.Node.Alive {
			return l, nil
		}
		one, cancel := context.WithTimeout(ctx, lookTimeout)
		o, err := s.nodes.Look(one, host)
		cancel()
		if err != nil {
			l.Seen, l.Why, l.Old = nil, err.Error(), errors.Is(err, model.ErrInvalid)
			return l, ctx.Err()
		}
		if first < 0 {
			first = o.Generation
		}
		l.Seen, l.Busy = &o, o.Generation != l.Doc.Generation && o.Generation != first
		if !waiting || o.Schema != model.DesiredSchema || doctor.AtRest(l.Doc, o) {
			break
		}
		pause := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
		case <-patience.C:
			waiting = false
		case <-pause.C:
		}
		pause.Stop()
		if err := ctx.Err(); err != nil {
			return l, err
		}
	}
	if l.Seen.Pool.UUID == "" {
		return l, nil // there is none, which is said
	}
	return l, s.lookIntoPool(ctx, &l)
}

// lookIntoPool lists what is in a node's thin pool.
func (s *Service) lookIntoPool(ctx context.Context, l *doctor.Look) error {
	host := l.State.Node.Host
	var p doctor.Pool
	var err error
	if p.Before, err = s.store.Storage(ctx, host); err != nil {
		return err
	}
	one, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if p.Thins, err = s.nodes.Thins(one, host, nil); err != nil {
		l.PoolWhy = err.Error()
		return ctx.Err()
	}
	if p.After, err = s.store.Storage(ctx, host); err != nil {
		return err
	}
	l.Pool = &p
	return nil
}
