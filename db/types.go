package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const typeColumns = "t.id, t.name, t.description, t.is_public, t.extra_specs, t.qos_specs_id, t.created_at, t.updated_at"

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
			"created_at":   {sql: "t.created_at", kind: stamp},
			"updated_at":   {sql: "t.updated_at", kind: stamp, nullable: true},
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

// Type returns one type.
func (s *Store) Type(ctx context.Context, id uuid.UUID) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := s.list(ctx, &ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.id = $1", id)
	return one(ts, err, "volume type", id)
}

// TypeByName returns the type of that name if projectID may see it ("" sees all).
func (s *Store) TypeByName(ctx context.Context, name, projectID string) (model.VolumeType, error) {
	var ts []model.VolumeType
	err := s.list(ctx, &ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.name = $1 AND ($2 = '' OR "+fmt.Sprintf(visible, "$2")+")", name, projectID)
	return one(ts, err, "volume type", name)
}

// PutType makes a type (ErrExists if the name is taken) or writes all fields of one that
// is there (ErrNotFound). Without an id a new one gets one.
func (s *Store) PutType(ctx context.Context, t model.VolumeType, create bool) (model.VolumeType, error) {
	query := `UPDATE volume_types AS t SET name = $2, description = $3, is_public = $4, extra_specs = $5, qos_specs_id = $6, updated_at = now()
		WHERE id = $1 RETURNING ` + typeColumns
	if create {
		if t.ID == uuid.Nil {
			t.ID = uuid.New()
		}
		query = `INSERT INTO volume_types AS t (id, name, description, is_public, extra_specs, qos_specs_id) VALUES ($1, $2, $3, $4, $5, $6)
			RETURNING ` + typeColumns
	}
	var ts []model.VolumeType
	err := s.list(ctx, &ts, query, t.ID, t.Name, t.Description, t.IsPublic, t.ExtraSpecs, t.QoSSpecsID)
	if errors.Is(err, model.ErrExists) {
		return model.VolumeType{}, say(model.ErrExists, "Volume Type %s already exists.", t.Name)
	}
	return one(ts, refers(err, "QoS specs"), "volume type", t.Name)
}

// DeleteType: ErrInUse while a volume has it.
func (s *Store) DeleteType(ctx context.Context, id uuid.UUID) error {
	n, err := s.affected(ctx, "DELETE FROM volume_types WHERE id = $1", id)
	if isInUse(err) {
		return say(model.ErrInUse, "Volume Type %s deletion is not allowed with volumes present with the type.", id)
	}
	return neededN(n, err, "volume type", id)
}

// EnsureType returns the public type of that name, made if it was not there.
func (s *Store) EnsureType(ctx context.Context, name string) (model.VolumeType, error) {
	t, err := s.TypeByName(ctx, name, "")
	if !errors.Is(err, model.ErrNotFound) {
		return t, err
	}
	description := "Default Volume Type"
	t, err = s.PutType(ctx, model.VolumeType{Name: name, Description: &description, IsPublic: true}, true)
	if errors.Is(err, model.ErrExists) { // another replica was quicker
		return s.TypeByName(ctx, name, "")
	}
	return t, err
}
