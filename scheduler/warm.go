package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// Warm gives hosts a place in an image's tree, all in one plan, and keeps it while no
// volume there needs it: the first volume on such a host finds the stack standing. No
// bytes are sent ahead. A host that is in the tree stays where it is and is kept too.
//
// An image that is not here is imported first; then the status returned is not active,
// and nothing else has been done. Unknown, dead and disabled hosts and those that hold no
// volumes are model.ErrInvalid, and then no host gets a place.
func (s *Service) Warm(ctx context.Context, image model.Image, hosts []string) (model.ImageStatus, error) {
	var status model.ImageStatus
	var tell []string
	err := s.store.Tx(ctx, func(t Tx) error {
		tell = nil
		img, err := t.WantImage(image)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		known := nodeMap(nodes)
		for _, h := range hosts {
			if err := canWarm(h, known); err != nil {
				return err
			}
		}
		if status = img.Status; status != model.ImageActive {
			return nil
		}
		members, err := t.Members(img.ID)
		if err != nil {
			return err
		}
		tell, err = s.pin(t, img, members, known, hosts)
		return err
	})
	if errors.Is(err, model.ErrInvalid) {
		return "", err // says it all, to whoever asked
	}
	if err != nil {
		return "", fmt.Errorf("warm image %s: %w", image.ID, err)
	}
	s.wakeJobs()
	s.tell(tell...)
	return status, nil
}

func canWarm(host string, known map[string]model.Node) error {
	n, ok := known[host]
	why := ""
	switch {
	case !ok:
		why = "is not known"
	case !n.Alive:
		why = "is down"
	case !n.Enabled:
		why = "is disabled"
	case !n.Compute:
		why = "holds no volumes"
	default:
		return nil
	}
	return fmt.Errorf("%w: node %s %s", model.ErrInvalid, host, why)
}

// pin joins those of hosts that are no members and marks all as kept. Roots stand as
// long as the image does.
func (s *Service) pin(t Tx, img model.Image, members []model.Member, known map[string]model.Node, hosts []string) ([]string, error) {
	var join []tree.Host
	for _, h := range hosts {
		if !slices.ContainsFunc(members, func(m model.Member) bool { return m.Host == h && m.Role == model.RoleRoot }) {
			join = append(join, tree.Host{Name: h, Rack: known[h].Rack, AvailabilityZone: known[h].AvailabilityZone})
		}
	}
	plan, err := tree.Join(tree.Observed{Degree: s.degree(img), Members: members, Nodes: known}, join)
	if errors.Is(err, tree.ErrNoParent) {
		return nil, fmt.Errorf("nobody who has it is alive: %w: %w", model.ErrUnavailable, err)
	}
	if err != nil {
		return nil, err
	}
	for _, h := range plan.Refused {
		return nil, fmt.Errorf("%w: node %s is %w, try again", model.ErrUnavailable, h, errLeaving)
	}
	tell, err := s.write(t, img.ID, plan)
	if err != nil {
		return nil, err
	}
	return tell, setPinned(t, img.ID, join, true)
}

func setPinned(t Tx, image uuid.UUID, hosts []tree.Host, pinned bool) error {
	for _, h := range hosts {
		m, err := t.Member(image, h.Name)
		if errors.Is(err, model.ErrNotFound) && !pinned {
			continue
		}
		if err != nil {
			return err
		}
		if m.Pinned == pinned {
			continue
		}
		m.Pinned = pinned
		if err := t.PutMember(m); err != nil {
			return err
		}
	}
	return nil
}

// Unwarm no longer keeps hosts in an image's tree. Those where no volume needs it leave
// now, and the image goes with the last of them if no volume is made from it.
// model.ErrNotFound if the image is not here.
func (s *Service) Unwarm(ctx context.Context, image uuid.UUID, hosts []string) error {
	err := s.store.Tx(ctx, func(t Tx) error {
		if _, err := t.LockImage(image); err != nil {
			return err
		}
		of := make([]tree.Host, len(hosts))
		for i, h := range hosts {
			of[i].Name = h
		}
		if err := setPinned(t, image, of, false); err != nil {
			return err
		}
		return t.AddJob(model.JobReleaseImage, image.String(), s.opt.Now())
	})
	if err != nil {
		return fmt.Errorf("release image %s: %w", image, err)
	}
	s.wakeJobs()
	return nil
}
