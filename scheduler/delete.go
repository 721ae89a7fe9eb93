package scheduler

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Delete takes a volume away. One that never had a home is gone when it returns; of
// others the home deletes the data first and reports it, then the row goes.
func (s *Service) Delete(ctx context.Context, id uuid.UUID, force bool) error {
	var home string
	err := s.store.Tx(ctx, func(t Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		switch {
		case v.Status == model.VolumeDeleting:
			if v.Home != nil {
				home = *v.Home
			}
			return nil
		case len(v.Attachments) > 0:
			return fmt.Errorf("%w: volume %s is %s, with %d attachments", model.ErrConflict, id, v.Status, len(v.Attachments))
		case !force && !v.Deletable():
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, id, v.Status)
		case force && slices.Contains([]model.VolumeStatus{model.VolumeAttaching, model.VolumeInUse}, v.Status):
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, id, v.Status)
		}
		if err := t.SetVolumeStatus(id, model.VolumeDeleting, model.AttachDetached, nil); err != nil {
			return err
		}
		if v.Home == nil {
			return nil
		}
		home = *v.Home
		return t.Bump(home)
	})
	if err != nil {
		return err
	}
	if home == "" {
		return s.forget(ctx, id)
	}
	s.tell(home)
	return nil
}

// forget removes the row of a volume whose data is gone, and lets go of its image.
func (s *Service) forget(ctx context.Context, id uuid.UUID) error {
	v, err := s.store.Volume(ctx, id)
	if err != nil {
		return err
	}
	if err := s.store.DeleteRow(ctx, id); err != nil {
		return err
	}
	if v.ImageID == nil {
		return nil
	}
	err = s.store.Tx(ctx, func(t Tx) error {
		return t.AddJob(model.JobReleaseImage, v.ImageID.String(), s.opt.Now().Add(s.opt.ImageIdle))
	})
	s.wakeJobs()
	return err
}
