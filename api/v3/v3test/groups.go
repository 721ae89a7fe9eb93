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

func (s *Store) groupTypeBy(is func(*model.GroupType) bool) (*model.GroupType, error) {
	for i := range s.GroupTypeRows {
		if is(&s.GroupTypeRows[i]) {
			return &s.GroupTypeRows[i], nil
		}
	}
	return nil, fmt.Errorf("group type: %w", model.ErrNotFound)
}

func (s *Store) groupTypeByID(id uuid.UUID) (*model.GroupType, error) {
	return s.groupTypeBy(func(y *model.GroupType) bool { return y.ID == id })
}

func copyOfGroupType(y *model.GroupType) model.GroupType {
	c := *y
	c.Specs = maps.Clone(y.Specs)
	return c
}

// GroupTypes implements v3.Store.
func (s *Store) GroupTypes(_ context.Context, q model.ListQuery) ([]model.GroupType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(s.GroupTypeRows, q, func(y *model.GroupType) fields {
		return fields{id: y.ID, created: y.CreatedAt, columns: map[string]string{
			"id": y.ID.String(), "name": y.Name, "description": text(y.Description), "is_public": strconv.FormatBool(y.IsPublic),
		}}
	})
}

func (s *Store) oneGroupType(is func(*model.GroupType) bool) (model.GroupType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.GroupType{}, err
	}
	y, err := s.groupTypeBy(is)
	if err != nil {
		return model.GroupType{}, err
	}
	return copyOfGroupType(y), nil
}

// GroupType implements v3.Store.
func (s *Store) GroupType(_ context.Context, id uuid.UUID, all bool) (model.GroupType, error) {
	return s.oneGroupType(func(y *model.GroupType) bool { return y.ID == id && (all || y.IsPublic) })
}

// GroupTypeByName implements v3.Store.
func (s *Store) GroupTypeByName(_ context.Context, name string, all bool) (model.GroupType, error) {
	return s.oneGroupType(func(y *model.GroupType) bool { return y.Name == name && (all || y.IsPublic) })
}

func (s *Store) groupTypeNamed(name string, id uuid.UUID) error {
	if slices.ContainsFunc(s.GroupTypeRows, func(y model.GroupType) bool { return y.Name == name && y.ID != id }) {
		return said{model.ErrExists, "Group Type " + name + " already exists."}
	}
	return nil
}

// CreateGroupType implements v3.Store.
func (s *Store) CreateGroupType(_ context.Context, y model.GroupType) (model.GroupType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		err = s.groupTypeNamed(y.Name, y.ID)
	}
	if err != nil {
		return y, err
	}
	y.CreatedAt = s.tick()
	s.GroupTypeRows = append(s.GroupTypeRows, copyOfGroupType(&y))
	return y, nil
}

func (s *Store) editGroupType(id uuid.UUID, edit func(y *model.GroupType) error) (model.GroupType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.GroupType{}, err
	}
	y, err := s.groupTypeByID(id)
	if err != nil {
		return model.GroupType{}, err
	}
	c := copyOfGroupType(y)
	if c.Specs == nil {
		c.Specs = model.StringMap{}
	}
	if err := edit(&c); err != nil {
		return c, err
	}
	t := s.tick()
	c.UpdatedAt = &t
	*y = c
	return copyOfGroupType(y), nil
}

// UpdateGroupType implements v3.Store.
func (s *Store) UpdateGroupType(_ context.Context, id uuid.UUID, p model.GroupTypePatch) (model.GroupType, error) {
	return s.editGroupType(id, func(y *model.GroupType) error {
		if p.Name != nil {
			if err := s.groupTypeNamed(*p.Name, id); err != nil {
				return err
			}
			y.Name = *p.Name
		}
		set(&y.Description, p.Description)
		if p.IsPublic != nil {
			y.IsPublic = *p.IsPublic
		}
		return nil
	})
}

// EditGroupSpecs implements v3.Store.
func (s *Store) EditGroupSpecs(_ context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.GroupType, error) {
	return s.editGroupType(id, func(y *model.GroupType) error { return edit(y.Specs) })
}

// DeleteGroupType implements v3.Store.
func (s *Store) DeleteGroupType(_ context.Context, id uuid.UUID) error {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		_, err = s.groupTypeByID(id)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.GroupRows, func(g model.Group) bool { return g.GroupTypeID == id }) {
		return said{model.ErrInUse, "Group Type " + id.String() + " deletion is not allowed with groups present with the type."}
	}
	s.GroupTypeRows = slices.DeleteFunc(s.GroupTypeRows, func(y model.GroupType) bool { return y.ID == id })
	return nil
}

