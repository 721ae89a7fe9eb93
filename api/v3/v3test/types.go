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

func (s *Store) sees(project string, t *model.VolumeType) bool {
	return project == "" || t.IsPublic || slices.Contains(s.TypeAccessRows[t.ID], project)
}

// Types implements v3.Store.
func (s *Store) Types(_ context.Context, q model.ListQuery, isPublic *bool) ([]model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(slices.Clone(s.TypeRows), func(t model.VolumeType) bool {
		return !s.sees(q.ProjectID, &t) || isPublic != nil && t.IsPublic != *isPublic
	})
	q.ProjectID = ""
	return list(rows, q, func(t *model.VolumeType) fields {
		return fields{
			id: t.ID, created: t.CreatedAt, maps: map[string]model.StringMap{"extra_specs": t.ExtraSpecs},
			columns: map[string]string{
				"id": t.ID.String(), "name": t.Name, "description": text(t.Description), "is_public": strconv.FormatBool(t.IsPublic),
				"qos_specs_id": textOf(t.QoSSpecsID), "zones": t.ExtraSpecs["RESKEY:availability_zones"],
			},
		}
	})
}

func (s *Store) typeBy(is func(*model.VolumeType) bool) (*model.VolumeType, error) {
	for i := range s.TypeRows {
		if is(&s.TypeRows[i]) {
			return &s.TypeRows[i], nil
		}
	}
	return nil, fmt.Errorf("volume type: %w", model.ErrNotFound)
}

func (s *Store) typeByID(id uuid.UUID) (*model.VolumeType, error) {
	return s.typeBy(func(t *model.VolumeType) bool { return t.ID == id })
}

func (s *Store) oneType(is func(*model.VolumeType) bool) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.VolumeType{}, err
	}
	t, err := s.typeBy(is)
	if err != nil {
		return model.VolumeType{}, err
	}
	c := *t
	c.ExtraSpecs, c.Encrypted = maps.Clone(t.ExtraSpecs), s.encryption(t.ID) >= 0
	return c, nil
}

// Type implements v3.Store.
func (s *Store) Type(_ context.Context, id uuid.UUID, projectID string) (model.VolumeType, error) {
	return s.oneType(func(t *model.VolumeType) bool { return t.ID == id && s.sees(projectID, t) })
}

// TypeByName implements v3.Store.
func (s *Store) TypeByName(_ context.Context, name, projectID string) (model.VolumeType, error) {
	return s.oneType(func(t *model.VolumeType) bool { return t.Name == name && s.sees(projectID, t) })
}

// DefaultTypeOf implements v3.Store.
func (s *Store) DefaultTypeOf(_ context.Context, projectID, name string) (model.VolumeType, error) {
	return s.oneType(func(t *model.VolumeType) bool {
		for _, d := range s.DefaultRows {
			if d.ProjectID == projectID {
				return t.ID == d.VolumeTypeID
			}
		}
		return t.Name == name
	})
}

func (s *Store) named(name string, id uuid.UUID) error {
	if slices.ContainsFunc(s.TypeRows, func(t model.VolumeType) bool { return t.Name == name && t.ID != id }) {
		return said{model.ErrExists, "Volume Type " + name + " already exists."}
	}
	return nil
}

// said is an error of a kind, with words for users, as those of package db.
type said struct {
	kind error
	text string
}

func (e said) Error() string { return e.text }
func (e said) Unwrap() error { return e.kind }

// CreateType implements v3.Store.
func (s *Store) CreateType(_ context.Context, t model.VolumeType) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		err = s.named(t.Name, t.ID)
	}
	if err != nil {
		return t, err
	}
	t.CreatedAt = s.tick()
	s.TypeRows = append(s.TypeRows, t)
	return t, nil
}

// editType changes a type; unused ones only, if it says so.
func (s *Store) editType(id uuid.UUID, unused bool, edit func(t *model.VolumeType) error) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.VolumeType{}, err
	}
	t, err := s.typeByID(id)
	switch {
	case err != nil:
		return model.VolumeType{}, err
	case unused && s.used(id):
		return *t, said{model.ErrInUse, "Volume Type is currently in use."}
	}
	c := *t
	c.ExtraSpecs = maps.Clone(t.ExtraSpecs)
	if c.ExtraSpecs == nil {
		c.ExtraSpecs = model.StringMap{}
	}
	if err := edit(&c); err != nil {
		return *t, err
	}
	now := s.tick()
	c.UpdatedAt = &now
	*t = c
	return c, nil
}

func (s *Store) used(id uuid.UUID) bool {
	return slices.ContainsFunc(s.VolumeRows, func(v model.Volume) bool { return v.VolumeTypeID != nil && *v.VolumeTypeID == id })
}

// UpdateType implements v3.Store.
func (s *Store) UpdateType(_ context.Context, id uuid.UUID, p model.TypePatch) (model.VolumeType, error) {
	return s.editType(id, false, func(t *model.VolumeType) error {
		if p.Name != nil {
			if err := s.named(*p.Name, id); err != nil {
				return err
			}
			t.Name = *p.Name
		}
		if p.IsPublic != nil {
			t.IsPublic = *p.IsPublic
		}
		set(&t.Description, p.Description)
		return nil
	})
}

// EditExtraSpecs implements v3.Store.
func (s *Store) EditExtraSpecs(_ context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.VolumeType, error) {
	return s.editType(id, true, func(t *model.VolumeType) error { return edit(t.ExtraSpecs) })
}

