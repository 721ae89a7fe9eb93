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

const snapshotColumns = `s.id, s.volume_id, s.project_id, s.user_id, s.name, s.description, s.size_gib, s.status, s.progress,
	s.metadata, s.group_snapshot_id, s.consumes_quota, s.home, s.thin_id, s.source_thin, s.materialized, s.together, s.image_id,
	s.volume_type_id, s.bootable, s.image_metadata, s.error, s.created_at, s.updated_at`

// snapshots lists by the API's names of fields.
func snapshots() lister {
	return lister{
		selects: snapshotColumns, from: " FROM snapshots s", id: "s.id", project: "s.project_id",
		columns: map[string]column{
			"id":                {sql: "s.id", kind: id},
			"project_id":        {sql: "s.project_id"},
			"user_id":           {sql: "s.user_id"},
			"volume_id":         {sql: "s.volume_id", kind: id},
			"name":              {sql: "s.name", nullable: true},
			"display_name":      {sql: "s.name", nullable: true},
			"description":       {sql: "s.description", nullable: true},
			"size":              {sql: "s.size_gib", kind: number},
			"volume_size":       {sql: "s.size_gib", kind: number},
			"status":            {sql: "s.status"},
			"progress":          {sql: "s.progress"},
			"group_snapshot_id": {sql: "s.group_snapshot_id", kind: id, nullable: true},
			"volume_type_id":    {sql: "s.volume_type_id", kind: id, nullable: true},
			"consumes_quota":    {sql: "s.consumes_quota", kind: boolean},
			"host":              {sql: "s.home", nullable: true},
			"metadata":          {sql: "s.metadata", kind: document},
			"availability_zone": {sql: "(SELECT v.availability_zone FROM volumes v WHERE v.id = s.volume_id)"},
			"created_at":        {sql: "s.created_at", kind: stamp},
			"updated_at":        {sql: "s.updated_at", kind: stamp, nullable: true},
		},
	}
}

