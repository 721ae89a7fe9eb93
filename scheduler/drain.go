package scheduler

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// Drain prepares a node for being taken out of service, or ends that. It takes no new volumes and images,
// those who read images from it get other parents, under running reads, and of images that it is a root of
// another origin becomes one. What lives there stays: see [Service.Drained].
func (s *Service) Drain(ctx context.Context, host string, on bool) error {
	if err := s.store.SetNodeDraining(ctx, host, on); err != nil {
		return err
	}
	s.log.WithField("node", host).WithField("draining", on).Info("drain")
	state, err := s.store.NodeState(ctx, host)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range state.Members {
		if on && m.Role == model.RoleRoot {
			errs = append(errs, s.addRoot(ctx, m.ImageID))
		}
		errs = append(errs, s.replan(ctx, m.ImageID, "drain", tree.Rebalance))
	}
	return errors.Join(errs...)
}

// Drained tells what is left on a node.
func (s *Service) Drained(ctx context.Context, host string) (model.Drain, error) {
	state, err := s.store.NodeState(ctx, host)
	if err != nil {
		return model.Drain{}, err
	}
	d := model.Drain{Node: state.Node, Volumes: state.Volumes}
	images := map[uuid.UUID]bool{}
	for _, m := range state.Members {
		if m.Role != model.RoleRoot || m.State == model.MemberLeaving {
			continue
		}
		held, err := s.held(ctx, m)
		if err != nil {
			return d, err
		}
		if !held {
			d.OnlyRoots = append(d.OnlyRoots, m.ImageID)
		}
	}
	for id, children := range state.Children {
		for _, c := range children {
			if c.Member.ObservedParent == host || c.Member.Parent != nil && *c.Member.Parent == host {
				d.Readers++
				images[id] = true
			}
		}
	}
	d.Images = len(images)
	return d, nil
}

// held tells whether a root that stays has the image of another, too.
func (s *Service) held(ctx context.Context, root model.Member) (bool, error) {
	members, err := s.store.Members(ctx, root.ImageID)
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if m.Role != model.RoleRoot || m.Host == root.Host || m.State != model.MemberActive {
			continue
		}
		n, err := s.store.Node(ctx, m.Host)
		if err != nil {
			return false, err
		}
		if n.Alive && !n.Draining {
			return true, nil
		}
	}
	return false, nil
}