// DeleteType implements v3.Store.
func (s *Store) DeleteType(_ context.Context, id uuid.UUID) error {
	unlock, err := s.lock()
	defer unlock()
	switch {
	case err != nil:
		return err
	case s.used(id):
		return fmt.Errorf("volume type %s: %w", id, model.ErrInUse)
	case slices.ContainsFunc(s.DefaultRows, func(d model.DefaultType) bool { return d.VolumeTypeID == id }):
		return fmt.Errorf("volume type %s: %w", id, model.ErrConflict)
	}
	s.TypeRows = slices.DeleteFunc(s.TypeRows, func(t model.VolumeType) bool { return t.ID == id })
	s.EncryptionRows = slices.DeleteFunc(s.EncryptionRows, func(e model.Encryption) bool { return e.VolumeTypeID == id })
	return nil
}

// TypeProjects implements v3.Store.
func (s *Store) TypeProjects(_ context.Context, id uuid.UUID) ([]string, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.TypeAccessRows[id]), err
}

// AddTypeProject implements v3.Store.
func (s *Store) AddTypeProject(_ context.Context, id uuid.UUID, project string) error {
	unlock, err := s.lock()
	defer unlock()
	if err == nil && slices.Contains(s.TypeAccessRows[id], project) {
		return fmt.Errorf("access of %s: %w", project, model.ErrExists)
	}
	s.TypeAccessRows[id] = append(s.TypeAccessRows[id], project)
	return err
}

// RemoveTypeProject implements v3.Store.
func (s *Store) RemoveTypeProject(_ context.Context, id uuid.UUID, project string) error {
	unlock, err := s.lock()
	defer unlock()
	i := slices.Index(s.TypeAccessRows[id], project)
	if i < 0 {
		return fmt.Errorf("access of %s: %w", project, model.ErrNotFound)
	}
	s.TypeAccessRows[id] = slices.Delete(s.TypeAccessRows[id], i, i+1)
	return err
}

func (s *Store) encryption(id uuid.UUID) int {
	return slices.IndexFunc(s.EncryptionRows, func(e model.Encryption) bool { return e.VolumeTypeID == id })
}

// TypeEncryption implements v3.Store.
func (s *Store) TypeEncryption(_ context.Context, volumeType uuid.UUID) (model.Encryption, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Encryption{}, err
	}
	if i := s.encryption(volumeType); i >= 0 {
		return s.EncryptionRows[i], nil
	}
	return model.Encryption{}, fmt.Errorf("encryption of volume type %s: %w", volumeType, model.ErrNotFound)
}

// CreateEncryption implements v3.Store.
func (s *Store) CreateEncryption(_ context.Context, e model.Encryption) (model.Encryption, error) {
	_, err := s.editType(e.VolumeTypeID, true, func(*model.VolumeType) error {
		if s.encryption(e.VolumeTypeID) >= 0 {
			return fmt.Errorf("encryption of volume type %s: %w", e.VolumeTypeID, model.ErrExists)
		}
		e.CreatedAt = s.tick()
		s.EncryptionRows = append(s.EncryptionRows, e)
		return nil
	})
	return e, err
}

// UpdateEncryption implements v3.Store.
func (s *Store) UpdateEncryption(_ context.Context, volumeType uuid.UUID, p model.EncryptionPatch) error {
	_, err := s.editType(volumeType, true, func(*model.VolumeType) error {
		i := s.encryption(volumeType)
		if i < 0 {
			return fmt.Errorf("encryption of volume type %s: %w", volumeType, model.ErrNotFound)
		}
		e, now := &s.EncryptionRows[i], s.tick()
		e.UpdatedAt = &now
		if p.Provider != nil {
			e.Provider = *p.Provider
		}
		if p.ControlLocation != nil {
			e.ControlLocation = *p.ControlLocation
		}
		if p.SetCipher {
			e.Cipher = p.Cipher
		}
		if p.SetKeySize {
			e.KeySize = p.KeySize
		}
		return nil
	})
	return err
}

// DeleteEncryption implements v3.Store.
func (s *Store) DeleteEncryption(_ context.Context, volumeType uuid.UUID) error {
	_, err := s.editType(volumeType, true, func(*model.VolumeType) error {
		i := s.encryption(volumeType)
		if i < 0 {
			return fmt.Errorf("encryption of volume type %s: %w", volumeType, model.ErrNotFound)
		}
		s.EncryptionRows = slices.Delete(s.EncryptionRows, i, i+1)
		return nil
	})
	return err
}

// DefaultTypes implements v3.Store.
func (s *Store) DefaultTypes(context.Context) ([]model.DefaultType, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.DefaultRows), err
}

// DefaultType implements v3.Store.
func (s *Store) DefaultType(_ context.Context, project string) (model.DefaultType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.DefaultType{}, err
	}
	for _, d := range s.DefaultRows {
		if d.ProjectID == project {
			return d, nil
		}
	}
	return model.DefaultType{}, fmt.Errorf("default type of %s: %w", project, model.ErrNotFound)
}

// SetDefaultType implements v3.Store.
func (s *Store) SetDefaultType(ctx context.Context, d model.DefaultType) error {
	if err := s.UnsetDefaultType(ctx, d.ProjectID); err != nil {
		return err
	}
	s.Do(func(s *Store) { s.DefaultRows = append(s.DefaultRows, d) })
	return nil
}

// UnsetDefaultType implements v3.Store.
func (s *Store) UnsetDefaultType(_ context.Context, project string) error {
	unlock, err := s.lock()
	defer unlock()
	s.DefaultRows = slices.DeleteFunc(s.DefaultRows, func(d model.DefaultType) bool { return d.ProjectID == project })
	return err
}
