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

// frontierSize is how many possible parents a single join looks at; the whole tree
// need not be read for it, so a join costs the same in a tree of any size.
const frontierSize = 64

func (s *Service) degree(i model.Image) int {
	if i.Degree != nil {
		return *i.Degree
	}
	return s.opt.Degree
}

func nodeMap(nodes []model.Node) map[string]model.Node {
	m := make(map[string]model.Node, len(nodes))
	for _, n := range nodes {
		m[n.Host] = n
	}
	return m
}

// join gives a node its place in an image's tree, if it has none, and returns the hosts
// whose documents change. The image's row is locked.
func (s *Service) join(t Tx, image model.Image, node model.Node, nodes []model.Node) ([]string, error) {
	have, err := t.Member(image.ID, node.Host)
	switch {
	case err == nil && have.State == model.MemberLeaving:
		return nil, fmt.Errorf("%w: node %s is %w the tree of image %s, try again", model.ErrUnavailable, node.Host, errLeaving, image.ID)
	case err == nil && have.State != model.MemberDraining:
		return nil, nil
	case err != nil && !errors.Is(err, model.ErrNotFound):
		return nil, err
	}
	degree := s.degree(image)
	var members []model.Member
	if have.Host != "" { // draining, and wanted again: its own subtree must be in view
		members, err = t.Members(image.ID)
	} else {
		members, err = t.Frontier(image.ID, degree, frontierSize)
	}
	if err != nil {
		return nil, err
	}
	host := tree.Host{Name: node.Host, Rack: node.Rack, AvailabilityZone: node.AvailabilityZone}
	plan, err := tree.Join(tree.Observed{Degree: degree, Members: members, Nodes: nodeMap(nodes)}, []tree.Host{host})
	if errors.Is(err, tree.ErrNoParent) {
		if members, err = t.Members(image.ID); err != nil {
			return nil, err
		}
		plan, err = tree.Join(tree.Observed{Degree: degree, Members: members, Nodes: nodeMap(nodes)}, []tree.Host{host})
	}
	if errors.Is(err, tree.ErrNoParent) {
		return nil, fmt.Errorf("nobody who has image %s is alive: %w", image.ID, err)
	}
	if err != nil {
		return nil, err
	}
	return s.write(t, image.ID, plan)
}

// write puts a plan into the database and makes the generations of those it touches grow.
func (s *Service) write(t Tx, image uuid.UUID, plan tree.Plan) ([]string, error) {
	if plan.Empty() {
		return nil, nil
	}
	for _, c := range plan.Changes {
		m := model.Member{ImageID: image, Host: c.Host, Role: model.RoleRelay}
		if !c.New {
			var err error
			if m, err = t.Member(image, c.Host); err != nil {
				return nil, err
			}
		}
		m.State, m.Depth, m.Reason = c.After.State, c.After.Depth, c.After.Reason
		m.Parent, m.Fallback = ref(c.After.Parent), ref(c.After.Fallback)
		if (c.NewParent || m.Secret == "") && m.Parent != nil {
			m.Secret = s.opt.NewSecret()
		}
		if err := t.PutMember(m); err != nil {
			return nil, fmt.Errorf("member %s of image %s: %w", c.Host, image, err)
		}
	}
	hosts := plan.Hosts()
	return hosts, t.Bump(hosts...)
}

// decide is one decision about an image's tree.
type decide func(o tree.Observed) tree.Plan

