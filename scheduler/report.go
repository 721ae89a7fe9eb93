package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// Report takes a node's report, acts on what has changed, and returns the document if
// the node has not the newest.
func (s *Service) Report(ctx context.Context, o model.Observed) (*model.Desired, error) {
	if o.Host == "" {
		return nil, fmt.Errorf("%w: a report without host", model.ErrInvalid)
	}
	if o.Schema != model.DesiredSchema {
		return nil, fmt.Errorf("%w: report of schema %d from %s, this control plane takes %d", model.ErrInvalid, o.Schema, o.Host, model.DesiredSchema)
	}
	changes, err := s.saw(ctx, o)
	if err != nil {
		return nil, err
	}
	if !changes.NeedsDocument {
		return nil, nil
	}
	doc, err := s.document(ctx, o.Host)
	if err != nil || doc.Generation <= o.Generation {
		return nil, err
	}
	return &doc, nil
}

// saw saves what a node tells, in a report or as its answer to a document, and acts on what
// has changed.
func (s *Service) saw(ctx context.Context, o model.Observed) (Changes, error) {
	changes, err := s.store.SaveObserved(ctx, o)
	if err != nil {
		return changes, err
	}
	if err := s.act(ctx, o, changes); err != nil {
		// It is saved; what could not be acted upon shows in the next report again.
		s.log.WithError(err).WithField("node", o.Host).Warn("report not fully acted upon")
	}
	return changes, nil
}

func (s *Service) act(ctx context.Context, o model.Observed, c Changes) error {
	log := s.log.WithField("node", o.Host)
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	if c.NodeNew {
		log.Info("a new node reports")
	} else if c.NodeBack {
		log.WithField("boot", o.BootID).Info("node is back")
		try(s.returned(ctx, o.Host))
	}
	if c.PoolLost {
		log.WithField("pool", o.Pool.UUID).Error("the node reports another pool than its volumes are in")
	}
	for _, id := range c.Imported {
		i := o.Image(id.String())
		log.WithField("image", id.String()).WithField("bytes", i.DeviceBytes).Info("import done")
		try(s.store.FinishImport(ctx, id, i.VirtualBytes, i.DeviceBytes))
		try(s.tellMembers(ctx, id))
		try(s.addRoot(ctx, id))
	}
	for id, why := range c.ImportFailed {
		log.WithField("image", id.String()).WithField("reason", why).Warn("import failed")
		try(s.store.FailImport(ctx, id, importEvent(why), why))
		try(s.tellMembers(ctx, id))
	}
	for _, id := range c.Rooted {
		log.WithField("image", id.String()).Info("the image has another root")
		try(s.replan(ctx, id, "another root", tree.Rebalance)) // those below the other have a fallback now
	}
	for _, id := range c.PathLost {
		bad := o.Image(id.String())
		try(s.pathLost(ctx, id, o.Host, bad))
	}
	for _, id := range c.Drained {
		try(s.drained(ctx, id, o.Host))
	}
	for _, id := range c.Left {
		try(s.left(ctx, id, o.Host))
	}
	for _, id := range c.Deleted {
		log.WithField("volume", id.String()).Info("volume deleted")
		if err := s.forget(ctx, id); !errors.Is(err, model.ErrNotFound) && !errors.Is(err, model.ErrInUse) {
			try(err) // in use: its snapshots go first, as the next reports tell
		}
	}
	for _, id := range c.Unmanaged {
		log.WithField("volume", id.String()).Info("volume unmanaged, its data stays")
		if err := s.store.FinishUnmanage(ctx, id); !errors.Is(err, model.ErrNotFound) && !errors.Is(err, model.ErrConflict) {
			try(err)
		}
	}
	for _, id := range c.SnapshotsDeleted {
		log.WithField("snapshot", id.String()).Info("snapshot deleted")
		if err := s.forgetSnapshot(ctx, id); !errors.Is(err, model.ErrNotFound) {
			try(err)
		}
	}
	for _, id := range c.Extended {
		if err := s.extended(ctx, id); !errors.Is(err, model.ErrConflict) { // another replica was faster
			try(err)
		}
	}
	try(s.tasksReported(ctx, c))
	return errors.Join(errs...)
}

// tellMembers sends everybody in an image's tree their document.
func (s *Service) tellMembers(ctx context.Context, image uuid.UUID) error {
	members, err := s.store.Members(ctx, image)
	for _, m := range members {
		s.tell(m.Host)
	}
	return err
}

// pathLost gives a node that can't reach its parent another one. Where the node has gone
// to its fallback by itself, that is what is written down.
func (s *Service) pathLost(ctx context.Context, image uuid.UUID, host string, seen model.ObservedImage) error {
	return s.replan(ctx, image, "path lost", func(o tree.Observed) tree.Plan {
		for _, m := range o.Members {
			if m.Host == host && m.Parent != nil {
				return tree.PathLost(o, host, *m.Parent)
			}
		}
		return tree.Plan{}
	})
}

// watchLease and watchEvery pace the one replica that looks for dead nodes.
const (
	watchLease = 10 * time.Second
	watchEvery = 2 * time.Second
)

// watchLoop beats for this replica and, on the one that leads, finds dead nodes.
func (s *Service) watchLoop(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := s.watch(ctx); err != nil && ctx.Err() == nil {
			s.log.WithError(err).Warn("look for dead nodes")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Service) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchLease)
	defer cancel()
	if err := s.store.Beat(ctx, s.opt.Host, s.opt.Binary); err != nil {
		return err
	}
	lead, err := s.store.Lead(ctx, "watch-nodes", s.opt.Host+"/"+s.opt.Binary, watchLease)
	if err != nil || !lead {
		return err
	}
	lost, err := s.store.LoseNodes(ctx, s.opt.Now().Add(-s.opt.NodeDown))
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		s.log.WithField("nodes", lost).Warn("nodes are silent and count as dead")
		if err := s.lose(ctx, lost); err != nil {
			return err
		}
	}
	if err := s.watchTasks(ctx); err != nil {
		return err
	}
	if now := s.opt.Now(); now.Sub(s.rebalanced) >= s.opt.Rebalance {
		s.rebalanced = now
		return s.rebalance(ctx)
	}
	return nil
}

// rebalance ends what a failure has left in the trees: members that have a child too many
// or stand too deep, and images with fewer roots than they should have. Nobody else moves.
func (s *Service) rebalance(ctx context.Context) error {
	images, err := s.store.Images(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range images {
		if i.Status == model.ImageActive {
			var seen tree.Observed
			errs = append(errs, s.replan(ctx, i.ID, "rebalance", func(o tree.Observed) tree.Plan {
				seen = o
				return tree.Rebalance(o)
			}))
			if _, ok := s.nextRoot(i, seen.Members, seen.Nodes); ok {
				errs = append(errs, s.addRoot(ctx, i.ID))
			}
		}
	}
	return errors.Join(errs...)
}
