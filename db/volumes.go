package db

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/vmthunder/vmthunder/db/model"
)

// shownColumns are what lists read: all that the API shows.
const shownColumns = `v.id, v.project_id, v.user_id, v.name, v.description, v.size_gib, v.status, v.attach_status,
	v.migration_status, v.availability_zone, v.volume_type_id, t.name AS volume_type, v.bootable, v.multiattach, v.readonly,
	v.consumes_quota, v.image_id, v.snapshot_id, v.source_volid, v.group_id, v.encryption_key_id, v.metadata, v.admin_metadata,
	v.image_metadata, v.home, v.placed, (
	SELECT n.backend FROM nodes n WHERE n.host = CASE WHEN v.home IS NULL THEN v.placed ELSE v.home END) AS host_backend,
	v.error, v.created_at, v.updated_at`

// volumeColumns are all.
const volumeColumns = shownColumns + `, v.previous_status, v.thin_id, v.source_thin, v.materialized, v.together, v.request_id, v.retype_to,
	v.launched_at`

const volumeFrom = ` FROM volumes v LEFT JOIN volume_types t ON t.id = v.volume_type_id`

// volumes lists by the API's names of fields.
func volumes() lister {
	return lister{
		selects: shownColumns, from: volumeFrom, id: "v.id", project: "v.project_id",
		columns: map[string]column{
			"id":                  {sql: "v.id", kind: id},
			"project_id":          {sql: "v.project_id"},
			"user_id":             {sql: "v.user_id"},
			"name":                {sql: "v.name", nullable: true},
			"display_name":        {sql: "v.name", nullable: true},
			"description":         {sql: "v.description", nullable: true},
			"display_description": {sql: "v.description", nullable: true},
			"size":                {sql: "v.size_gib", kind: number},
			"status":              {sql: "v.status"},
			"attach_status":       {sql: "v.attach_status"},
			"migration_status":    {sql: "v.migration_status", nullable: true},
			"availability_zone":   {sql: "v.availability_zone"},
			"volume_type_id":      {sql: "v.volume_type_id", kind: id, nullable: true},
			"volume_type":         {sql: "t.name", nullable: true},
			"bootable":            {sql: "v.bootable", kind: boolean},
			"multiattach":         {sql: "v.multiattach", kind: boolean},
			"consumes_quota":      {sql: "v.consumes_quota", kind: boolean},
			"image_id":            {sql: "v.image_id", kind: id, nullable: true},
			"snapshot_id":         {sql: "v.snapshot_id", kind: id, nullable: true},
			"source_volid":        {sql: "v.source_volid", kind: id, nullable: true},
			"group_id":            {sql: "v.group_id", kind: id, nullable: true},
			"host":                {sql: "COALESCE(v.home, v.placed)", nullable: true},
			"metadata":            {sql: "v.metadata", kind: document},
			"glance_metadata":     {sql: "v.image_metadata", kind: document},
			"image_metadata":      {sql: "v.image_metadata", kind: document},
			"created_at":          {sql: "v.created_at", kind: stamp},
			"updated_at":          {sql: "v.updated_at", kind: stamp, nullable: true},
			"launched_at":         {sql: "v.launched_at", kind: stamp, nullable: true},
		},
	}
}

// Volume returns one volume with its attachments; projectID "" sees all.
func (s *Store) Volume(ctx context.Context, id uuid.UUID, projectID string) (model.Volume, error) {
	var vs []struct {
		model.Volume

		Attached bool `db:"attached"`
	}
	err := s.selectPrepared(ctx, &vs, showVolume, id, projectID)
	v, err := one(vs, err, "volume", id)
	if err != nil || !v.Attached {
		return v.Volume, err
	}
	out := []model.Volume{v.Volume}
	err = attach(ctx, s.db, out, "")
	return out[0], err
}

// showVolume tells whether there is more to ask for.
const showVolume = "SELECT " + volumeColumns + ", EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = v.id) AS attached" +
	volumeFrom + " WHERE v.id = $1 AND ($2 = '' OR v.project_id = $2)"

