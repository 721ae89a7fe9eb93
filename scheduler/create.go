package scheduler

import (
	"cmp"
	"context"
	"fmt"

	"github.com/vmthunder/vmthunder/db/model"
)

// Create makes all volumes or none. A volume has no home yet and costs nothing but
// rows: its home is the first host that asks for it. One whose type is not for every node is
// placed on one that it is for. With an image, its import is started if it is not here.
//
// Volumes that no node could ever hold, or that are to be of a kind no node is of, get status
// error with a message, as Cinder's scheduler does ("No valid backend was found"). specs are
// the extra specs of the volumes' type; all are of one zone and one group.
func (s *Service) Create(ctx context.Context, vols []model.Volume, specs model.StringMap, image *model.Image) ([]model.Volume, error) {
	if image != nil && image.VirtualBytes > s.opt.MaxImageBytes {
		return nil, fmt.Errorf("%w: image %s is %d bytes unpacked, at most %d are served", model.ErrInvalid, image.ID, image.VirtualBytes, s.opt.MaxImageBytes)
	}
	if len(vols) == 0 {
		return nil, nil
	}
	there, err := s.choiceFor(ctx, vols, specs)
	if err != nil {
		return nil, err
	}
	there.place(vols)
	made, err := s.together.Create(ctx, vols, image)
	if err != nil {
		return nil, err
	}
	fresh, waiting := false, false
	for i := range made {
		waiting = waiting || made[i].Status == model.VolumeDownloading
		reason := there.unplaceable(&made[i], image != nil)
		if reason != "" && !fresh {
			fresh = true
			if there, err = s.choose(ctx, &vols[0], specs, true); err != nil {
				return nil, err
			}
			reason = there.unplaceable(&made[i], image != nil)
		}
		if reason == "" {
			continue
		}
		v, err := s.fail(ctx, made[i], reason, model.NewEvent(model.ResourceVolume, model.ActionScheduleVolume, model.DetailNoBackend))
		if err != nil {
			return nil, err
		}
		made[i] = v
	}
	if waiting {
		s.wakeJobs()
	}
	return made, nil
}

// choiceFor is what there is for new volumes, by a look at the nodes that is fresh if an older one
// has nothing for them.
func (s *Service) choiceFor(ctx context.Context, vols []model.Volume, specs model.StringMap) (choice, error) {
	there, err := s.choose(ctx, &vols[0], specs, false)
	if err != nil || there.lack == "" {
		return there, err
	}
	return s.choose(ctx, &vols[0], specs, true)
}

// choose is what there is for volumes like v, whose type has the extra specs. Those of a group that
// must live together go where the others are, or could be.
func (s *Service) choose(ctx context.Context, v *model.Volume, specs model.StringMap, fresh bool) (choice, error) {
	nodes, err := s.room(ctx, fresh)
	if err != nil {
		return choice{}, err
	}
	zone := cmp.Or(v.AvailabilityZone, "nova") // as it is made
	if v.GroupID == nil || len(specs) == 0 {
		return nodes.choice(zone, specs), nil
	}
	var group model.GroupWants
	err = s.store.Tx(ctx, func(t Tx) error {
		var err error
		group, err = t.GroupWants(*v.GroupID)
		return err
	})
	if err != nil {
		return choice{}, err
	}
	there := nodes.choice(zone, append(group.Specs, specs)...)
	there.together = group.Together
	if group.Host == nil {
		return there, nil
	}
	return there.only(nodes, *group.Host, specs), nil
}

// fail gives a volume status error, with the reason, and its user a message.
func (s *Service) fail(ctx context.Context, v model.Volume, reason string, event model.Event) (model.Volume, error) {
	v, err := s.store.MoveVolume(ctx, v.ID, model.VolumeMove{
		From: []model.VolumeStatus{model.VolumeCreating, model.VolumeDownloading, model.VolumeAvailable},
		To:   model.VolumeError, Error: &reason,
	})
	if err != nil {
		return v, err
	}
	return v, s.store.AddMessage(ctx, model.VolumeMessage(event, &v, reason))
}
