package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Delete takes a volume away. One that never had a home is gone when it returns; of
// others the home deletes the data first and reports it, then the row goes.
func (s *Service) Delete(ctx context.Context, id uuid.UUID, o model.DeleteOptions) error {
	var home string
	var gone []uuid.UUID // snapshots without data
	var tell []string
	err := s.store.Tx(ctx, func(t Tx) error {
		home, gone, tell = "", nil, nil
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
		case v.GroupID != nil:
			return fmt.Errorf("%w: volume %s is in group %s", model.ErrConflict, id, v.GroupID)
		case !o.Force && !v.Deletable():
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, id, v.Status)
		}
		snaps, err := t.LockSnapshotsOf(id)
		switch {
		case err != nil:
			return err
		case len(snaps) > 0 && !o.Cascade:
			return fmt.Errorf("%w: volume %s has %d snapshots", model.ErrConflict, id, len(snaps))
		}
		for _, sn := range snaps {
			if sn.ProjectID != v.ProjectID && !o.Foreign {
				return fmt.Errorf("%w: snapshot %s of volume %s is another project's", model.ErrConflict, sn.ID, id)
			}
			if sn.GroupSnapshotID != nil {
				return fmt.Errorf("%w: snapshot %s of volume %s is part of group snapshot %s", model.ErrConflict, sn.ID, id, sn.GroupSnapshotID)
			}
			if err := t.SetSnapshotStatus(sn.ID, model.SnapshotDeleting, nil); err != nil {
				return err
			}
			if sn.Home == nil {
				gone = append(gone, sn.ID)
			} else {
				tell = append(tell, *sn.Home)
			}
		}
		if err := t.Bump(tell...); err != nil {
			return err
		}
		if err := s.abandonTasks(t, id); err != nil {
			return err
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
	for _, sn := range gone {
		if _, err := s.store.DeleteSnapshotRow(ctx, sn); err != nil && !errors.Is(err, model.ErrNotFound) {
			return err
		}
	}
	s.tell(append(tell, home)...)
	if home == "" && len(tell) == 0 {
		return s.forget(ctx, id)
	}
	return nil
}

// forgetSnapshot removes the row of a snapshot whose data is gone, and that of its volume
// if that has only waited for it.
func (s *Service) forgetSnapshot(ctx context.Context, id uuid.UUID) error {
	volume, err := s.store.DeleteSnapshotRow(ctx, id)
	if err != nil {
		return err
	}
	v, err := s.store.Volume(ctx, volume)
	if errors.Is(err, model.ErrNotFound) {
		return nil
	}
	if err != nil || v.Status != model.VolumeDeleting || v.Home != nil {
		return err
	}
	if err := s.forget(ctx, volume); !errors.Is(err, model.ErrInUse) && !errors.Is(err, model.ErrNotFound) {
		return err
	}
	return nil // it has more of them
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
