package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/vmthunder/vmthunder/db/model"
)

const attachmentColumns = `a.id, a.volume_id, a.project_id, a.user_id, a.instance_uuid, a.attached_host, a.mountpoint,
	a.attach_mode, a.attach_status, a.connector, a.connection_info, a.chap_secret, a.created_at, a.updated_at,
	a.attached_at, a.detached_at`

func attachments() lister {
	return lister{
		selects: attachmentColumns, from: " FROM attachments a", id: "a.id", project: "a.project_id",
		columns: map[string]column{
			"id":            {sql: "a.id", kind: id},
			"project_id":    {sql: "a.project_id"},
			"volume_id":     {sql: "a.volume_id", kind: id},
			"instance_id":   {sql: "a.instance_uuid", kind: id, nullable: true},
			"instance_uuid": {sql: "a.instance_uuid", kind: id, nullable: true},
			"status":        {sql: "a.attach_status"},
			"attach_status": {sql: "a.attach_status"},
			"attached_host": {sql: "a.attached_host", nullable: true},
			"attach_mode":   {sql: "a.attach_mode", nullable: true},
			"mountpoint":    {sql: "a.mountpoint", nullable: true},
			"created_at":    {sql: "a.created_at", kind: stamp},
			"updated_at":    {sql: "a.updated_at", kind: stamp, nullable: true},
			"attached_at":   {sql: "a.attached_at", kind: stamp, nullable: true},
		},
	}
}

// attach fills the volumes' attachments, oldest first, in one query.
func attach(ctx context.Context, q sqlx.ExtContext, vs []model.Volume, more string) error {
	if len(vs) == 0 {
		return nil
	}
	at := make(map[uuid.UUID]int, len(vs))
	keys := make([]uuid.UUID, len(vs))
	for i := range vs {
		at[vs[i].ID], keys[i] = i, vs[i].ID
	}
	var as []model.Attachment
	err := sqlx.SelectContext(ctx, q, &as, "SELECT "+attachmentColumns+
		" FROM attachments a WHERE a.volume_id = ANY($1::uuid[])"+more+" ORDER BY a.created_at, a.id", ids(keys))
	if err != nil {
		return fmt.Errorf("attachments: %w", translate(ctx, err))
	}
	for _, a := range as {
		v := &vs[at[a.VolumeID]]
		v.Attachments = append(v.Attachments, a)
	}
	return nil
}

// Attachment returns one attachment; projectID "" sees all.
func (s *Store) Attachment(ctx context.Context, id uuid.UUID, projectID string) (model.Attachment, error) {
	var as []model.Attachment
	err := s.list(ctx, &as, "SELECT "+attachmentColumns+" FROM attachments a WHERE a.id = $1 AND ($2 = '' OR a.project_id = $2)", id, projectID)
	return one(as, err, "attachment", id)
}

// AttachmentVolume returns an attachment and its volume with all its attachments, unlocked.
func (s *Store) AttachmentVolume(ctx context.Context, id uuid.UUID) (model.Attachment, model.Volume, error) {
	vs, err := volumesWhere(ctx, s.db, "v.id = (SELECT volume_id FROM attachments WHERE id = $1)", id)
	return ofVolume(vs, err, id)
}

// LockAttachment locks the attachment's volume and returns both rows, the volume with all its attachments.
func (t *Tx) LockAttachment(id uuid.UUID) (model.Attachment, model.Volume, error) {
	vs, err := volumesWhere(t.ctx, t.q, "v.id = (SELECT volume_id FROM attachments WHERE id = $1) FOR NO KEY UPDATE OF v", id)
	return ofVolume(vs, err, id)
}

// ofVolume finds an attachment among its volume's: it may be gone since the volume was looked for.
func ofVolume(vs []model.Volume, err error, id uuid.UUID) (model.Attachment, model.Volume, error) {
	v, err := one(vs, err, "attachment", id)
	if err != nil {
		return model.Attachment{}, v, err
	}
	i := slices.IndexFunc(v.Attachments, func(a model.Attachment) bool { return a.ID == id })
	if i < 0 {
		return model.Attachment{}, v, fmt.Errorf("attachment %s: %w", id, model.ErrNotFound)
	}
	return v.Attachments[i], v, nil
}

