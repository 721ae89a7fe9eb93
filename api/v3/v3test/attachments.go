package v3test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

func (s *Store) attachment(id uuid.UUID) (*model.Attachment, error) {
	for i := range s.AttachmentRows {
		if s.AttachmentRows[i].ID == id {
			return &s.AttachmentRows[i], nil
		}
	}
	return nil, fmt.Errorf("attachment %s: %w", id, model.ErrNotFound)
}

// derive sets a volume's status from its attachments.
func (s *Store) derive(id uuid.UUID) {
	v, err := s.volume(id)
	if err != nil {
		return
	}
	var as []model.AttachStatus
	for _, a := range s.AttachmentRows {
		if a.VolumeID == id {
			as = append(as, a.Status)
		}
	}
	v.Status, v.AttachStatus = model.StatusFromAttachments(as)
	s.touch(v)
}

// Reserve implements v3.Store.
func (s *Store) Reserve(_ context.Context, a model.Attachment) (model.Attachment, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return a, err
	}
	v, err := s.volume(a.VolumeID)
	if err != nil {
		return a, err
	}
	ok := v.Status == model.VolumeAvailable || v.Status == model.VolumeDownloading || v.Multiattach && v.Status == model.VolumeInUse
	for _, other := range s.AttachmentRows {
		same := other.VolumeID == a.VolumeID && a.InstanceUUID != nil && other.InstanceUUID != nil && *other.InstanceUUID == *a.InstanceUUID
		ok = ok || same && (v.Status == model.VolumeInUse || v.Status == model.VolumeReserved)
	}
	if !ok {
		return a, fmt.Errorf("volume %s is %s: %w", v.ID, v.Status, model.ErrConflict)
	}
	a.Status, a.CreatedAt = model.AttachReserved, s.tick()
	s.AttachmentRows = append(s.AttachmentRows, a)
	if v.Status != model.VolumeDownloading {
		s.derive(v.ID)
	}
	return a, nil
}

// Attachment implements v3.Store.
func (s *Store) Attachment(_ context.Context, id uuid.UUID, projectID string) (model.Attachment, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Attachment{}, err
	}
	a, err := s.attachment(id)
	if err != nil || projectID != "" && a.ProjectID != projectID {
		return model.Attachment{}, fmt.Errorf("attachment %s: %w", id, model.ErrNotFound)
	}
	return *a, nil
}

// ListAttachments implements v3.Store.
func (s *Store) ListAttachments(_ context.Context, q model.ListQuery) ([]model.Attachment, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(slices.Clone(s.AttachmentRows), q, func(a *model.Attachment) fields {
		return fields{id: a.ID, project: a.ProjectID, created: a.CreatedAt, columns: map[string]string{
			"id": a.ID.String(), "volume_id": a.VolumeID.String(), "attach_status": string(a.Status),
			"instance_uuid": textOf(a.InstanceUUID), "attached_host": text(a.AttachedHost), "project_id": a.ProjectID,
		}}
	})
}

// CompleteAttachment implements v3.Store.
func (s *Store) CompleteAttachment(_ context.Context, id uuid.UUID) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	a, err := s.attachment(id)
	if err != nil {
		return err
	}
	if a.Status != model.AttachAttaching {
		return fmt.Errorf("attachment %s is %s: %w", id, a.Status, model.ErrConflict)
	}
	now := s.tick()
	a.Status, a.AttachedAt = model.AttachAttached, &now
	s.derive(a.VolumeID)
	return nil
}

// RecordAttach implements v3.LegacyAttacher.
func (s *Store) RecordAttach(_ context.Context, a model.Attachment) (model.Attachment, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return a, err
	}
	v, err := s.volume(a.VolumeID)
	if err != nil {
		return a, err
	}
	if v.Status != model.VolumeAvailable && v.Status != model.VolumeAttaching && (v.Status != model.VolumeInUse || !v.Multiattach) {
		return a, fmt.Errorf("volume %s is %s: %w", v.ID, v.Status, model.ErrConflict)
	}
	i := slices.IndexFunc(s.AttachmentRows, func(x model.Attachment) bool {
		return x.VolumeID == a.VolumeID && x.InstanceUUID == nil && x.Status != model.AttachAttached
	})
	if i < 0 {
		a.CreatedAt = s.tick()
		s.AttachmentRows = append(s.AttachmentRows, a)
		i = len(s.AttachmentRows) - 1
	}
	row := &s.AttachmentRows[i]
	row.InstanceUUID, row.Mountpoint, row.AttachMode = a.InstanceUUID, a.Mountpoint, a.AttachMode
	set(&row.AttachedHost, a.AttachedHost)
	row.Status, row.AttachedAt = model.AttachAttached, a.AttachedAt
	if v.AdminMetadata == nil {
		v.AdminMetadata = model.StringMap{}
	}
	v.AdminMetadata["attached_mode"] = text(a.AttachMode)
	if _, ever := v.AdminMetadata["readonly"]; !ever {
		v.AdminMetadata["readonly"] = "False"
	}
	s.derive(v.ID)
	return *row, nil
}
