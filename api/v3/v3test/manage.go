package v3test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Manageable implements v3.Scheduler: what is in Pool. Snapshots have a source.
func (s *Scheduler) Manageable(_ context.Context, host string, kind model.Kind) ([]model.Manageable, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("manageable", host)
	return slices.DeleteFunc(slices.Clone(s.Pool), func(m model.Manageable) bool { return (kind == model.KindSnapshot) != (m.Source != "") }), err
}

// ManageSnapshot implements v3.Scheduler: what is in Pool becomes a snapshot.
func (s *Scheduler) ManageSnapshot(_ context.Context, sn model.Snapshot, ref model.ManageRef) (model.Snapshot, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("manage snapshot", ref.Text)
	if err != nil {
		return sn, err
	}
	v, err := s.Store.volume(sn.VolumeID)
	if err != nil {
		return sn, err
	}
	sn.CreatedAt, sn.Status, sn.SizeGiB = s.Store.tick(), model.SnapshotError, v.SizeGiB
	i := slices.IndexFunc(s.Pool, func(m model.Manageable) bool { return m.Reference == ref.Text && m.Reason == "" && m.Source != "" })
	if i >= 0 {
		sn.Status, sn.SizeGiB = model.SnapshotAvailable, s.Pool[i].SizeGiB
		s.Pool = slices.Delete(s.Pool, i, i+1)
	}
	s.Store.SnapshotRows = append(s.Store.SnapshotRows, sn)
	return sn, nil
}

// UnmanageSnapshot implements v3.Scheduler: the snapshot is in Pool then.
func (s *Scheduler) UnmanageSnapshot(_ context.Context, id uuid.UUID, from []model.SnapshotStatus) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("unmanage snapshot", id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.ID == id })
	if i < 0 {
		return fmt.Errorf("snapshot %s: %w", id, model.ErrNotFound)
	}
	sn := s.Store.SnapshotRows[i]
	if !slices.Contains(from, sn.Status) {
		return fmt.Errorf("snapshot %s is %s: %w", id, sn.Status, model.ErrConflict)
	}
	s.Pool = append(s.Pool, model.Manageable{
		Reference: model.Reference(model.KindSnapshot, id), SizeGiB: sn.SizeGiB, Source: model.Reference(model.KindVolume, sn.VolumeID),
	})
	s.Store.SnapshotRows = slices.Delete(s.Store.SnapshotRows, i, i+1)
	return nil
}

// Manage implements v3.Scheduler: what is in Pool and free becomes a volume on the thin device that
// is named.
func (s *Scheduler) Manage(_ context.Context, v model.Volume, _ model.StringMap, host string, ref model.ManageRef) (model.Volume, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("manage", ref.Text)
	if err != nil {
		return v, err
	}
	i := slices.IndexFunc(s.Pool, func(m model.Manageable) bool { return m.Reference == ref.Text && m.Reason == "" })
	if host == "" && i < 0 {
		return v, fmt.Errorf("%s: %w", ref.Text, model.ErrInvalid)
	}
	v.CreatedAt, v.Status = s.Store.tick(), model.VolumeErrorManaging
	if i >= 0 {
		v.Status, v.SizeGiB = model.VolumeAvailable, max(s.Pool[i].SizeGiB, ref.SizeGiB)
		if ref.Thin != nil {
			v.Home, v.ThinID = &host, ref.Thin
		}
		s.Pool = slices.Delete(s.Pool, i, i+1)
	}
	s.Store.VolumeRows = append(s.Store.VolumeRows, v)
	s.Store.touch(&s.Store.VolumeRows[len(s.Store.VolumeRows)-1])
	return s.Store.copyOf(&v), nil
}

// Unmanage implements v3.Scheduler: the volume is in Pool then.
func (s *Scheduler) Unmanage(_ context.Context, id uuid.UUID) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("unmanage", id)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	held := slices.ContainsFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.VolumeID == id }) ||
		slices.ContainsFunc(s.Store.AttachmentRows, func(a model.Attachment) bool { return a.VolumeID == id })
	if held || !slices.Contains(model.Unmanageable, v.Status) {
		return fmt.Errorf("volume %s is %s: %w", id, v.Status, model.ErrConflict)
	}
	s.Pool = append(s.Pool, model.Manageable{Reference: model.Reference(model.KindVolume, id), SizeGiB: v.SizeGiB})
	s.Store.VolumeRows = slices.DeleteFunc(s.Store.VolumeRows, func(v model.Volume) bool { return v.ID == id })
	return nil
}

// Migrate implements v3.Scheduler: the volume is there at once.
func (s *Scheduler) Migrate(_ context.Context, id uuid.UUID, host string, _ model.Task) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("migrate", host)
	if err != nil {
		return err
	}
	if s.MigrateErr != nil {
		return s.MigrateErr
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	held := slices.ContainsFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.VolumeID == id })
	if held || v.Status != model.VolumeAvailable || v.Home != nil && *v.Home == host {
		return fmt.Errorf("volume %s: %w", id, model.ErrConflict)
	}
	done := "success"
	v.Home, v.MigrationStatus = &host, &done
	s.Store.touch(v)
	return nil
}