// ListAttachments returns a page of attachments.
func (s *Store) ListAttachments(ctx context.Context, q model.ListQuery) ([]model.Attachment, error) {
	var as []model.Attachment
	return as, s.rows(ctx, &as, attachments(), q)
}

// Reserve makes an attachment without connector and moves its volume to reserved, by the
// rules of Cinder's attachment_create (cinder/volume/api.py, _attachment_reserve): the
// volume is available or downloading, or it is multiattach and in use; or every
// attachment it has is of the same instance, which is how a live migration starts, and
// then its status stays. Else ErrConflict in words.
func (s *Store) Reserve(ctx context.Context, a model.Attachment) (model.Attachment, error) {
	if a.ID == uuid.Nil {
		a.ID = uuid.New()
	}
	var out model.Attachment
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(a.VolumeID)
		if err != nil {
			return err
		}
		if strings.Contains(string(v.Status), "error") {
			return say(model.ErrConflict, "Volume attachments can not be created if the volume is in an error state. "+
				"The Volume %s currently has a status of: %s ", v.ID, v.Status)
		}
		from := []model.VolumeStatus{model.VolumeAvailable, model.VolumeDownloading}
		if v.Multiattach {
			from = append(from, model.VolumeInUse)
		}
		switch {
		case slices.Contains(from, v.Status):
			_, err := t.move(change{
				of: volumeStatus, where: "id = ?", args: []any{v.ID}, from: words(from...), to: string(model.VolumeReserved),
				set: setVolume, setArgs: []any{nil},
			})
			if err != nil {
				return err
			}
		case !sameInstance(v, a.InstanceUUID):
			return say(model.ErrConflict, "Volume %s status must be %s to reserve, but the current status is %s.",
				v.ID, strings.Join(words(from...), " or "), v.Status)
		}
		a.Status = model.AttachReserved
		_, err = t.q.NamedExecContext(ctx, `INSERT INTO attachments
			(id, volume_id, project_id, user_id, instance_uuid, attached_host, mountpoint, attach_mode, attach_status)
			VALUES (:id, :volume_id, :project_id, :user_id, :instance_uuid, :attached_host, :mountpoint, :attach_mode, :attach_status)`, a)
		if err != nil {
			return translate(ctx, err)
		}
		out, err = t.attachment(a.ID)
		return err
	})
	if err != nil && !errors.As(err, new(*said)) {
		err = fmt.Errorf("reserve volume %s: %w", a.VolumeID, err)
	}
	return out, err
}

// sameInstance tells whether the volume is attached, or about to be, to the instance and to no other.
func sameInstance(v model.Volume, instance *uuid.UUID) bool {
	if instance == nil || v.Status == model.VolumeDeleting {
		return false
	}
	for _, a := range v.Attachments {
		if a.InstanceUUID == nil || *a.InstanceUUID != *instance {
			return false
		}
	}
	return len(v.Attachments) > 0
}

// CompleteAttachment moves an attachment from attaching to attached and its volume to
// in-use. One that is attached already stays so.
func (s *Store) CompleteAttachment(ctx context.Context, id uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		_, v, err := t.LockAttachment(id)
		if err != nil {
			return err
		}
		moved, err := t.move(change{
			of: attachmentStatus, where: "id = ?", args: []any{id}, from: words(model.AttachAttaching, model.AttachAttached),
			to: string(model.AttachAttached), set: "attached_at = COALESCE(attached_at, now())",
		})
		if err != nil {
			return fmt.Errorf("attachment %s: %w", id, err)
		}
		if len(moved) == 0 {
			return say(model.ErrConflict, "Attachment %s must be attaching to be completed.", id)
		}
		moved, err = t.move(change{
			of: volumeStatus, where: "id = ?", args: []any{v.ID},
			from: words(model.VolumeAttaching, model.VolumeReserved, model.VolumeInUse, model.VolumeDetaching, model.VolumeAvailable),
			to:   string(model.VolumeInUse), set: setVolume + ", attach_status = ?", setArgs: []any{nil, model.AttachAttached},
		})
		if err == nil && len(moved) == 0 {
			return say(model.ErrConflict, "Volume %s can not be attached in status %s.", v.ID, v.Status)
		}
		return err
	})
}

