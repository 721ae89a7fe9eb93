package scheduler

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// SnapshotGroup takes a snapshot of each volume of a group, or none. What homes have to do
// for it, they do behind.
func (s *Service) SnapshotGroup(ctx context.Context, p model.GroupSnapshot) (model.GroupSnapshot, error) {
	made, snaps, err := s.store.CreateGroupSnapshot(ctx, p)
	if err != nil {
		return made, err
	}
	s.tellSnapshots(snaps)
	return made, nil
}

func (s *Service) tellSnapshots(snaps []model.Snapshot) {
	for i := range snaps {
		if snaps[i].Home != nil {
			s.tell(*snaps[i].Home)
		}
	}
}

// DeleteGroupSnapshot takes a group snapshot away with its snapshots. Those without data are
// gone when it returns; of others the homes delete the data first.
func (s *Service) DeleteGroupSnapshot(ctx context.Context, id uuid.UUID) error {
	snaps, err := s.store.DeleteGroupSnapshot(ctx, id)
	if err != nil {
		return err
	}
	s.tellSnapshots(snaps)
	var errs []error
	for i := range snaps {
		if snaps[i].Home == nil {
			if err := s.forgetSnapshot(ctx, snaps[i].ID); !errors.Is(err, model.ErrNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// CopyGroup makes a group from a group snapshot or another group. Its volumes are where
// those that they are copied from are.
func (s *Service) CopyGroup(ctx context.Context, g model.Group) (model.Group, error) {
	made, vols, err := s.store.CopyGroup(ctx, g)
	if err != nil {
		return made, err
	}
	s.tellHomes(vols)
	return made, nil
}

// DeleteGroup takes a group away, with its volumes or only without. As with a volume, those
// that never had a home are gone when it returns.
func (s *Service) DeleteGroup(ctx context.Context, id uuid.UUID, volumes bool) error {
	vols, err := s.store.DeleteGroup(ctx, id, volumes)
	if err != nil {
		return err
	}
	var errs []error
	for i := range vols {
		errs = append(errs, s.store.Tx(ctx, func(t Tx) error {
			if _, err := t.LockVolume(vols[i].ID); err != nil {
				return err
			}
			return s.abandonTasks(t, vols[i].ID)
		}))
	}
	s.tellHomes(vols)
	for i := range vols {
		if vols[i].Home == nil {
			if err := s.forget(ctx, vols[i].ID); !errors.Is(err, model.ErrNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