// volumesWhere reads volumes with their attachments.
func volumesWhere(ctx context.Context, q sqlx.ExtContext, where string, args ...any) ([]model.Volume, error) {
	var vs []model.Volume
	err := sqlx.SelectContext(ctx, q, &vs, "SELECT "+volumeColumns+volumeFrom+" WHERE "+where, args...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	return vs, attach(ctx, q, vs, "")
}

// one returns the only element, or ErrNotFound in words.
func one[T any](of []T, err error, noun string, id any) (T, error) {
	var zero T
	switch {
	case err != nil:
		return zero, fmt.Errorf("%s %v: %w", noun, id, err)
	case len(of) == 0:
		return zero, fmt.Errorf("%s %v: %w", noun, id, model.ErrNotFound)
	}
	return of[0], nil
}

// ListVolumes returns a page of volumes, with attachments if q.Detail. What users are not
// shown, thin devices and the like, is left zero: a list has a thousand rows, and reading
// them is what it costs.
func (s *Store) ListVolumes(ctx context.Context, q model.ListQuery) ([]model.Volume, error) {
	var vs []model.Volume
	if err := s.rows(ctx, &vs, volumes(), q); err != nil {
		return nil, err
	}
	if !q.Detail {
		return vs, nil
	}
	return vs, attach(ctx, s.db, vs, "")
}

// CountVolumes counts what ListVolumes would return without paging.
func (s *Store) CountVolumes(ctx context.Context, q model.ListQuery) (int, error) {
	l := volumes()
	l.from = strings.TrimSuffix(l.from, " LEFT JOIN volume_types t ON t.id = v.volume_type_id")
	for _, f := range q.Filters {
		if f.Column == "volume_type" {
			l.from = volumeFrom
		}
	}
	return s.count(ctx, l, q)
}

// PatchVolume writes the fields of p that are set and returns the row.
func (s *Store) PatchVolume(ctx context.Context, id uuid.UUID, p model.VolumePatch) (model.Volume, error) {
	set, args := "updated_at = now()", []any{}
	add := func(expr string, v any) {
		set, args = set+", "+expr, append(args, v)
	}
	if p.Name != nil {
		add("name = ?", *p.Name)
	}
	if p.Description != nil {
		add("description = ?", *p.Description)
	}
	if p.NoName {
		add("name = ?", nil)
	}
	if p.NoDescription {
		add("description = ?", nil)
	}
	if p.Bootable != nil {
		add("bootable = ?", *p.Bootable)
	}
	if p.ReadOnly != nil {
		// Cinder keeps the flag in admin metadata too, as Python writes it.
		add("readonly = ?", *p.ReadOnly)
		add("admin_metadata = admin_metadata || ?::jsonb", model.StringMap{"readonly": map[bool]string{true: "True", false: "False"}[*p.ReadOnly]})
	}
	if p.Metadata != nil {
		add("metadata = ?", p.Metadata)
	}
	if p.ImageMetadata != nil {
		add("image_metadata = ?", p.ImageMetadata)
	}
	if p.VolumeTypeID != nil {
		add("volume_type_id = ?", *p.VolumeTypeID)
	}
	n, err := s.affected(ctx, sqlx.Rebind(sqlx.DOLLAR, "UPDATE volumes SET "+set+" WHERE id = ?"), append(args, id)...)
	if err == nil && n == 0 {
		err = model.ErrNotFound
	}
	if err != nil {
		return model.Volume{}, fmt.Errorf("volume %s: %w", id, refers(err, "volume type"))
	}
	return s.Volume(ctx, id, "")
}

// refers turns the foreign key's error of an insert or update into ErrNotFound of what
// the row refers to.
func refers(err error, noun string) error {
	if isInUse(err) {
		return say(model.ErrNotFound, "The %s could not be found.", noun)
	}
	return err
}

// EditVolumeMaps changes metadata and image metadata in one transaction by a function
// that changes the maps in place; it may be called more than once. Its error is returned as it is.
func (s *Store) EditVolumeMaps(ctx context.Context, id uuid.UUID, edit func(metadata, imageMetadata model.StringMap) error) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if err := edit(v.Metadata, v.ImageMetadata); err != nil {
			return err
		}
		if err := t.exec("UPDATE volumes SET metadata = $2, image_metadata = $3, updated_at = now() WHERE id = $1",
			id, v.Metadata, v.ImageMetadata); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		vs, err := volumesWhere(ctx, t.q, "v.id = $1", id)
		out, err = one(vs, err, "volume", id)
		return err
	})
	return out, err
}

