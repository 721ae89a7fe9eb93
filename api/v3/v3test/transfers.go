package v3test

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// CreateTransfer implements v3.Store.
func (s *Store) CreateTransfer(_ context.Context, x model.Transfer) (model.Transfer, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return x, err
	}
	v, err := s.volume(x.VolumeID)
	switch {
	case err != nil:
		return x, err
	case v.Status != model.VolumeAvailable:
		return x, said{model.ErrConflict, "Invalid volume: status must be available"}
	}
	v.Status = model.VolumeAwaitingTransfer
	x.SourceProjectID, x.CreatedAt = v.ProjectID, s.tick()
	s.TransferRows = append(slices.DeleteFunc(s.TransferRows, func(o model.Transfer) bool { return o.VolumeID == x.VolumeID }), x)
	return x, nil
}

// owner of a transfer is that of its volume.
func (s *Store) owner(x *model.Transfer) string {
	if v, err := s.volume(x.VolumeID); err == nil {
		return v.ProjectID
	}
	return "nobody"
}

// Transfer implements v3.Store.
func (s *Store) Transfer(_ context.Context, id uuid.UUID, projectID string) (model.Transfer, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Transfer{}, err
	}
	for i := range s.TransferRows {
		if x := &s.TransferRows[i]; x.ID == id && (projectID == "" || s.owner(x) == projectID) {
			return *x, nil
		}
	}
	return model.Transfer{}, fmt.Errorf("transfer %s: %w", id, model.ErrNotFound)
}

// ListTransfers implements v3.Store.
func (s *Store) ListTransfers(_ context.Context, q model.ListQuery) ([]model.Transfer, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(slices.Clone(s.TransferRows), q, func(x *model.Transfer) fields {
		return fields{id: x.ID, project: s.owner(x), created: x.CreatedAt, columns: map[string]string{
			"id": x.ID.String(), "name": text(x.Name), "volume_id": x.VolumeID.String(), "source_project_id": x.SourceProjectID,
			"accepted": strconv.FormatBool(x.Accepted), "no_snapshots": strconv.FormatBool(x.NoSnapshots),
		}}
	})
}

// end takes a transfer away and moves its volume on.
func (s *Store) end(id uuid.UUID, move func(v *model.Volume) error) (model.Transfer, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Transfer{}, err
	}
	i := slices.IndexFunc(s.TransferRows, func(x model.Transfer) bool { return x.ID == id })
	if i < 0 {
		return model.Transfer{}, fmt.Errorf("transfer %s: %w", id, model.ErrNotFound)
	}
	x := s.TransferRows[i]
	v, err := s.volume(x.VolumeID)
	if err == nil {
		err = move(v)
	}
	if err == nil {
		s.TransferRows = slices.Delete(s.TransferRows, i, i+1)
	}
	return x, err
}

// DeleteTransfer implements v3.Store.
func (s *Store) DeleteTransfer(_ context.Context, id uuid.UUID) error {
	_, err := s.end(id, func(v *model.Volume) error {
		if v.Status == model.VolumeAwaitingTransfer {
			v.Status = model.VolumeAvailable
		}
		return nil
	})
	return err
}

// AcceptTransfer implements v3.Store.
func (s *Store) AcceptTransfer(_ context.Context, id uuid.UUID, projectID, userID string) (model.Transfer, error) {
	return s.end(id, func(v *model.Volume) error {
		if v.Status != model.VolumeAwaitingTransfer {
			return said{model.ErrConflict, fmt.Sprintf("Invalid volume: Transfer %s: Volume id %s expected in awaiting-transfer state.", id, v.ID)}
		}
		if err := s.fits(projectID, *v); err != nil {
			return err
		}
		v.Status, v.ProjectID, v.UserID = model.VolumeAvailable, projectID, userID
		return nil
	})
}
