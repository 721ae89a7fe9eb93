package scheduler

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Create makes all volumes or none. A volume has no home yet and costs nothing but
// rows: its home is the first host that asks for it. With an image, its import is
// started if it is not here.
//
// Volumes that no node could ever hold get status error with a message, as Cinder's
// scheduler does ("No valid backend was found").
func (s *Service) Create(ctx context.Context, vols []model.Volume, image *model.Image) ([]model.Volume, error) {
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	if image != nil && image.VirtualBytes > s.opt.MaxImageBytes {
		return nil, fmt.Errorf("%w: image %s is %d bytes unpacked, at most %d are served", model.ErrInvalid, image.ID, image.VirtualBytes, s.opt.MaxImageBytes)
	}
	made, err := s.store.CreateVolumes(ctx, vols, image)
	if err != nil {
		return nil, err
	}
	for i := range made {
		reason := s.unplaceable(made[i], image != nil, nodes)
		if reason == "" {
			continue
		}
		v, err := s.fail(ctx, made[i], reason, "VOLUME_VOLUME_001_003")
		if err != nil {
			return nil, err
		}
		made[i] = v
	}
	s.wakeJobs()
	return made, nil
}

// unplaceable says why no node could hold the volume, "" if one could.
func (s *Service) unplaceable(v model.Volume, image bool, nodes []model.Node) string {
	alive, origins, zone := 0, 0, 0
	var largest int64
	for _, n := range nodes {
		if !n.Alive || !n.Enabled {
			continue
		}
		if n.Origin {
			origins++
		}
		if !n.Compute {
			continue
		}
		alive++
		if n.AvailabilityZone != v.AvailabilityZone {
			continue
		}
		zone++
		largest = max(largest, n.PoolTotal)
	}
	switch {
	case alive == 0:
		return "no node is alive and enabled to hold a volume"
	case image && origins == 0 && v.Status == model.VolumeDownloading:
		return "no origin node is alive to import the image"
	case zone == 0:
		return fmt.Sprintf("no node is alive in availability zone %s", v.AvailabilityZone)
	case !image && v.Bytes() > largest:
		// A blank volume can fill up wholly; one from an image takes what is written.
		return fmt.Sprintf("%d GiB are more than the largest pool (%d GiB)", v.SizeGiB, largest>>30)
	case image && v.Bytes() > 100*largest:
		return fmt.Sprintf("%d GiB are more than a hundred times the largest pool (%d GiB)", v.SizeGiB, largest>>30)
	}
	return ""
}

// fail gives a volume status error, with the reason, and its user a message.
func (s *Service) fail(ctx context.Context, v model.Volume, reason, event string) (model.Volume, error) {
	v, err := s.store.MoveVolume(ctx, v.ID, model.VolumeMove{
		From: []model.VolumeStatus{model.VolumeCreating, model.VolumeDownloading, model.VolumeAvailable},
		To:   model.VolumeError, Error: &reason,
	})
	if err != nil {
		return v, err
	}
	return v, s.store.AddMessage(ctx, model.Message{
		ID: uuid.New(), ProjectID: v.ProjectID, ResourceType: "VOLUME", ResourceUUID: &v.ID,
		EventID: event, Level: "ERROR", UserMessage: "schedule allocate volume:" + reason,
	})
}