// MoveVolume changes the status if it is one of m.From, else ErrConflict with the status
// in its text. A volume that goes to deleting makes its home's generation grow.
func (s *Store) MoveVolume(ctx context.Context, id uuid.UUID, m model.VolumeMove) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		moved, err := t.move(change{
			of: volumeStatus, where: "id = ?", args: []any{id}, from: words(m.From...), to: string(m.To),
			set: setVolume, setArgs: []any{m.Error},
		})
		if err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		vs, err := volumesWhere(ctx, t.q, "v.id = $1", id)
		v, err := one(vs, err, "volume", id)
		if err != nil {
			return err
		}
		if len(moved) == 0 {
			return say(model.ErrConflict, "Volume %s status must be %s, but it is %s.", id, strings.Join(words(m.From...), " or "), v.Status)
		}
		if m.To == model.VolumeDeleting && v.Home != nil {
			_ = t.Bump(*v.Home)
		}
		out = v
		return nil
	})
	return out, err
}

// setVolume goes with every change of a volume's status; its argument is the error text or nil.
const setVolume = "previous_status = status, error = ?"

// ResetVolume writes what is not nil, unguarded (os-reset_status). Attach status detached
// drops the attachments; then the home gets a new document.
func (s *Store) ResetVolume(ctx context.Context, id uuid.UUID, status *model.VolumeStatus, attach *model.AttachStatus, migration *string) error {
	return s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if status != nil {
			// The text stays if the status goes to error: it is still why.
			_, err := t.move(change{
				of: volumeStatus, where: "id = ?", args: []any{id}, to: string(*status),
				set:     "previous_status = status, error = CASE WHEN ? THEN error END",
				setArgs: []any{strings.HasPrefix(string(*status), "error")},
			})
			if err != nil {
				return fmt.Errorf("volume %s: %w", id, err)
			}
		}
		if attach != nil && *attach == model.AttachDetached {
			if err := t.exec("DELETE FROM attachments WHERE volume_id = $1", id); err != nil {
				return fmt.Errorf("volume %s: %w", id, err)
			}
			if err := t.exec("UPDATE volumes SET admin_metadata = admin_metadata - 'attached_mode' WHERE id = $1", id); err != nil {
				return fmt.Errorf("volume %s: %w", id, err)
			}
		}
		if (attach != nil || status != nil) && v.Home != nil {
			_ = t.Bump(*v.Home)
		}
		return t.exec(`UPDATE volumes SET attach_status = COALESCE($2, attach_status),
			migration_status = CASE WHEN $3::text IS NULL THEN migration_status ELSE NULLIF($3, '') END, updated_at = now() WHERE id = $1`,
			id, attach, migration)
	})
}

// DeleteRow removes a volume that is deleting, with its attachments; its home's
// generation grows. ErrConflict if it has another status, ErrInUse if it has snapshots.
func (s *Store) DeleteRow(ctx context.Context, id uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		var group *uuid.UUID // of a volume that is deleting it does not change
		if err := t.get(&group, "SELECT group_id FROM volumes WHERE id = $1", id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if group != nil {
			if _, err := t.lockGroup(*group); err != nil {
				return err
			}
		}
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if v.Status != model.VolumeDeleting {
			return say(model.ErrConflict, "Volume %s status must be deleting, but it is %s.", id, v.Status)
		}
		if err := t.exec("DELETE FROM attachments WHERE volume_id = $1", id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if err := t.endTransfers(id); err != nil {
			return err
		}
		if err := t.exec("DELETE FROM volumes WHERE id = $1", id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if v.Home != nil {
			_ = t.Bump(*v.Home)
		}
		if group != nil {
			return t.endGroup(*group)
		}
		return nil
	})
}

// Summary counts volumes, adds up their sizes and gathers the values of each metadata
// key; projectID "" means all.
func (s *Store) Summary(ctx context.Context, projectID string) (count int, gib int64, metadata map[string][]string, err error) {
	var sum struct {
		Count int   `db:"count"`
		GiB   int64 `db:"gib"`
	}
	err = s.get(ctx, &sum, "SELECT count(*) AS count, COALESCE(sum(size_gib), 0) AS gib FROM volumes WHERE $1 = '' OR project_id = $1", projectID)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("summary: %w", err)
	}
	var pairs []struct {
		Key   string `db:"key"`
		Value string `db:"value"`
	}
	err = s.list(ctx, &pairs, `SELECT DISTINCT m.key, m.value FROM volumes, jsonb_each_text(metadata) m
		WHERE $1 = '' OR project_id = $1 ORDER BY 1, 2`, projectID)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("summary: %w", err)
	}
	metadata = map[string][]string{}
	for _, p := range pairs {
		metadata[p.Key] = append(metadata[p.Key], p.Value)
	}
	return sum.Count, sum.GiB, metadata, nil
}
