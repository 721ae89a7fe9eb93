package v3test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

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
			"message_level": m.Level, "resource_uuid": textOf(m.ResourceUUID), "project_id": m.ProjectID,
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

// TasksOf implements v3.Store.
func (s *Store) TasksOf(_ context.Context, volume uuid.UUID) ([]model.Task, error) {
	unlock, err := s.lock()
	defer unlock()
	var out []model.Task
	for _, k := range s.TaskRows {
		if k.VolumeID == volume {
			out = append(out, k)
		}
	}
	return out, err
}