func (s *Store) group(id uuid.UUID) (*model.Group, error) {
	for i := range s.GroupRows {
		if s.GroupRows[i].ID == id {
			return &s.GroupRows[i], nil
		}
	}
	return nil, fmt.Errorf("group %s: %w", id, model.ErrNotFound)
}

// copyOfGroup is a row with what is joined to it.
func (s *Store) copyOfGroup(g *model.Group) model.Group {
	c := *g
	c.VolumeTypes, c.Volumes = slices.Clone(g.VolumeTypes), model.IDs{}
	if y, err := s.groupTypeByID(g.GroupTypeID); err == nil {
		c.Specs, c.Legacy = maps.Clone(y.Specs), y.Name == model.LegacyGroupType
	}
	for _, v := range s.members(g.ID) {
		c.Volumes = append(c.Volumes, v.ID)
	}
	return c
}

// members are copies of a group's volumes, the oldest first.
func (s *Store) members(group uuid.UUID) []model.Volume {
	var out []model.Volume
	for i := range s.VolumeRows {
		if v := &s.VolumeRows[i]; v.GroupID != nil && *v.GroupID == group {
			out = append(out, s.copyOf(v))
		}
	}
	return out
}

// ListGroups implements v3.Store.
func (s *Store) ListGroups(_ context.Context, q model.ListQuery) ([]model.Group, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := make([]model.Group, 0, len(s.GroupRows))
	for i := range s.GroupRows {
		rows = append(rows, s.copyOfGroup(&s.GroupRows[i]))
	}
	return list(rows, q, func(g *model.Group) fields {
		return fields{id: g.ID, project: g.ProjectID, created: g.CreatedAt, columns: map[string]string{
			"id": g.ID.String(), "project_id": g.ProjectID, "user_id": g.UserID, "name": text(g.Name), "description": text(g.Description),
			"status": string(g.Status), "availability_zone": text(g.AvailabilityZone), "group_type_id": g.GroupTypeID.String(),
			"group_snapshot_id": textOf(g.GroupSnapshotID), "source_group_id": textOf(g.SourceGroupID), "legacy": strconv.FormatBool(g.Legacy),
			"updated_at": stamp(g.UpdatedAt),
		}}
	})
}

// Group implements v3.Store.
func (s *Store) Group(_ context.Context, id uuid.UUID, projectID string) (model.Group, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Group{}, err
	}
	g, err := s.group(id)
	if err == nil && projectID != "" && g.ProjectID != projectID {
		err = fmt.Errorf("group %s: %w", id, model.ErrNotFound)
	}
	if err != nil {
		return model.Group{}, err
	}
	return s.copyOfGroup(g), nil
}

// CreateGroup implements v3.Store.
func (s *Store) CreateGroup(_ context.Context, g model.Group) (model.Group, error) {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		err = model.CheckQuota(s.limits(s.QuotaRows[g.ProjectID]), s.usage(g.ProjectID), []model.Claim{model.GroupClaim()})
	}
	if err != nil {
		return g, err
	}
	return s.addGroup(g), nil
}

func (s *Store) addGroup(g model.Group) model.Group {
	g.Status, g.CreatedAt = model.GroupAvailable, s.tick()
	s.GroupRows = append(s.GroupRows, g)
	return s.copyOfGroup(&g)
}

// UpdateGroup implements v3.Store.
func (s *Store) UpdateGroup(_ context.Context, id uuid.UUID, p model.GroupPatch) (model.Group, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Group{}, err
	}
	g, err := s.group(id)
	if err != nil {
		return model.Group{}, err
	}
	full, others := s.copyOfGroup(g), map[string]model.Volume{}
	for i := range s.VolumeRows {
		if v := &s.VolumeRows[i]; v.GroupID == nil || *v.GroupID != id {
			others[v.ID.String()] = s.copyOf(v)
		}
	}
	add, remove, err := full.Edit(p, s.members(id), others)
	if err != nil {
		return full, err
	}
	for i := range s.VolumeRows {
		switch v := &s.VolumeRows[i]; {
		case slices.Contains(add, v.ID):
			v.GroupID = &full.ID
		case slices.Contains(remove, v.ID):
			v.GroupID = nil
		}
	}
	set(&g.Name, p.Name)
	set(&g.Description, p.Description)
	t := s.tick()
	g.Status, g.UpdatedAt = model.GroupAvailable, &t
	return s.copyOfGroup(g), nil
}

// ResetGroup implements v3.Store.
func (s *Store) ResetGroup(_ context.Context, id uuid.UUID, status model.GroupStatus) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	g, err := s.group(id)
	if err == nil {
		t := s.tick()
		g.Status, g.UpdatedAt = status, &t
	}
	return err
}