func (t *Tx) attachment(id uuid.UUID) (model.Attachment, error) {
	var as []model.Attachment
	err := t.list(&as, "SELECT "+attachmentColumns+" FROM attachments a WHERE a.id = $1", id)
	return one(as, err, "attachment", id)
}

// LockVolume returns the volume's row with its attachments, locked. Whoever changes
// attachments holds this lock.
func (t *Tx) LockVolume(id uuid.UUID) (model.Volume, error) {
	vs, err := volumesWhere(t.ctx, t.q, "v.id = $1 FOR NO KEY UPDATE OF v", id)
	return one(vs, err, "volume", id)
}

// SetVolumeStatus writes both statuses and the error text of a volume that is locked.
func (t *Tx) SetVolumeStatus(id uuid.UUID, status model.VolumeStatus, a model.AttachStatus, reason *string) error {
	moved, err := t.move(change{
		of: volumeStatus, where: "id = ?", args: []any{id}, to: string(status),
		set: setVolume + ", attach_status = ?", setArgs: []any{reason, a},
	})
	return needed(moved, err, "volume", id)
}

// UpdateAttachment writes attach_status, attached_host, mountpoint, attach_mode,
// connector, connection_info, chap_secret and attached_at.
func (t *Tx) UpdateAttachment(a model.Attachment) error {
	moved, err := t.move(change{
		of: attachmentStatus, where: "id = ?", args: []any{a.ID}, to: string(a.Status),
		set:     "attached_host = ?, mountpoint = ?, attach_mode = ?, connector = ?, connection_info = ?, chap_secret = ?, attached_at = ?",
		setArgs: []any{a.AttachedHost, a.Mountpoint, a.AttachMode, a.Connector, a.ConnectionInfo, a.ChapSecret, a.AttachedAt},
	})
	return needed(moved, err, "attachment", a.ID)
}

// DeleteAttachment removes the row; with the last one of a volume goes the mode that its
// metadata show.
func (t *Tx) DeleteAttachment(id uuid.UUID) error {
	err := t.exec(`UPDATE volumes v SET admin_metadata = v.admin_metadata - 'attached_mode' FROM attachments a
		WHERE a.id = $1 AND v.id = a.volume_id AND v.admin_metadata ->> 'attached_mode' IS NOT NULL
		AND NOT EXISTS (SELECT FROM attachments other WHERE other.volume_id = v.id AND other.id <> a.id)`, id)
	if err != nil {
		return fmt.Errorf("attachment %s: %w", id, err)
	}
	n, err := t.affected("DELETE FROM attachments WHERE id = $1", id)
	return neededN(n, err, "attachment", id)
}

// SetHome gives the volume a home and a thin number there. One that has this home keeps
// its number; one that has another is ErrConflict.
func (t *Tx) SetHome(id uuid.UUID, host string) (int64, error) {
	v, err := t.LockVolume(id)
	if err != nil {
		return 0, err
	}
	if v.Home != nil {
		if *v.Home == host {
			return *v.ThinID, nil
		}
		return 0, say(model.ErrConflict, "Volume %s is kept by host %s already.", id, *v.Home)
	}
	thin, err := t.takeThin(host, 1)
	if err != nil {
		return 0, err
	}
	err = t.exec("UPDATE volumes SET home = $2, placed = NULL, thin_id = $3, materialized = false, updated_at = now() WHERE id = $1", id, host, thin)
	if err != nil {
		return 0, fmt.Errorf("volume %s: %w", id, err)
	}
	return thin, nil
}

// needed is ErrNotFound when a statement that must hit a row hit none.
func needed[T any](hit []T, err error, noun string, id any) error {
	return neededN(int64(len(hit)), err, noun, id)
}

func neededN(hit int64, err error, noun string, id any) error {
	if err == nil && hit == 0 {
		err = model.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s %v: %w", noun, id, err)
	}
	return nil
}

func isInUse(err error) bool { return errors.Is(err, model.ErrInUse) }
