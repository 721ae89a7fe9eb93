package scheduler

import (
	"context"
	"fmt"

	"github.com/vmthunder/vmthunder/db/model"
)

// Create makes all volumes or none. A volume has no home yet and costs nothing but
// rows: its home is the first host that asks for it. With an image, its import is
// started if it is not here.
//
// Volumes that no node could ever hold, or that are to be of a kind no node is of, get status
// error with a message, as Cinder's scheduler does ("No valid backend was found"). specs are
// the extra specs of the volumes' type.
func (s *Service) Create(ctx context.Context, vols []model.Volume, specs model.StringMap, image *model.Image) ([]model.Volume, error) {
	nodes, err := s.room(ctx, false)
	if err != nil {
		return nil, err
	}
	if image != nil && image.VirtualBytes > s.opt.MaxImageBytes {
		return nil, fmt.Errorf("%w: image %s is %d bytes unpacked, at most %d are served", model.ErrInvalid, image.ID, image.VirtualBytes, s.opt.MaxImageBytes)
	}
	made, err := s.together.Create(ctx, vols, image)
	if err != nil {
		return nil, err
	}
	fresh, waiting := false, false
	for i := range made {
		waiting = waiting || made[i].Status == model.VolumeDownloading
		reason := nodes.unplaceable(&made[i], specs, image != nil)
		if reason != "" && !fresh {
			fresh = true
			if nodes, err = s.room(ctx, true); err != nil {
				return nil, err
			}
			reason = nodes.unplaceable(&made[i], specs, image != nil)
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
