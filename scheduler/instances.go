package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Instances tells the compute service what has become of its instances' volumes.
type Instances interface {
	// VolumeExtended has the instance notice the new size of a volume it has.
	VolumeExtended(ctx context.Context, instance, volume uuid.UUID) error
	// VolumeReimaged tells that a volume which is reserved for the instance holds its new image, or could not.
	VolumeReimaged(ctx context.Context, instance, volume uuid.UUID, failed bool) error
}

// tellFor is how long a compute service that can't be reached is tried again.
const tellFor = 10 * time.Minute

// tellInstances does a job of telling the instances that have a volume. The volume is as it
// should be whether they hear of it or not: one that does not sees it at its next start.
func (s *Service) tellInstances(ctx context.Context, id uuid.UUID, job model.Job) error {
	v, err := s.store.Volume(ctx, id)
	if errors.Is(err, model.ErrNotFound) || err == nil && s.opt.Instances == nil {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range v.Attachments {
		if a.InstanceUUID == nil {
			continue
		}
		var err error
		if job.Kind == model.JobTellReimaged {
			err = s.opt.Instances.VolumeReimaged(ctx, *a.InstanceUUID, id, v.Status != model.VolumeReserved)
		} else {
			err = s.opt.Instances.VolumeExtended(ctx, *a.InstanceUUID, id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("tell instance %s: %w", *a.InstanceUUID, err))
		}
	}
	err = errors.Join(errs...)
	if err != nil && s.opt.Now().Sub(job.CreatedAt) > tellFor {
		s.log.WithError(err).WithField("volume", id).Error("given up telling instances of their volume; a hard reboot shows it to them")
		return nil
	}
	return err
}