// Snapshot returns one snapshot; projectID "" sees all.
func (s *Store) Snapshot(ctx context.Context, id uuid.UUID, projectID string) (model.Snapshot, error) {
	var ss []model.Snapshot
	err := s.list(ctx, &ss, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.id = $1 AND ($2 = '' OR s.project_id = $2)", id, projectID)
	return one(ss, err, "snapshot", id)
}

// ListSnapshots returns a page of snapshots.
func (s *Store) ListSnapshots(ctx context.Context, q model.ListQuery) ([]model.Snapshot, error) {
	var ss []model.Snapshot
	return ss, s.rows(ctx, &ss, snapshots(), q)
}

// CountSnapshots counts what ListSnapshots would return without paging.
func (s *Store) CountSnapshots(ctx context.Context, q model.ListQuery) (int, error) {
	return s.count(ctx, snapshots(), q)
}

// SnapshotsOf returns a volume's snapshots, the oldest first.
func (s *Store) SnapshotsOf(ctx context.Context, volume uuid.UUID) ([]model.Snapshot, error) {
	var ss []model.Snapshot
	return ss, s.list(ctx, &ss, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.volume_id = $1 ORDER BY s.created_at, s.id", volume)
}

// LockSnapshot returns the snapshot's row, locked.
func (t *Tx) LockSnapshot(id uuid.UUID) (model.Snapshot, error) {
	var ss []model.Snapshot
	err := t.list(&ss, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.id = $1 FOR NO KEY UPDATE OF s", id)
	return one(ss, err, "snapshot", id)
}

// LockSnapshotsOf returns a volume's snapshots, locked, the oldest first. While the volume
// is locked none can be added.
func (t *Tx) LockSnapshotsOf(volume uuid.UUID) ([]model.Snapshot, error) {
	var ss []model.Snapshot
	err := t.list(&ss, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.volume_id = $1 ORDER BY s.created_at, s.id FOR NO KEY UPDATE OF s", volume)
	return ss, err
}

// SetSnapshotStatus writes the status and the error text of a snapshot that is locked.
func (t *Tx) SetSnapshotStatus(id uuid.UUID, status model.SnapshotStatus, reason *string) error {
	return t.moveSnapshot(id, model.SnapshotMove{To: status, Error: reason})
}

// CreateSnapshots takes all snapshots or none, of volumes (named by VolumeID) whose status
// is one of from; else ErrConflict. Those of a volume that nothing was ever written to are
// available at once; the others are creating, and their home has a new document. Size,
// image, type, bootable and image metadata are the volume's. Too many for a quota are a
// *[model.QuotaError]. The rows are returned as written, in order.
func (s *Store) CreateSnapshots(ctx context.Context, snaps []model.Snapshot, from []model.VolumeStatus) ([]model.Snapshot, error) {
	var out []model.Snapshot
	err := s.Tx(ctx, func(t *Tx) error {
		out = make([]model.Snapshot, len(snaps))
		copy(out, snaps)
		if err := s.quotaOfSnapshots(t, out); err != nil {
			return err
		}
		// Locks are taken by id, whatever the order that was asked for.
		order := make([]int, len(out))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return slices.Compare(out[a].VolumeID[:], out[b].VolumeID[:]) })
		for _, i := range order {
			v, err := t.LockVolume(out[i].VolumeID)
			if err != nil {
				return err
			}
			if !slices.Contains(from, v.Status) {
				return say(model.ErrConflict, "Volume %s status must be %s, but it is %s.", v.ID, strings.Join(words(from...), " or "), v.Status)
			}
			if err := t.insertSnapshot(&out[i], &v); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (t *Tx) insertSnapshot(sn *model.Snapshot, v *model.Volume) error {
	if sn.ID == uuid.Nil {
		sn.ID = uuid.New()
	}
	sn.SizeGiB, sn.ImageID, sn.VolumeTypeID, sn.Bootable, sn.ImageMetadata = v.SizeGiB, v.ImageID, v.VolumeTypeID, v.Bootable, v.ImageMetadata
	sn.Status, sn.Progress = model.SnapshotAvailable, "100%"
	sn.Home, sn.ThinID, sn.SourceThin, sn.Materialized = nil, nil, nil, false
	if !v.Pristine() {
		thin, err := t.takeThin(*v.Home, 1)
		if err != nil {
			return err
		}
		sn.Home, sn.ThinID, sn.SourceThin = v.Home, &thin, v.ThinID
		sn.Status, sn.Progress = model.SnapshotCreating, "0%"
		_ = t.Bump(*v.Home)
	}
	rows, err := sqlx.NamedQueryContext(t.ctx, t.q, `INSERT INTO snapshots (id, volume_id, project_id, user_id, name, description, size_gib,
			status, progress, metadata, group_snapshot_id, consumes_quota, home, thin_id, source_thin, together, image_id, volume_type_id, bootable, image_metadata)
		VALUES (:id, :volume_id, :project_id, :user_id, :name, :description, :size_gib,
			:status, :progress, :metadata, :group_snapshot_id, :consumes_quota, :home, :thin_id, :source_thin, :together, :image_id, :volume_type_id, :bootable, :image_metadata)
		RETURNING created_at`, sn)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", sn.ID, translate(t.ctx, err))
	}
	defer rows.Close()
	if !rows.Next() {
		return fmt.Errorf("snapshot %s: %w", sn.ID, translate(t.ctx, rows.Err()))
	}
	return rows.Scan(&sn.CreatedAt)
}

// PatchSnapshot writes the fields of p that are set and returns the row.
func (s *Store) PatchSnapshot(ctx context.Context, id uuid.UUID, p model.SnapshotPatch) (model.Snapshot, error) {
	n, err := s.affected(ctx, `UPDATE snapshots SET name = CASE WHEN $5 THEN NULL ELSE COALESCE($2, name) END,
		description = CASE WHEN $6 THEN NULL ELSE COALESCE($3, description) END,
		metadata = COALESCE($4, metadata), updated_at = now() WHERE id = $1`,
		id, p.Name, p.Description, orNull(p.Metadata, p.Metadata == nil), p.NoName, p.NoDescription)
	if err := neededN(n, err, "snapshot", id); err != nil {
		return model.Snapshot{}, err
	}
	return s.Snapshot(ctx, id, "")
}

// EditSnapshotMetadata changes a snapshot's metadata in one transaction by a function that
// changes the map in place; it may be called more than once. Its error is returned as it is.
func (s *Store) EditSnapshotMetadata(ctx context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.Snapshot, error) {
	var out model.Snapshot
	err := s.Tx(ctx, func(t *Tx) error {
		sn, err := t.LockSnapshot(id)
		if err != nil {
			return err
		}
		if sn.Metadata == nil {
			sn.Metadata = model.StringMap{}
		}
		if err := edit(sn.Metadata); err != nil {
			return err
		}
		out = sn
		return t.exec("UPDATE snapshots SET metadata = $2, updated_at = now() WHERE id = $1", id, sn.Metadata)
	})
	return out, err
}

// MoveSnapshot changes the status if it is one of m.From, else ErrConflict with the status
// in its text. One that goes to deleting makes its home's generation grow.
func (s *Store) MoveSnapshot(ctx context.Context, id uuid.UUID, m model.SnapshotMove) (model.Snapshot, error) {
	var out model.Snapshot
	err := s.Tx(ctx, func(t *Tx) error {
		sn, err := t.LockSnapshot(id)
		if err != nil {
			return err
		}
		if m.From != nil && !slices.Contains(m.From, sn.Status) {
			return say(model.ErrConflict, "Snapshot %s status must be %s, but it is %s.", id, strings.Join(words(m.From...), " or "), sn.Status)
		}
		if err := t.moveSnapshot(id, m); err != nil {
			return err
		}
		if sn.Home != nil {
			_ = t.Bump(*sn.Home)
		}
		out, err = t.LockSnapshot(id)
		return err
	})
	return out, err
}

func (t *Tx) moveSnapshot(id uuid.UUID, m model.SnapshotMove) error {
	moved, err := t.move(change{
		of: snapshotStatus, where: "id = ?", args: []any{id}, to: string(m.To),
		set: "error = ?, progress = COALESCE(?, progress)", setArgs: []any{m.Error, m.Progress},
	})
	return needed(moved, err, "snapshot", id)
}

// DeleteSnapshotRow removes a snapshot that is deleting and whose data is gone, and tells
// whose it was; its home's generation grows. ErrConflict if it has another status.
func (s *Store) DeleteSnapshotRow(ctx context.Context, id uuid.UUID) (volume uuid.UUID, err error) {
	err = s.Tx(ctx, func(t *Tx) error {
		sn, err := t.LockSnapshot(id)
		if err != nil {
			return err
		}
		if sn.Status != model.SnapshotDeleting {
			return say(model.ErrConflict, "Snapshot %s status must be deleting, but it is %s.", id, sn.Status)
		}
		if sn.Home != nil {
			_ = t.Bump(*sn.Home)
		}
		volume = sn.VolumeID
		if err := t.exec("DELETE FROM snapshots WHERE id = $1", id); err != nil || sn.GroupSnapshotID == nil {
			return err
		}
		return t.endGroupSnapshot(*sn.GroupSnapshotID)
	})
	return volume, err
}
