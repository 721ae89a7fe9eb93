// Package wire puts the parts together that must not know each other.
package wire

import (
	"context"

	"github.com/google/uuid"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// schedulerStore is the database as the scheduler sees it: its methods are the store's
// own, but for those that mean something else there, or name the scheduler's types.
type schedulerStore struct{ *db.Store }

func (s schedulerStore) Volume(ctx context.Context, id uuid.UUID) (model.Volume, error) {
	return s.Store.Volume(ctx, id, "")
}

func (s schedulerStore) Attachment(ctx context.Context, id uuid.UUID) (model.Attachment, model.Volume, error) {
	return s.AttachmentVolume(ctx, id)
}

func (s schedulerStore) Tx(ctx context.Context, fn func(t scheduler.Tx) error) error {
	return s.Store.Tx(ctx, func(t *db.Tx) error { return fn(t) })
}

// SchedulerStore is the database for the scheduler.
func SchedulerStore(s *db.Store) scheduler.Store { return schedulerStore{s} }

// APIStore is the database for the REST API.
func APIStore(s *db.Store) v3.Store { return s }
