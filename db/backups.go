package db

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/vmthunder/vmthunder/db/model"
)

const backupColumns = `b.id, b.project_id, b.user_id, b.name, b.description, b.size_gib, b.status, b.volume_id, b.snapshot_id,
	b.parent_id, b.container, b.availability_zone, b.object_count, b.fail_reason, b.restore_volume_id, b.metadata, b.source,
	b.data_timestamp, b.created_at, b.updated_at,
	EXISTS (SELECT 1 FROM backups c WHERE c.parent_id = b.id AND c.status NOT IN ('creating', 'error')) AS has_dependents`

// backups lists by the API's names of fields.
func backups() lister {
	return lister{
		selects: backupColumns, from: " FROM backups b", id: "b.id", project: "b.project_id",
		columns: map[string]column{
			"id":                {sql: "b.id", kind: id},
			"project_id":        {sql: "b.project_id"},
			"user_id":           {sql: "b.user_id"},
			"volume_id":         {sql: "b.volume_id", kind: id},
			"snapshot_id":       {sql: "b.snapshot_id", kind: id, nullable: true},
			"parent_id":         {sql: "b.parent_id", kind: id, nullable: true},
			"restore_volume_id": {sql: "b.restore_volume_id", kind: id, nullable: true},
			"name":              {sql: "b.name", nullable: true},
			"description":       {sql: "b.description", nullable: true},
			"size":              {sql: "b.size_gib", kind: number},
			"status":            {sql: "b.status"},
			"container":         {sql: "b.container", nullable: true},
			"availability_zone": {sql: "b.availability_zone", nullable: true},
			"object_count":      {sql: "b.object_count", kind: number},
			"fail_reason":       {sql: "b.fail_reason", nullable: true},
			"data_timestamp":    {sql: "b.data_timestamp", kind: stamp},
			"created_at":        {sql: "b.created_at", kind: stamp},
			"updated_at":        {sql: "b.updated_at", kind: stamp},
		},
	}
}

// Backup returns one backup; projectID "" sees all.
func (s *Store) Backup(ctx context.Context, id uuid.UUID, projectID string) (model.Backup, error) {
	var bs []model.Backup
	err := s.list(ctx, &bs, "SELECT "+backupColumns+" FROM backups b WHERE b.id = $1 AND ($2 = '' OR b.project_id = $2)", id, projectID)
	return one(bs, err, "backup", id)
}

// ListBackups returns a page of backups.
func (s *Store) ListBackups(ctx context.Context, q model.ListQuery) ([]model.Backup, error) {
	var bs []model.Backup
	return bs, s.rows(ctx, &bs, backups(), q)
}

// CountBackups counts what ListBackups would return without paging.
func (s *Store) CountBackups(ctx context.Context, q model.ListQuery) (int, error) {
	return s.count(ctx, backups(), q)
}

// PatchBackup writes the fields of p that are set and returns the row.
func (s *Store) PatchBackup(ctx context.Context, id uuid.UUID, p model.BackupPatch) (model.Backup, error) {
	n, err := s.affected(ctx, `UPDATE backups SET name = CASE WHEN $5 THEN NULL ELSE COALESCE($2, name) END,
		description = CASE WHEN $6 THEN NULL ELSE COALESCE($3, description) END,
		metadata = COALESCE($4, metadata), updated_at = now() WHERE id = $1`,
		id, p.Name, p.Description, orNull(p.Metadata, p.Metadata == nil), p.NoName, p.NoDescription)
	if err := neededN(n, err, "backup", id); err != nil {
		return model.Backup{}, err
	}
	return s.Backup(ctx, id, "")
}

// MoveBackup changes the status if it is one of m.From, else ErrConflict with the status in
// its text.
func (s *Store) MoveBackup(ctx context.Context, id uuid.UUID, m model.BackupMove) (model.Backup, error) {
	var out model.Backup
	err := s.Tx(ctx, func(t *Tx) error {
		var err error
		out, err = t.MoveBackup(id, m)
		return err
	})
	return out, err
}

// ImportBackup inserts a backup that is in the store already. One of its id is ErrExists, too
// many are a *[model.QuotaError].
func (s *Store) ImportBackup(ctx context.Context, b model.Backup) (model.Backup, error) {
	var out model.Backup
	err := s.Tx(ctx, func(t *Tx) error {
		if err := t.ReserveBackup(b.ProjectID, b.SizeGiB); err != nil {
			return err
		}
		var err error
		out, err = t.AddBackup(b)
		return err
	})
	return out, err
}

// ReserveBackup returns a *[model.QuotaError] if the project's quotas have no room for a
// backup. It locks the project, so it comes before any other lock.
func (t *Tx) ReserveBackup(project string, gib int) error {
	return t.store.reserve(t, project, claim{Claim: model.BackupClaim(gib)})
}

