package v3test

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// ListQoS implements v3.Store.
func (s *Store) ListQoS(_ context.Context, q model.ListQuery) ([]model.QoS, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return list(slices.Clone(s.QoSRows), q, func(q *model.QoS) fields {
		return fields{id: q.ID, created: q.CreatedAt, columns: map[string]string{"id": q.ID.String(), "name": q.Name}}
	})
}

func (s *Store) qos(id uuid.UUID) (*model.QoS, error) {
	for i := range s.QoSRows {
		if s.QoSRows[i].ID == id {
			return &s.QoSRows[i], nil
		}
	}
	return nil, fmt.Errorf("QoS specs %s: %w", id, model.ErrNotFound)
}

// QoS implements v3.Store.
func (s *Store) QoS(_ context.Context, id uuid.UUID) (model.QoS, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.QoS{}, err
	}
	q, err := s.qos(id)
	if err != nil {
		return model.QoS{}, err
	}
	return *q, nil
}

// CreateQoS implements v3.Store.
func (s *Store) CreateQoS(_ context.Context, q model.QoS) (model.QoS, error) {
	unlock, err := s.lock()
	defer unlock()
	if err == nil && slices.ContainsFunc(s.QoSRows, func(x model.QoS) bool { return x.Name == q.Name }) {
		err = said{model.ErrExists, "QoS Specs " + q.Name + " already exists."}
	}
	if err != nil {
		return q, err
	}
	q.CreatedAt = s.tick()
	s.QoSRows = append(s.QoSRows, q)
	return q, nil
}

// EditQoS implements v3.Store.
func (s *Store) EditQoS(_ context.Context, id uuid.UUID, edit func(*model.QoS) error) (model.QoS, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.QoS{}, err
	}
	q, err := s.qos(id)
	if err != nil {
		return model.QoS{}, err
	}
	c := *q
	c.Specs = maps.Clone(q.Specs)
	if err := edit(&c); err != nil {
		return *q, err
	}
	*q = c
	return c, nil
}

// DeleteQoS implements v3.Store.
func (s *Store) DeleteQoS(ctx context.Context, id uuid.UUID, force bool) error {
	if force {
		if err := s.DisassociateQoS(ctx, id, nil); err != nil {
			return err
		}
	}
	types, err := s.QoSTypes(ctx, id)
	if err != nil {
		return err
	}
	if len(types) > 0 {
		return fmt.Errorf("QoS specs %s: %w", id, model.ErrInUse)
	}
	s.Do(func(s *Store) { s.QoSRows = slices.DeleteFunc(s.QoSRows, func(q model.QoS) bool { return q.ID == id }) })
	return nil
}

// QoSTypes implements v3.Store.
func (s *Store) QoSTypes(_ context.Context, id uuid.UUID) ([]model.VolumeType, error) {
	unlock, err := s.lock()
	defer unlock()
	return slices.DeleteFunc(slices.Clone(s.TypeRows), func(t model.VolumeType) bool { return t.QoSSpecsID == nil || *t.QoSSpecsID != id }), err
}

// AssociateQoS implements v3.Store.
func (s *Store) AssociateQoS(_ context.Context, id, volumeType uuid.UUID) error {
	_, err := s.editType(volumeType, false, func(t *model.VolumeType) error {
		if t.QoSSpecsID != nil && *t.QoSSpecsID != id {
			return said{model.ErrConflict, fmt.Sprintf("Type %s is already associated with another qos specs: %s", volumeType, *t.QoSSpecsID)}
		}
		t.QoSSpecsID = &id
		return nil
	})
	return err
}

// DisassociateQoS implements v3.Store.
func (s *Store) DisassociateQoS(_ context.Context, id uuid.UUID, volumeType *uuid.UUID) error {
	unlock, err := s.lock()
	defer unlock()
	for i := range s.TypeRows {
		t := &s.TypeRows[i]
		if t.QoSSpecsID != nil && *t.QoSSpecsID == id && (volumeType == nil || t.ID == *volumeType) {
			t.QoSSpecsID = nil
		}
	}
	return err
}
