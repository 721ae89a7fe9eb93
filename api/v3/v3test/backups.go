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

func (s *Store) backup(id uuid.UUID) (*model.Backup, error) {
	for i := range s.BackupRows {
		if s.BackupRows[i].ID == id {
			return &s.BackupRows[i], nil
		}
	}
	return nil, fmt.Errorf("backup %s: %w", id, model.ErrNotFound)
}

func (s *Store) backupCopy(b *model.Backup) model.Backup {
	c := *b
	c.Metadata = maps.Clone(b.Metadata)
	c.HasDependents = slices.ContainsFunc(s.BackupRows, func(o model.Backup) bool {
		return o.ParentID != nil && *o.ParentID == b.ID && o.Status != model.BackupCreating && o.Status != model.BackupError
	})
	return c
}

// Backup implements v3.Store.
func (s *Store) Backup(_ context.Context, id uuid.UUID, projectID string) (model.Backup, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Backup{}, err
	}
	b, err := s.backup(id)
	if err == nil && projectID != "" && b.ProjectID != projectID {
		err = fmt.Errorf("backup %s: %w", id, model.ErrNotFound)
	}
	if err != nil {
		return model.Backup{}, err
	}
	return s.backupCopy(b), nil
}

func backupFields(b *model.Backup) fields {
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
	return fields{
		id: b.ID, project: b.ProjectID, created: b.CreatedAt,
		columns: map[string]string{
			"id": b.ID.String(), "name": text(b.Name), "description": text(b.Description), "status": string(b.Status),
			"volume_id": b.VolumeID.String(), "size": strconv.Itoa(b.SizeGiB), "project_id": b.ProjectID, "user_id": b.UserID,
			"container": text(b.Container), "availability_zone": text(b.AvailabilityZone), "object_count": strconv.Itoa(b.ObjectCount),
			"snapshot_id": id(b.SnapshotID), "parent_id": id(b.ParentID), "restore_volume_id": id(b.RestoreVolumeID),
			"fail_reason": text(b.FailReason), "data_timestamp": b.DataTimestamp.Format("2006-01-02T15:04:05.000000"), "updated_at": "",
		},
	}
}

// ListBackups implements v3.Store.
func (s *Store) ListBackups(_ context.Context, q model.ListQuery) ([]model.Backup, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := make([]model.Backup, 0, len(s.BackupRows))
	for i := range s.BackupRows {
		rows = append(rows, s.backupCopy(&s.BackupRows[i]))
	}
	return list(rows, q, backupFields)
}

// CountBackups implements v3.Store.
func (s *Store) CountBackups(ctx context.Context, q model.ListQuery) (int, error) {
	q.Limit, q.Offset, q.Marker = 0, 0, nil
	all, err := s.ListBackups(ctx, q)
	return len(all), err
}

func (s *Store) editBackup(id uuid.UUID, edit func(*model.Backup) error) (model.Backup, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Backup{}, err
	}
	b, err := s.backup(id)
	if err != nil {
		return model.Backup{}, err
	}
	if err := edit(b); err != nil {
		return model.Backup{}, err
	}
	b.UpdatedAt = new(s.tick())
	return s.backupCopy(b), nil
}

// PatchBackup implements v3.Store.
func (s *Store) PatchBackup(_ context.Context, id uuid.UUID, p model.BackupPatch) (model.Backup, error) {
	return s.editBackup(id, func(b *model.Backup) error {
		set(&b.Name, p.Name)
		set(&b.Description, p.Description)
		if p.NoName {
			b.Name = nil
		}
		if p.NoDescription {
			b.Description = nil
		}
		if p.Metadata != nil {
			b.Metadata = maps.Clone(p.Metadata)
		}
		return nil
	})
}

// MoveBackup implements v3.Store.
func (s *Store) MoveBackup(_ context.Context, id uuid.UUID, m model.BackupMove) (model.Backup, error) {
	return s.editBackup(id, func(b *model.Backup) error {
		if m.From != nil && !slices.Contains(m.From, b.Status) {
			return fmt.Errorf("backup %s is %s: %w", id, b.Status, model.ErrConflict)
		}
		b.Status, b.FailReason = m.To, m.FailReason
		return nil
	})
}

// ImportBackup implements v3.Store.
func (s *Store) ImportBackup(_ context.Context, b model.Backup) (model.Backup, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return b, err
	}
	if _, err := s.backup(b.ID); err == nil {
		return b, fmt.Errorf("backup %s: %w", b.ID, model.ErrExists)
	}
	return s.addBackup(b), nil
}

