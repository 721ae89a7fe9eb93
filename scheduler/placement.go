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

// frontierSize is how many possible parents a join looks at, beside one for each node that
// joins; the whole tree need not be read, so it costs the same in a tree of any size.
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

// join gives nodes that have no place in an image's tree one each, in one plan, and
// returns the hosts whose documents change. The image's row is locked. What it reads
// grows with the nodes that join, not with the tree. Those who join are kept if pinned.
func (s *Service) join(t Tx, image model.Image, nodes []model.Node, pinned bool) ([]string, error) {
	have, err := t.MembersOf(image.ID, hostsOf(nodes)...)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]model.Member, len(have))
	for _, m := range have {
		rows[m.Host] = m
	}
	var hosts []tree.Host
	whole := false
	for _, n := range nodes {
		m, ok := rows[n.Host]
		switch {
		case ok && m.State == model.MemberLeaving:
			return nil, fmt.Errorf("%w: node %s is %w the tree of image %s, try again", model.ErrUnavailable, n.Host, errLeaving, image.ID)
		case ok && m.State != model.MemberDraining:
			continue
		}
		whole = whole || ok // draining, and wanted again: its own subtree must be in view
		hosts = append(hosts, tree.Host{Name: n.Host, Rack: n.Rack, AvailabilityZone: n.AvailabilityZone})
	}
	if len(hosts) == 0 {
		return nil, nil
	}
	plan, err := s.planJoin(t, image, hosts, whole)
	if errors.Is(err, tree.ErrNoParent) && !whole {
		plan, err = s.planJoin(t, image, hosts, true)
	}
	if errors.Is(err, tree.ErrNoParent) {
		return nil, fmt.Errorf("nobody who has image %s is alive: %w", image.ID, err)
	}
	if err != nil {
		return nil, err
	}
	return s.write(t, image.ID, plan, pinned)
}

// planJoin decides upon the whole tree or, mostly, its frontier.
func (s *Service) planJoin(t Tx, image model.Image, hosts []tree.Host, whole bool) (tree.Plan, error) {
	o := tree.Observed{Degree: s.degree(image)}
	var nodes []model.Node
	var err error
	if whole {
		if o.Members, err = t.Members(image.ID); err == nil {
			nodes, err = t.Nodes()
		}
	} else if o.Members, err = t.Frontier(image.ID, o.Degree, frontierSize+len(hosts)); err == nil {
		of := make([]string, len(o.Members))
		for i := range o.Members {
			of[i] = o.Members[i].Host
		}
		nodes, err = t.NodesOf(of...)
	}
	if err != nil {
		return tree.Plan{}, err
	}
	o.Nodes = nodeMap(nodes)
	return tree.Join(o, hosts)
}

func hostsOf(nodes []model.Node) []string {
	out := make([]string, len(nodes))
	for i := range nodes {
		out[i] = nodes[i].Host
	}
	return out
}

// write puts a plan into the database and makes the generations of those it touches
// grow. New members are kept if pinned.
func (s *Service) write(t Tx, image uuid.UUID, plan tree.Plan, pinned bool) ([]string, error) {
	if plan.Empty() {
		return nil, nil
	}
	var added, changed []model.Member
	for _, c := range plan.Changes {
		m := model.Member{
			ImageID: image, Host: c.Host, Role: model.RoleRelay, State: c.After.State, Depth: c.After.Depth, Reason: c.After.Reason,
			Parent: ref(c.After.Parent), Fallback: ref(c.After.Fallback), Pinned: pinned,
		}
		if c.NewParent && m.Parent != nil {
			m.Secret = s.opt.NewSecret()
		}
		if c.New {
			added = append(added, m)
		} else {
			changed = append(changed, m)
		}
	}
	if err := t.Place(image, added, changed); err != nil {
		return nil, err
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
		hosts, err = s.write(t, image, plan, false)
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

// releaseBatch nodes leave a tree in one transaction; each is a plan of its own, so that
// what hung below one finds a place before the next leaves.
const releaseBatch = 64

// release lets nodes go that no volume needs an image on, and the image when none does.
func (s *Service) release(ctx context.Context, image uuid.UUID) error {
	var hosts []string
	var more bool
	err := s.store.Tx(ctx, func(t Tx) error {
		hosts, more = nil, false
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
		homes, err := t.VolumesOf(image)
		if err != nil {
			return err
		}
		relays := 0
		var idle []string
		for _, m := range members {
			if m.Role != model.RoleRelay {
				continue
			}
			relays++
			if !m.Pinned && m.State != model.MemberLeaving && homes[m.Host] == 0 {
				idle = append(idle, m.Host)
			}
		}
		more = len(idle) > releaseBatch
		o := tree.Observed{Degree: s.degree(img), Members: members, Nodes: nodeMap(nodes)}
		for _, h := range idle[:min(len(idle), releaseBatch)] {
			plan := tree.Leave(o, h)
			changed, err := s.write(t, image, plan, false)
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
	if err == nil && more {
		return errAgain
	}
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