// AddBackup inserts a backup and returns the row as written. Without a time of its data that
// is now.
func (t *Tx) AddBackup(b model.Backup) (model.Backup, error) {
	if b.ID == uuid.Nil {
		b.ID = uuid.New()
	}
	if b.Source == nil {
		b.Source = model.JSON("{}")
	}
	err := t.exec(`INSERT INTO backups (id, project_id, user_id, name, description, size_gib, status, volume_id, snapshot_id, parent_id,
			container, availability_zone, object_count, fail_reason, metadata, source, data_timestamp)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, COALESCE($17, now()))`,
		b.ID, b.ProjectID, b.UserID, b.Name, b.Description, b.SizeGiB, b.Status, b.VolumeID, b.SnapshotID, b.ParentID,
		b.Container, b.AvailabilityZone, b.ObjectCount, b.FailReason, orEmpty(b.Metadata), b.Source, orNull(b.DataTimestamp, b.DataTimestamp.IsZero()))
	if err != nil {
		return b, fmt.Errorf("backup %s: %w", b.ID, err)
	}
	return t.LockBackup(b.ID)
}

// LockBackup returns a backup's row, locked. Volumes and tasks are locked before.
func (t *Tx) LockBackup(id uuid.UUID) (model.Backup, error) {
	var bs []model.Backup
	err := t.list(&bs, "SELECT "+backupColumns+" FROM backups b WHERE b.id = $1 FOR NO KEY UPDATE OF b", id)
	return one(bs, err, "backup", id)
}

// BackupsOf returns a project's backups of a volume.
func (t *Tx) BackupsOf(volume uuid.UUID, projectID string) ([]model.Backup, error) {
	var bs []model.Backup
	return bs, t.list(&bs, "SELECT "+backupColumns+" FROM backups b WHERE b.volume_id = $1 AND b.project_id = $2 ORDER BY b.data_timestamp, b.id", volume, projectID)
}

// BackupChildren counts the increments of a backup, whole or not. While it is locked and
// available none can be added but by who has the lock.
func (t *Tx) BackupChildren(id uuid.UUID) (n int, err error) {
	return n, t.get(&n, "SELECT count(*) FROM backups WHERE parent_id = $1", id)
}

// MoveBackup changes the status if it is one of m.From, else ErrConflict with the status in
// its text.
func (t *Tx) MoveBackup(id uuid.UUID, m model.BackupMove) (model.Backup, error) {
	b, err := t.LockBackup(id)
	if err != nil {
		return b, err
	}
	if m.From != nil && !slices.Contains(m.From, b.Status) {
		return b, say(model.ErrConflict, "Backup %s status must be %s, but it is %s.", id, strings.Join(words(m.From...), " or "), b.Status)
	}
	moved, err := t.move(change{
		of: backupStatus, where: "id = ?", args: []any{id}, to: string(m.To),
		set:     "fail_reason = ?, object_count = COALESCE(?, object_count), restore_volume_id = COALESCE(?, restore_volume_id)",
		setArgs: []any{m.FailReason, m.Objects, m.RestoreVolumeID},
	})
	if err := needed(moved, err, "backup", id); err != nil {
		return b, err
	}
	return t.LockBackup(id)
}

// DeleteBackup removes the row of a backup that is deleting, else ErrConflict.
func (t *Tx) DeleteBackup(id uuid.UUID) error {
	b, err := t.LockBackup(id)
	if err != nil {
		return err
	}
	if b.Status != model.BackupDeleting {
		return say(model.ErrConflict, "Backup %s status must be deleting, but it is %s.", id, b.Status)
	}
	return t.exec("DELETE FROM backups WHERE id = $1", id)
}

// TasksOfBackup returns the tasks about a backup, ended ones too, the oldest first.
func (t *Tx) TasksOfBackup(id uuid.UUID) ([]model.Task, error) {
	var ks []model.Task
	err := t.list(&ks, "SELECT "+taskColumns+" FROM tasks k WHERE k.args ->> 'backup_id' = $1 ORDER BY k.created_at, k.id", id.String())
	return ks, err
}

// Restored writes into a volume, which is locked, what it gets of the one that a backup was
// taken of, and which backup it was restored from: null if that is of the volume itself.
func (t *Tx) Restored(volume uuid.UUID, src model.BackupSource, from *uuid.UUID) error {
	metadata := model.StringMap{}
	if from != nil {
		for k, v := range src.Metadata {
			metadata[k] = v
		}
		metadata["src_backup_id"] = from.String()
	}
	query := `UPDATE volumes SET metadata = metadata || ?::jsonb, bootable = bootable OR ?, launched_at = COALESCE(launched_at, now()), updated_at = now()`
	args := []any{metadata, src.Bootable}
	if len(src.ImageMetadata) > 0 {
		query, args = query+", image_metadata = ?", append(args, src.ImageMetadata)
	}
	if err := t.exec(sqlx.Rebind(sqlx.DOLLAR, query+" WHERE id = ?"), append(args, volume)...); err != nil {
		return fmt.Errorf("volume %s: %w", volume, err)
	}
	return nil
}
