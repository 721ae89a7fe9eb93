package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const typeColumns = `t.id, t.name, t.description, t.is_public, t.extra_specs, t.qos_specs_id, t.created_at, t.updated_at,
	EXISTS (SELECT 1 FROM volume_type_encryption e WHERE e.volume_type_id = t.id) AS encrypted`

// visible types to a project: public ones and those it was given.
const visible = "(t.is_public OR EXISTS (SELECT 1 FROM volume_type_access x WHERE x.volume_type_id = t.id AND x.project_id = %s))"

func types() lister {
	return lister{
		selects: typeColumns, from: " FROM volume_types t", id: "t.id",
		columns: map[string]column{
			"id":           {sql: "t.id", kind: id},
			"name":         {sql: "t.name"},
			"description":  {sql: "t.description", nullable: true},
			"is_public":    {sql: "t.is_public", kind: boolean},
			"qos_specs_id": {sql: "t.qos_specs_id", kind: id, nullable: true},
			"extra_specs":  {sql: "t.extra_specs", kind: document},
			// zones is what Cinder looks for a part of, as it is a list: az1,az2.
			"zones":      {sql: "t.extra_specs->>'RESKEY:availability_zones'", nullable: true, noSort: true},
			"created_at": {sql: "t.created_at", kind: stamp},
			"updated_at": {sql: "t.updated_at", kind: stamp, nullable: true},
		},
	}
}

// Types returns a page of volume types: those that q.ProjectID may see ("" sees all), and
// of these only public or only private ones if isPublic is not nil.
func (s *Store) Types(ctx context.Context, q model.ListQuery, isPublic *bool) ([]model.VolumeType, error) {
	var ts []model.VolumeType
	return ts, s.rows(ctx, &ts, types(), q, func(p *page) {
		if q.ProjectID != "" {
			p.where = append(p.where, fmt.Sprintf(visible, p.arg(q.ProjectID)))
		}
		if isPublic != nil {
			p.where = append(p.where, "t.is_public = "+p.arg(*isPublic))
		}
	})
}

// Type returns one type if projectID may see it ("" sees all).
func (s *Store) Type(ctx context.Context, id uuid.UUID, projectID string) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := s.list(ctx, &ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.id = $1 AND ($2 = '' OR "+fmt.Sprintf(visible, "$2")+")", id, projectID)
	return one(ts, err, "volume type", id)
}

// TypeByName returns the type of that name if projectID may see it ("" sees all).
func (s *Store) TypeByName(ctx context.Context, name, projectID string) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := s.selectPrepared(ctx, &ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.name = $1 AND ($2 = '' OR "+fmt.Sprintf(visible, "$2")+")", name, projectID)
	return one(ts, err, "volume type", name)
}

// DefaultTypeOf is a project's default type, or if it has none of its own the type of that
// name. Whether the project may see it is not looked at.
func (s *Store) DefaultTypeOf(ctx context.Context, projectID, name string) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := s.selectPrepared(ctx, &ts, "SELECT "+typeColumns+` FROM volume_types t LEFT JOIN default_types d ON d.volume_type_id = t.id AND d.project_id = $1
		WHERE d.project_id IS NOT NULL OR t.name = $2 ORDER BY d.project_id LIMIT 1`, projectID, name)
	return one(ts, err, "volume type", name)
}

// CreateType makes a type; ErrExists if the name is taken. Without an id it gets one.
func (s *Store) CreateType(ctx context.Context, t model.VolumeType) (model.VolumeType, error) {
	if t.ID == uuid.Nil {
		t.ID = uuid.New()
	}
	var ts []model.VolumeType
	err := s.list(ctx, &ts, `INSERT INTO volume_types AS t (id, name, description, is_public, extra_specs) VALUES ($1, $2, $3, $4, $5)
		RETURNING `+typeColumns, t.ID, t.Name, t.Description, t.IsPublic, t.ExtraSpecs)
	if errors.Is(err, model.ErrExists) {
		return t, typeExists(t.Name)
	}
	return one(ts, err, "volume type", t.Name)
}

func typeExists(name string) error {
	return say(model.ErrExists, "Volume Type %s already exists.", name)
}

// UpdateType writes the fields of p that are set; ErrExists if the name is taken. Quotas
// of the type (volumes_NAME, gigabytes_NAME, snapshots_NAME) follow its name.
func (s *Store) UpdateType(ctx context.Context, id uuid.UUID, p model.TypePatch) (model.VolumeType, error) {
	var out model.VolumeType
	err := s.Tx(ctx, func(t *Tx) error {
		old, err := t.lockType(id)
		if err != nil {
			return err
		}
		var ts []model.VolumeType
		err = t.list(&ts, `UPDATE volume_types AS t SET name = COALESCE($2, name), description = COALESCE($3, description),
			is_public = COALESCE($4, is_public), updated_at = now() WHERE id = $1 RETURNING `+typeColumns, id, p.Name, p.Description, p.IsPublic)
		if errors.Is(err, model.ErrExists) {
			return typeExists(*p.Name)
		}
		if out, err = one(ts, err, "volume type", id); err != nil || out.Name == old.Name {
			return err
		}
		return t.renameQuotas(old.Name, out.Name)
	})
	return out, err
}

// renameQuotas of a type. What an earlier type of the new name has left gives way.
func (t *Tx) renameQuotas(from, to string) error {
	for _, table := range []string{"quotas", "quota_classes"} {
		for _, resource := range []string{"volumes_", "gigabytes_", "snapshots_"} {
			if err := t.exec("DELETE FROM "+table+" WHERE resource = $1", resource+to); err != nil {
				return fmt.Errorf("quotas of volume type %s: %w", to, err)
			}
			if err := t.exec("UPDATE "+table+" SET resource = $2 WHERE resource = $1", resource+from, resource+to); err != nil {
				return fmt.Errorf("quotas of volume type %s: %w", from, err)
			}
		}
	}
	return nil
}

