package v3test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

func (s *Store) snapshot(id uuid.UUID) (*model.Snapshot, error) {
	for i := range s.SnapshotRows {
		if s.SnapshotRows[i].ID == id {
			return &s.SnapshotRows[i], nil
		}
	}
	return nil, fmt.Errorf("snapshot %s: %w", id, model.ErrNotFound)
}

func copyOfSnapshot(sn *model.Snapshot) model.Snapshot {
	c := *sn
	c.Metadata, c.ImageMetadata = maps.Clone(sn.Metadata), maps.Clone(sn.ImageMetadata)
	return c
}

// Snapshot implements v3.Store.
func (s *Store) Snapshot(_ context.Context, id uuid.UUID, projectID string) (model.Snapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Snapshot{}, err
	}
	sn, err := s.snapshot(id)
	if err == nil && projectID != "" && sn.ProjectID != projectID {
		err = fmt.Errorf("snapshot %s: %w", id, model.ErrNotFound)
	}
	if err != nil {
		return model.Snapshot{}, err
	}
	return copyOfSnapshot(sn), nil
}

func snapshotFields(sn *model.Snapshot) fields {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	id := func(p *uuid.UUID) string {
		if p == nil {
			return ""
		}
		return p.String()
	}
	f := fields{
		id: sn.ID, project: sn.ProjectID, created: sn.CreatedAt,
		columns: map[string]string{
			"id": sn.ID.String(), "name": text(sn.Name), "description": text(sn.Description), "status": string(sn.Status),
			"volume_id": sn.VolumeID.String(), "size": strconv.Itoa(sn.SizeGiB), "volume_size": strconv.Itoa(sn.SizeGiB),
			"project_id": sn.ProjectID, "user_id": sn.UserID, "host": text(sn.Home), "progress": sn.Progress,
			"group_snapshot_id": id(sn.GroupSnapshotID), "volume_type_id": id(sn.VolumeTypeID),
			"consumes_quota": strconv.FormatBool(sn.ConsumesQuota), "availability_zone": "nova", "updated_at": "",
		},
		maps: map[string]model.StringMap{"metadata": sn.Metadata},
	}
	return f
}

// ListSnapshots implements v3.Store.
func (s *Store) ListSnapshots(_ context.Context, q model.ListQuery) ([]model.Snapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(s.SnapshotRows, q, snapshotFields)
}

// CountSnapshots implements v3.Store.
func (s *Store) CountSnapshots(ctx context.Context, q model.ListQuery) (int, error) {
	q.Limit, q.Offset, q.Marker = 0, 0, nil
	all, err := s.ListSnapshots(ctx, q)
	return len(all), err
}

// SnapshotsOf implements v3.Store.
func (s *Store) SnapshotsOf(_ context.Context, volume uuid.UUID) ([]model.Snapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	var out []model.Snapshot
	for i := range s.SnapshotRows {
		if s.SnapshotRows[i].VolumeID == volume {
			out = append(out, copyOfSnapshot(&s.SnapshotRows[i]))
		}
	}
	return out, err
}

// PatchSnapshot implements v3.Store.
func (s *Store) PatchSnapshot(_ context.Context, id uuid.UUID, p model.SnapshotPatch) (model.Snapshot, error) {
	return s.editSnapshot(id, func(sn *model.Snapshot) error {
		if p.Name != nil || p.NoName {
			sn.Name = p.Name
		}
		if p.Description != nil || p.NoDescription {
			sn.Description = p.Description
		}
		if p.Metadata != nil {
			sn.Metadata = p.Metadata
		}
		return nil
	})
}

// EditSnapshotMetadata implements v3.Store.
func (s *Store) EditSnapshotMetadata(_ context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.Snapshot, error) {
	return s.editSnapshot(id, func(sn *model.Snapshot) error {
		m := maps.Clone(sn.Metadata)
		if m == nil {
			m = model.StringMap{}
		}
		if err := edit(m); err != nil {
			return err
		}
		sn.Metadata = m
		return nil
	})
}

// MoveSnapshot implements v3.Store.
func (s *Store) MoveSnapshot(_ context.Context, id uuid.UUID, m model.SnapshotMove) (model.Snapshot, error) {
	return s.editSnapshot(id, func(sn *model.Snapshot) error {
		if m.From != nil && !slices.Contains(m.From, sn.Status) {
			return fmt.Errorf("snapshot %s is %s: %w", id, sn.Status, model.ErrConflict)
		}
		sn.Status, sn.Error = m.To, m.Error
		if m.Progress != nil {
			sn.Progress = *m.Progress
		}
		return nil
	})
}

func (s *Store) editSnapshot(id uuid.UUID, edit func(*model.Snapshot) error) (model.Snapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Snapshot{}, err
	}
	sn, err := s.snapshot(id)
	if err != nil {
		return model.Snapshot{}, err
	}
	if err := edit(sn); err != nil {
		return model.Snapshot{}, err
	}
	t := s.tick()
	sn.UpdatedAt = &t
	return copyOfSnapshot(sn), nil
}

