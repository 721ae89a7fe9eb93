package db

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// RecordAttach makes a.VolumeID in-use with an attachment that is attached at once, as
// os-attach of the attach API before 3.27 wants it: the volume is available or attaching,
// or it is multiattach and in use, else ErrConflict. An attachment that
// os-initialize_connection has made, which has no instance and is not attached, is
// completed, and keeps its host if a names none; else a row is made.
func (s *Store) RecordAttach(ctx context.Context, a model.Attachment) (model.Attachment, error) {
	var out model.Attachment
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(a.VolumeID)
		if err != nil {
			return err
		}
		from := []model.VolumeStatus{model.VolumeAvailable, model.VolumeAttaching}
		if v.Multiattach {
			from = append(from, model.VolumeInUse)
		}
		if !slices.Contains(from, v.Status) {
			return fmt.Errorf("%w: it is %s", model.ErrConflict, v.Status)
		}
		open := slices.IndexFunc(v.Attachments, func(x model.Attachment) bool {
			return x.InstanceUUID == nil && x.Status != model.AttachAttached
		})
		if open >= 0 {
			out = v.Attachments[open]
		} else {
			out = model.Attachment{ID: a.ID, VolumeID: a.VolumeID, ProjectID: a.ProjectID, UserID: a.UserID}
			if out.ID == uuid.Nil {
				out.ID = uuid.New()
			}
			err := t.exec(`INSERT INTO attachments (id, volume_id, project_id, user_id, attach_status) VALUES ($1, $2, $3, $4, $5)`,
				out.ID, out.VolumeID, out.ProjectID, out.UserID, model.AttachReserved)
			if err != nil {
				return err
			}
		}
		if a.AttachedHost != nil {
			out.AttachedHost = a.AttachedHost
		}
		out.Mountpoint, out.AttachMode, out.AttachedAt, out.Status = a.Mountpoint, a.AttachMode, a.AttachedAt, model.AttachAttached
		if err := t.UpdateAttachment(out); err != nil {
			return err
		}
		if err := t.exec("UPDATE attachments SET instance_uuid = $2 WHERE id = $1", out.ID, a.InstanceUUID); err != nil {
			return err
		}
		moved, err := t.move(change{
			of: volumeStatus, where: "id = ?", args: []any{v.ID}, from: words(from...), to: string(model.VolumeInUse),
			set:     setVolume + ", attach_status = ?, admin_metadata = '{\"readonly\": \"False\"}'::jsonb || admin_metadata || ?::jsonb",
			setArgs: []any{nil, model.AttachAttached, attachedMode(a.AttachMode)},
		})
		if err := needed(moved, err, "volume", v.ID); err != nil {
			return err
		}
		out, err = t.attachment(out.ID)
		return err
	})
	if err != nil && !errors.As(err, new(*said)) {
		err = fmt.Errorf("attach volume %s: %w", a.VolumeID, err)
	}
	return out, err
}

// attachedMode is what the volume's metadata shows of a mode.
func attachedMode(mode *string) model.StringMap {
	m := model.StringMap{}
	if mode != nil {
		m["attached_mode"] = *mode
	}
	return m
}