// EditExtraSpecs changes a type's extra specs by a function that changes the map in
// place; it may be called more than once, and its error is returned as it is. A type that
// a volume has is ErrInUse: what the volume is must not change behind its back.
func (s *Store) EditExtraSpecs(ctx context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.VolumeType, error) {
	var out model.VolumeType
	err := s.Tx(ctx, func(t *Tx) error {
		old, err := t.lockUnused(id)
		if err != nil {
			return err
		}
		if old.ExtraSpecs == nil {
			old.ExtraSpecs = model.StringMap{}
		}
		if err := edit(old.ExtraSpecs); err != nil {
			return err
		}
		var ts []model.VolumeType
		err = t.list(&ts, "UPDATE volume_types AS t SET extra_specs = $2, updated_at = now() WHERE id = $1 RETURNING "+typeColumns, id, old.ExtraSpecs)
		out, err = one(ts, err, "volume type", id)
		return err
	})
	return out, err
}

// DeleteType removes a type with its access list and encryption. ErrInUse while a volume
// or snapshot has it, ErrConflict while it is the default type of a project.
func (s *Store) DeleteType(ctx context.Context, id uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		if _, err := t.lockType(id); err != nil {
			return err
		}
		var isDefault bool
		if err := t.get(&isDefault, "SELECT EXISTS (SELECT 1 FROM default_types WHERE volume_type_id = $1)", id); err != nil {
			return fmt.Errorf("volume type %s: %w", id, err)
		}
		if isDefault {
			return say(model.ErrConflict, "The volume type %s is a default volume type and cannot be deleted.", id)
		}
		err := t.exec("DELETE FROM volume_types WHERE id = $1", id)
		if isInUse(err) {
			return say(model.ErrInUse, "Volume Type %s deletion is not allowed with volumes present with the type.", id)
		}
		return err
	})
}

// lockType returns a type's row, locked so that no volume can be made with it meanwhile.
func (t *Tx) lockType(id uuid.UUID) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := t.list(&ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.id = $1 FOR UPDATE OF t", id)
	return one(ts, err, "volume type", id)
}

// lockUnused is lockType for a type that must have no volume, else ErrInUse.
func (t *Tx) lockUnused(id uuid.UUID) (model.VolumeType, error) {
	vt, err := t.lockType(id)
	if err != nil {
		return vt, err
	}
	var used bool
	if err := t.get(&used, "SELECT EXISTS (SELECT 1 FROM volumes WHERE volume_type_id = $1 OR retype_to = $1)", id); err != nil {
		return vt, fmt.Errorf("volume type %s: %w", id, err)
	}
	if used {
		return vt, say(model.ErrInUse, "Volume Type is currently in use.")
	}
	return vt, nil
}

// TypeProjects returns who may see a private type, by id.
func (s *Store) TypeProjects(ctx context.Context, id uuid.UUID) ([]string, error) {
	projects := []string{}
	err := s.list(ctx, &projects, "SELECT project_id FROM volume_type_access WHERE volume_type_id = $1 ORDER BY project_id", id)
	return projects, err
}

// AddTypeProject lets a project see a type: ErrExists if it may already, ErrNotFound if
// there is no such type.
func (s *Store) AddTypeProject(ctx context.Context, id uuid.UUID, project string) error {
	_, err := s.affected(ctx, "INSERT INTO volume_type_access (volume_type_id, project_id) VALUES ($1, $2)", id, project)
	if isInUse(err) { // the foreign key
		err = model.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("access of project %s to volume type %s: %w", project, id, err)
	}
	return nil
}

// RemoveTypeProject takes that back: ErrNotFound if it may not.
func (s *Store) RemoveTypeProject(ctx context.Context, id uuid.UUID, project string) error {
	n, err := s.affected(ctx, "DELETE FROM volume_type_access WHERE volume_type_id = $1 AND project_id = $2", id, project)
	return neededN(n, err, "access of project "+project+" to volume type", id)
}

// DefaultTypes returns the default types of all projects that have one.
func (s *Store) DefaultTypes(ctx context.Context) ([]model.DefaultType, error) {
	var ds []model.DefaultType
	return ds, s.list(ctx, &ds, "SELECT project_id, volume_type_id FROM default_types ORDER BY created_at, project_id")
}

// DefaultType of a project; ErrNotFound if it has none.
func (s *Store) DefaultType(ctx context.Context, project string) (model.DefaultType, error) {
	var ds []model.DefaultType
	err := s.list(ctx, &ds, "SELECT project_id, volume_type_id FROM default_types WHERE project_id = $1", project)
	return one(ds, err, "default type of project", project)
}

// SetDefaultType writes a project's default type; ErrNotFound if there is no such type.
func (s *Store) SetDefaultType(ctx context.Context, d model.DefaultType) error {
	_, err := s.affected(ctx, `INSERT INTO default_types (project_id, volume_type_id) VALUES ($1, $2)
		ON CONFLICT (project_id) DO UPDATE SET volume_type_id = EXCLUDED.volume_type_id`, d.ProjectID, d.VolumeTypeID)
	if isInUse(err) { // the foreign key
		err = model.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("default type of project %s: %w", d.ProjectID, err)
	}
	return nil
}

// UnsetDefaultType makes the configuration's default type that of the project again.
func (s *Store) UnsetDefaultType(ctx context.Context, project string) error {
	_, err := s.affected(ctx, "DELETE FROM default_types WHERE project_id = $1", project)
	return err
}