// Snapshot implements v3.Scheduler: snapshots are available at once.
func (s *Scheduler) Snapshot(_ context.Context, snaps []model.Snapshot, from []model.VolumeStatus) ([]model.Snapshot, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("snapshot", len(snaps))
	if err != nil {
		return nil, err
	}
	out := slices.Clone(snaps)
	for i := range out {
		v, err := s.Store.volume(out[i].VolumeID)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(from, v.Status) {
			return nil, fmt.Errorf("volume %s is %s: %w", v.ID, v.Status, model.ErrConflict)
		}
		out[i].SizeGiB, out[i].ImageID, out[i].VolumeTypeID, out[i].Bootable, out[i].ImageMetadata = v.SizeGiB, v.ImageID, v.VolumeTypeID, v.Bootable, v.ImageMetadata
		out[i].Status, out[i].Progress, out[i].CreatedAt = model.SnapshotAvailable, "100%", s.Store.tick()
		t := s.Store.tick()
		row := copyOfSnapshot(&out[i])
		row.UpdatedAt = &t
		s.Store.SnapshotRows = append(s.Store.SnapshotRows, row)
	}
	return out, nil
}

// DeleteSnapshot implements v3.Scheduler: it is gone at once.
func (s *Scheduler) DeleteSnapshot(_ context.Context, id uuid.UUID, from []model.SnapshotStatus) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("delete snapshot", id)
	if err != nil {
		return err
	}
	sn, err := s.Store.snapshot(id)
	if err != nil {
		return err
	}
	if from != nil && !slices.Contains(from, sn.Status) {
		return fmt.Errorf("snapshot %s is %s: %w", id, sn.Status, model.ErrConflict)
	}
	s.Store.SnapshotRows = slices.DeleteFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.ID == id })
	return nil
}

// Copy implements v3.Scheduler: copies are available at once.
func (s *Scheduler) Copy(_ context.Context, vols []model.Volume, _ model.StringMap) ([]model.Volume, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("copy", len(vols))
	if err != nil {
		return nil, err
	}
	var out []model.Volume
	for _, v := range vols {
		v.CreatedAt, v.Status = s.Store.tick(), model.VolumeAvailable
		if v.SnapshotID != nil {
			if _, err := s.Store.snapshot(*v.SnapshotID); err != nil {
				return nil, err
			}
		} else if _, err := s.Store.volume(*v.SourceVolID); err != nil {
			return nil, err
		}
		s.Store.VolumeRows = append(s.Store.VolumeRows, v)
		out = append(out, s.Store.copyOf(&v))
		s.Store.touch(&s.Store.VolumeRows[len(s.Store.VolumeRows)-1])
	}
	return out, nil
}

// Revert implements v3.Scheduler: it is done at once.
func (s *Scheduler) Revert(_ context.Context, volume, snapshot uuid.UUID) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("revert", volume)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(volume)
	if err != nil {
		return err
	}
	sn, err := s.Store.snapshot(snapshot)
	if err != nil {
		return err
	}
	if v.Status != model.VolumeAvailable || sn.Status != model.SnapshotAvailable {
		return fmt.Errorf("volume %s is %s, snapshot %s: %w", volume, v.Status, sn.Status, model.ErrConflict)
	}
	return nil
}

// Extend implements v3.Scheduler: it is done at once.
func (s *Scheduler) Extend(_ context.Context, id uuid.UUID, gib int, from []model.VolumeStatus) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("extend", id)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	if !slices.Contains(from, v.Status) {
		return fmt.Errorf("volume %s is %s: %w", id, v.Status, model.ErrConflict)
	}
	v.SizeGiB = gib
	s.Store.touch(v)
	return nil
}

// Reimage implements v3.Scheduler: it is done at once.
func (s *Scheduler) Reimage(_ context.Context, id uuid.UUID, image model.Image, metadata model.StringMap, from []model.VolumeStatus) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("reimage", id)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	if !slices.Contains(from, v.Status) {
		return fmt.Errorf("volume %s is %s: %w", id, v.Status, model.ErrConflict)
	}
	if v.Status == model.VolumeError {
		v.Status = model.VolumeAvailable
	}
	v.ImageID, v.ImageMetadata, v.Bootable = &image.ID, metadata, true
	s.Store.touch(v)
	return nil
}

// Retype implements v3.Scheduler: it is done at once, and nothing moves, unless RetypeErr says otherwise.
func (s *Scheduler) Retype(_ context.Context, id uuid.UUID, to model.VolumeType, move bool, from []model.VolumeStatus, _ model.Task) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("retype", fmt.Sprintf("%s %t", id, move))
	if err != nil {
		return err
	}
	if s.RetypeErr != nil {
		return s.RetypeErr
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	if err := v.MustBe(from); err != nil {
		return err
	}
	v.VolumeTypeID, v.Multiattach = &to.ID, to.Is("multiattach")
	s.Store.touch(v)
	return nil
}
