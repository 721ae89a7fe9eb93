package v3test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Types implements v3.Store.
func (s *Store) Types(_ context.Context, q model.ListQuery, isPublic *bool) ([]model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(slices.Clone(s.TypeRows), func(t model.VolumeType) bool {
		hidden := q.ProjectID != "" && !t.IsPublic && !slices.Contains(s.TypeAccessRows[t.ID], q.ProjectID)
		return hidden || isPublic != nil && t.IsPublic != *isPublic
	})
	q.ProjectID = ""
	return list(rows, q, func(t *model.VolumeType) fields {
		return fields{
			id: t.ID, created: t.CreatedAt, maps: map[string]model.StringMap{"extra_specs": t.ExtraSpecs},
			columns: map[string]string{"id": t.ID.String(), "name": t.Name, "description": text(t.Description)},
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

// Type implements v3.Store.
func (s *Store) Type(_ context.Context, id uuid.UUID) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.VolumeType{}, err
	}
	t, err := s.typeBy(func(t *model.VolumeType) bool { return t.ID == id })
	if err != nil {
		return model.VolumeType{}, err
	}
	return *t, nil
}

// TypeByName implements v3.Store.
func (s *Store) TypeByName(_ context.Context, name, projectID string) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.VolumeType{}, err
	}
	t, err := s.typeBy(func(t *model.VolumeType) bool {
		return t.Name == name && (projectID == "" || t.IsPublic || slices.Contains(s.TypeAccessRows[t.ID], projectID))
	})
	if err != nil {
		return model.VolumeType{}, err
	}
	return *t, nil
}

// PutType implements v3.Store.
func (s *Store) PutType(_ context.Context, t model.VolumeType, create bool) (model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return t, err
	}
	if other, err := s.typeBy(func(x *model.VolumeType) bool { return x.Name == t.Name && x.ID != t.ID }); err == nil {
		return t, fmt.Errorf("volume type %s: %w", other.Name, model.ErrExists)
	}
	now := s.tick()
	if create {
		t.CreatedAt = now
		s.TypeRows = append(s.TypeRows, t)
		return t, nil
	}
	old, err := s.typeBy(func(x *model.VolumeType) bool { return x.ID == t.ID })
	if err != nil {
		return t, err
	}
	t.UpdatedAt = &now
	*old = t
	return t, nil
}

// DeleteType implements v3.Store.
func (s *Store) DeleteType(_ context.Context, id uuid.UUID) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.VolumeRows, func(v model.Volume) bool { return v.VolumeTypeID != nil && *v.VolumeTypeID == id }) {
		return fmt.Errorf("volume type %s: %w", id, model.ErrInUse)
	}
	s.TypeRows = slices.DeleteFunc(s.TypeRows, func(t model.VolumeType) bool { return t.ID == id })
	return nil
}

// EnsureType implements v3.Store.
func (s *Store) EnsureType(ctx context.Context, name string) (model.VolumeType, error) {
	if t, err := s.TypeByName(ctx, name, ""); err == nil {
		return t, nil
	}
	return s.PutType(ctx, model.VolumeType{ID: uuid.New(), Name: name, IsPublic: true, ExtraSpecs: model.StringMap{}}, true)
}

// TypeProjects implements v3.TypeAccess.
func (s *Store) TypeProjects(_ context.Context, id uuid.UUID) ([]string, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.TypeAccessRows[id]), err
}

// AddTypeProject implements v3.TypeAccess.
func (s *Store) AddTypeProject(_ context.Context, id uuid.UUID, project string) error {
	unlock, err := s.lock()
	defer unlock()
	if err == nil && slices.Contains(s.TypeAccessRows[id], project) {
		return fmt.Errorf("access of %s: %w", project, model.ErrExists)
	}
	s.TypeAccessRows[id] = append(s.TypeAccessRows[id], project)
	return err
}

// RemoveTypeProject implements v3.TypeAccess.
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

// Nodes implements v3.Store.
func (s *Store) Nodes(context.Context) ([]model.Node, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.NodeRows), err
}

// Services implements v3.Store.
func (s *Store) Services(context.Context) ([]model.Service, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.ServiceRows), err
}

func (s *Store) editNode(host string, edit func(*model.Node)) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	for i := range s.NodeRows {
		if s.NodeRows[i].Host == host {
			edit(&s.NodeRows[i])
			return nil
		}
	}
	return fmt.Errorf("node %s: %w", host, model.ErrNotFound)
}

// SetNodeEnabled implements v3.Store.
func (s *Store) SetNodeEnabled(_ context.Context, host string, enabled bool, reason *string) error {
	return s.editNode(host, func(n *model.Node) { n.Enabled, n.DisabledReason = enabled, reason })
}

// SetNodeFrozen implements v3.Store.
func (s *Store) SetNodeFrozen(_ context.Context, host string, frozen bool) error {
	return s.editNode(host, func(n *model.Node) { n.Frozen = frozen })
}

// ForgetPool implements v3.Store.
func (s *Store) ForgetPool(_ context.Context, host string) error {
	return s.editNode(host, func(n *model.Node) { n.PoolUUID, n.PoolState = "", "" })
}

// Messages implements v3.Store.
func (s *Store) Messages(_ context.Context, q model.ListQuery) ([]model.Message, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(slices.Clone(s.MessageRows), q, func(m *model.Message) fields {
		return fields{id: m.ID, project: m.ProjectID, created: m.CreatedAt, columns: map[string]string{
			"id": m.ID.String(), "event_id": m.EventID, "resource_type": m.ResourceType, "request_id": m.RequestID,
			"message_level": m.Level, "resource_uuid": textOf(m.ResourceUUID),
		}}
	})
}

// Message implements v3.Store.
func (s *Store) Message(_ context.Context, id uuid.UUID, projectID string) (model.Message, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Message{}, err
	}
	for _, m := range s.MessageRows {
		if m.ID == id && (projectID == "" || m.ProjectID == projectID) {
			return m, nil
		}
	}
	return model.Message{}, fmt.Errorf("message %s: %w", id, model.ErrNotFound)
}

// DeleteMessage implements v3.Store.
func (s *Store) DeleteMessage(ctx context.Context, id uuid.UUID, projectID string) error {
	if _, err := s.Message(ctx, id, projectID); err != nil {
		return err
	}
	s.Do(func(s *Store) {
		s.MessageRows = slices.DeleteFunc(s.MessageRows, func(m model.Message) bool { return m.ID == id })
	})
	return nil
}

// Image implements v3.Store.
func (s *Store) Image(_ context.Context, id uuid.UUID) (model.Image, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Image{}, err
	}
	for _, i := range s.ImageRows {
		if i.ID == id {
			return i, nil
		}
	}
	return model.Image{}, fmt.Errorf("image %s: %w", id, model.ErrNotFound)
}

// Images implements v3.Store.
func (s *Store) Images(context.Context) ([]model.Image, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.Clone(s.ImageRows), err
}

// Members implements v3.Store.
func (s *Store) Members(_ context.Context, image uuid.UUID) ([]model.Member, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.DeleteFunc(slices.Clone(s.MemberRows), func(m model.Member) bool { return m.ImageID != image }), err
}
