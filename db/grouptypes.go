package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const groupTypeColumns = "y.id, y.name, y.description, y.is_public, y.group_specs, y.created_at, y.updated_at"

func groupTypes() lister {
	return lister{
		selects: groupTypeColumns, from: " FROM group_types y", id: "y.id",
		columns: map[string]column{
			"id":          {sql: "y.id", kind: id},
			"name":        {sql: "y.name"},
			"description": {sql: "y.description", nullable: true},
			"is_public":   {sql: "y.is_public", kind: boolean},
			"created_at":  {sql: "y.created_at", kind: stamp},
			"updated_at":  {sql: "y.updated_at", kind: stamp, nullable: true},
		},
	}
}

// GroupTypes returns a page of group types. Nobody is given private ones: only those who see
// all do.
func (s *Store) GroupTypes(ctx context.Context, q model.ListQuery) ([]model.GroupType, error) {
	var ys []model.GroupType
	return ys, s.rows(ctx, &ys, groupTypes(), q)
}

// GroupType returns one; private ones too if all.
func (s *Store) GroupType(ctx context.Context, id uuid.UUID, all bool) (model.GroupType, error) {
	var ys []model.GroupType
	err := s.list(ctx, &ys, "SELECT "+groupTypeColumns+" FROM group_types y WHERE y.id = $1 AND ($2 OR y.is_public)", id, all)
	return one(ys, err, "group type", id)
}

// GroupTypeByName returns the type of that name; private ones too if all.
func (s *Store) GroupTypeByName(ctx context.Context, name string, all bool) (model.GroupType, error) {
	var ys []model.GroupType
	err := s.list(ctx, &ys, "SELECT "+groupTypeColumns+" FROM group_types y WHERE y.name = $1 AND ($2 OR y.is_public)", name, all)
	return one(ys, err, "group type", name)
}

// CreateGroupType makes one; ErrExists if the name is taken. Without an id it gets one.
func (s *Store) CreateGroupType(ctx context.Context, y model.GroupType) (model.GroupType, error) {
	if y.ID == uuid.Nil {
		y.ID = uuid.New()
	}
	var ys []model.GroupType
	err := s.list(ctx, &ys, `INSERT INTO group_types AS y (id, name, description, is_public, group_specs) VALUES ($1, $2, $3, $4, $5)
		RETURNING `+groupTypeColumns, y.ID, y.Name, y.Description, y.IsPublic, y.Specs)
	if errors.Is(err, model.ErrExists) {
		return y, groupTypeExists(y.Name)
	}
	return one(ys, err, "group type", y.Name)
}

func groupTypeExists(name string) error {
	return say(model.ErrExists, "Group Type %s already exists.", name)
}

// UpdateGroupType writes the fields of p that are set; ErrExists if the name is taken.
func (s *Store) UpdateGroupType(ctx context.Context, id uuid.UUID, p model.GroupTypePatch) (model.GroupType, error) {
	var ys []model.GroupType
	err := s.list(ctx, &ys, `UPDATE group_types AS y SET name = COALESCE($2, name), description = COALESCE($3, description),
		is_public = COALESCE($4, is_public), updated_at = now() WHERE id = $1 RETURNING `+groupTypeColumns, id, p.Name, p.Description, p.IsPublic)
	if errors.Is(err, model.ErrExists) {
		return model.GroupType{}, groupTypeExists(*p.Name)
	}
	return one(ys, err, "group type", id)
}

// EditGroupSpecs changes a type's specs by a function that changes the map in place; it may
// be called more than once, and its error is returned as it is.
func (s *Store) EditGroupSpecs(ctx context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.GroupType, error) {
	var out model.GroupType
	err := s.Tx(ctx, func(t *Tx) error {
		var ys []model.GroupType
		err := t.list(&ys, "SELECT "+groupTypeColumns+" FROM group_types y WHERE y.id = $1 FOR NO KEY UPDATE", id)
		y, err := one(ys, err, "group type", id)
		if err != nil {
			return err
		}
		if y.Specs == nil {
			y.Specs = model.StringMap{}
		}
		if err := edit(y.Specs); err != nil {
			return err
		}
		out = y
		return t.exec("UPDATE group_types SET group_specs = $2, updated_at = now() WHERE id = $1", id, y.Specs)
	})
	return out, err
}

// DeleteGroupType removes a type; ErrInUse while a group has it.
func (s *Store) DeleteGroupType(ctx context.Context, id uuid.UUID) error {
	n, err := s.affected(ctx, "DELETE FROM group_types WHERE id = $1", id)
	if isInUse(err) {
		return say(model.ErrInUse, "Group Type %s deletion is not allowed with groups present with the type.", id)
	}
	if err := neededN(n, err, "group type", id); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}
