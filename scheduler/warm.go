package scheduler

import (
	"context"
	"errors"
	"fmt"

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
		nodes, err := t.NodesOf(hosts...)
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
		tell, err = s.join(t, img, nodes, true)
		if errors.Is(err, tree.ErrNoParent) {
			err = fmt.Errorf("%w: %w", model.ErrUnavailable, err)
		}
		if err != nil {
			return err
		}
		return t.Pin(img.ID, hosts, true)
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

// Unwarm no longer keeps hosts in an image's tree. Those where no volume needs it leave
// now, and the image goes with the last of them if no volume is made from it.
// model.ErrNotFound if the image is not here.
func (s *Service) Unwarm(ctx context.Context, image uuid.UUID, hosts []string) error {
	err := s.store.Tx(ctx, func(t Tx) error {
		if _, err := t.LockImage(image); err != nil {
			return err
		}
		if err := t.Pin(image, hosts, false); err != nil {
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