// replan takes a decision on the whole tree of an image and tells those concerned.
func (s *Service) replan(ctx context.Context, image uuid.UUID, what string, d decide) error {
	var hosts []string
	var plan tree.Plan
	err := s.store.Tx(ctx, func(t Tx) error {
		img, err := t.LockImage(image)
		if err != nil {
			return err
		}
		members, err := t.Members(image)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		plan = d(tree.Observed{Degree: s.degree(img), Members: members, Nodes: nodeMap(nodes)})
		hosts, err = s.write(t, image, plan)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s in the tree of image %s: %w", what, image, err)
	}
	for _, c := range plan.Changes {
		s.log.WithFields(map[string]any{"image": image.String(), "node": c.Host, "why": what, "parent": c.After.Parent, "before": c.Before.Parent, "state": string(c.After.State)}).Info(c.After.Reason)
	}
	s.tell(hosts...)
	return nil
}

// lose deals with nodes that have died: in every tree they are in, their children get
// another parent.
func (s *Service) lose(ctx context.Context, hosts []string) error {
	images := map[uuid.UUID]bool{}
	for _, h := range hosts {
		state, err := s.store.NodeState(ctx, h)
		if err != nil {
			return err
		}
		for _, m := range state.Members {
			images[m.ImageID] = true
		}
	}
	var errs []error
	for image := range images {
		errs = append(errs, s.replan(ctx, image, "node lost", func(o tree.Observed) tree.Plan { return tree.Lose(o, hosts) }))
	}
	return errors.Join(errs...)
}

// release lets nodes go that no volume needs an image on, and the image when none does.
func (s *Service) release(ctx context.Context, image uuid.UUID) error {
	var hosts []string
	err := s.store.Tx(ctx, func(t Tx) error {
		hosts = nil
		img, err := t.LockImage(image)
		if errors.Is(err, model.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		used, err := t.ImageUsed(image)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		members, err := t.Members(image)
		if err != nil {
			return err
		}
		o := tree.Observed{Degree: s.degree(img), Members: members, Nodes: nodeMap(nodes)}
		relays := 0
		for _, m := range members {
			if m.Role != model.RoleRelay {
				continue
			}
			relays++
			if m.Pinned || m.State == model.MemberLeaving {
				continue
			}
			n, err := t.VolumesAt(image, m.Host)
			if err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			plan := tree.Leave(o, m.Host)
			changed, err := s.write(t, image, plan)
			if err != nil {
				return err
			}
			hosts = append(hosts, changed...)
			o.Members = tree.Apply(o.Members, plan)
		}
		if used || relays > 0 {
			return nil
		}
		// No volume and no relay: the roots drop their files, then the image is forgotten.
		if len(members) == 0 {
			return t.DeleteImage(image)
		}
		if err := t.SetImage(image, model.ImageDeleting, nil); err != nil {
			return err
		}
		for _, m := range members {
			if m.State == model.MemberLeaving {
				continue
			}
			m.State, m.Reason = model.MemberLeaving, "no volume uses the image"
			if err := t.PutMember(m); err != nil {
				return err
			}
			hosts = append(hosts, m.Host)
		}
		return t.Bump(hosts...)
	})
	s.tell(hosts...)
	return err
}

// left removes a member whose stack is gone, and goes on with what that makes possible.
func (s *Service) left(ctx context.Context, image uuid.UUID, host string) error {
	err := s.store.Tx(ctx, func(t Tx) error {
		if _, err := t.LockImage(image); err != nil {
			return err
		}
		m, err := t.Member(image, host)
		if err != nil || m.State != model.MemberLeaving || m.Children > 0 {
			return err
		}
		if err := t.DeleteMember(image, host); err != nil {
			return err
		}
		if err := t.AddJob(model.JobReleaseImage, image.String(), s.opt.Now()); err != nil {
			return err
		}
		return t.Bump(host)
	})
	s.wakeJobs()
	if errors.Is(err, model.ErrNotFound) {
		return nil
	}
	return err
}

// drained turns a draining member without children into one that leaves.
func (s *Service) drained(ctx context.Context, image uuid.UUID, host string) error {
	return s.replan(ctx, image, "drained", func(o tree.Observed) tree.Plan { return tree.Drained(o, host) })
}

// returned takes a node that was dead into its trees again, below.
func (s *Service) returned(ctx context.Context, host string) error {
	state, err := s.store.NodeState(ctx, host)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range state.Members {
		errs = append(errs, s.replan(ctx, m.ImageID, "node returned", func(o tree.Observed) tree.Plan { return tree.Return(o, host) }))
	}
	return errors.Join(errs...)
}

func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// retryDelay grows with the attempts, 1 s to 30 s.
func retryDelay(attempts int) time.Duration {
	d := time.Second << min(attempts, 5)
	return min(d, 30*time.Second)
}