func (s *Store) addBackup(b model.Backup) model.Backup {
	b.CreatedAt = s.tick()
	b.UpdatedAt = new(b.CreatedAt)
	if b.DataTimestamp.IsZero() {
		b.DataTimestamp = b.CreatedAt
	}
	s.BackupRows = append(s.BackupRows, b)
	return s.backupCopy(&b)
}

// CreateBackup implements v3.Scheduler. It does not end, unless BackupStatus is set.
func (s *Scheduler) CreateBackup(_ context.Context, b model.Backup, o model.BackupOptions, _ model.Task) (model.Backup, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("create backup", b.VolumeID)
	if err != nil {
		return b, err
	}
	v, err := s.Store.volume(b.VolumeID)
	if err != nil {
		return b, err
	}
	var sn *model.Snapshot
	if b.SnapshotID != nil {
		if sn, err = s.Store.snapshot(*b.SnapshotID); err != nil {
			return b, err
		}
		b.DataTimestamp = sn.CreatedAt
	}
	if err := model.MayBackUp(v, sn, o.Force); err != nil {
		return b, err
	}
	if o.Incremental {
		of := slices.Clone(s.Store.BackupRows)
		of = slices.DeleteFunc(of, func(x model.Backup) bool { return x.VolumeID != v.ID || x.ProjectID != b.ProjectID })
		p, err := model.BackupParent(of, sn)
		if err != nil {
			return b, err
		}
		b.ParentID = &p.ID
	}
	b.SizeGiB, b.Status = v.SizeGiB, s.BackupStatus
	if s.BackupStatus == "" {
		b.Status = model.BackupCreating
		v.PreviousStatus, v.Status = new(v.Status), model.VolumeBackingUp
		s.Store.touch(v)
	}
	return s.Store.addBackup(b), nil
}

// Restore implements v3.Scheduler: it is done at once.
func (s *Scheduler) Restore(_ context.Context, backup, volume uuid.UUID, _ model.Task) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("restore", volume)
	if err != nil {
		return err
	}
	b, err := s.Store.backup(backup)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(volume)
	if err != nil {
		return err
	}
	if err := model.MayRestore(b); err != nil {
		return err
	}
	if err := model.MayRestoreTo(b, v, model.VolumeAvailable); err != nil {
		return err
	}
	b.RestoreVolumeID = &volume
	return s.BackupErr
}

// RestoreNew implements v3.Scheduler. It does not end, unless BackupStatus is set.
func (s *Scheduler) RestoreNew(_ context.Context, backup uuid.UUID, v model.Volume, status model.VolumeStatus, _ model.Task) (model.Volume, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("restore new", status)
	if err != nil {
		return v, err
	}
	b, err := s.Store.backup(backup)
	if err != nil {
		return v, err
	}
	if err := model.MayRestore(b); err != nil {
		return v, err
	}
	if s.BackupErr != nil {
		return v, s.BackupErr
	}
	if err := s.Store.fits(v.ProjectID, v); err != nil {
		return v, err
	}
	v.CreatedAt, v.Status = s.Store.tick(), status
	if s.BackupStatus == "" {
		b.Status = model.BackupRestoring
	} else {
		v.Status = model.VolumeAvailable
	}
	s.Store.VolumeRows = append(s.Store.VolumeRows, v)
	out := s.Store.copyOf(&v)
	out.Status = status
	s.Store.touch(&s.Store.VolumeRows[len(s.Store.VolumeRows)-1])
	return out, nil
}

// DeleteBackup implements v3.Scheduler: it is gone at once.
func (s *Scheduler) DeleteBackup(_ context.Context, id uuid.UUID, force bool, _ model.Task) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("delete backup", id)
	if err != nil {
		return err
	}
	b, err := s.Store.backup(id)
	if err != nil {
		return err
	}
	children := 0
	for _, o := range s.Store.BackupRows {
		if o.ParentID != nil && *o.ParentID == id {
			children++
		}
	}
	if err := model.MayDeleteBackup(b, children, force); err != nil {
		return err
	}
	if s.BackupErr != nil {
		return s.BackupErr
	}
	s.Store.BackupRows = slices.DeleteFunc(s.Store.BackupRows, func(b model.Backup) bool { return b.ID == id })
	return nil
}
