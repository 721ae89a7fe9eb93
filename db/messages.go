package db

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/vmthunder/vmthunder/db/model"
)

// Events of the messages that this package writes by itself.
const (
	msgNoSpace model.Event = "VOLUME_VOLUME_005_007" // copy image to volume: it exceeds the available space
	msgLost    model.Event = "VOLUME_VOLUME_002_021" // attach volume: failed
)

const messageColumns = `m.id, m.project_id, m.request_id, m.resource_type, m.resource_uuid, m.event_id, m.message_level,
	m.user_message, m.created_at, m.expires_at`

func messages() lister {
	return lister{
		selects: messageColumns, from: " FROM messages m", id: "m.id", project: "m.project_id",
		columns: map[string]column{
			"id":            {sql: "m.id", kind: id},
			"project_id":    {sql: "m.project_id"},
			"resource_uuid": {sql: "m.resource_uuid", kind: id, nullable: true},
			"resource_type": {sql: "m.resource_type"},
			"event_id":      {sql: "m.event_id"},
			"request_id":    {sql: "m.request_id"},
			"message_level": {sql: "m.message_level"},
			"created_at":    {sql: "m.created_at", kind: stamp},
			"expires_at":    {sql: "m.expires_at", kind: stamp},
		},
	}
}

// AddMessage records why something a user asked for failed. Level defaults to ERROR, the
// times to now and 30 days from now.
func (s *Store) AddMessage(ctx context.Context, m model.Message) error {
	return addMessage(ctx, s.db, m)
}

// AddMessage is the store's, in the transaction.
func (t *Tx) AddMessage(m model.Message) error { return addMessage(t.ctx, t.q, m) }

func addMessage(ctx context.Context, q sqlx.ExecerContext, m model.Message) error {
	if m.ID == uuid.Nil {
		m.ID = uuid.New()
	}
	def(&m.Level, "ERROR")
	_, err := q.ExecContext(ctx, `INSERT INTO messages
		(id, project_id, request_id, resource_type, resource_uuid, event_id, message_level, user_message, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, COALESCE($9, now()), COALESCE($10, now() + interval '30 days'))`,
		m.ID, m.ProjectID, m.RequestID, m.ResourceType, m.ResourceUUID, m.EventID, m.Level, m.UserMessage,
		orNull(m.CreatedAt, m.CreatedAt.IsZero()), orNull(m.ExpiresAt, m.ExpiresAt.IsZero()))
	if err != nil {
		return fmt.Errorf("message for project %s: %w", m.ProjectID, translate(ctx, err))
	}
	return nil
}

func orNull(v any, null bool) any {
	if null {
		return nil
	}
	return v
}

// Messages returns a page of messages that have not expired.
func (s *Store) Messages(ctx context.Context, q model.ListQuery) ([]model.Message, error) {
	var ms []model.Message
	return ms, s.rows(ctx, &ms, messages(), q, func(p *page) { p.where = append(p.where, "m.expires_at > now()") })
}

// Message returns one message; projectID "" sees all.
func (s *Store) Message(ctx context.Context, id uuid.UUID, projectID string) (model.Message, error) {
	var ms []model.Message
	err := s.list(ctx, &ms, "SELECT "+messageColumns+" FROM messages m WHERE m.id = $1 AND ($2 = '' OR m.project_id = $2) AND m.expires_at > now()", id, projectID)
	return one(ms, err, "message", id)
}

// DeleteMessage removes one message; projectID "" sees all.
func (s *Store) DeleteMessage(ctx context.Context, id uuid.UUID, projectID string) error {
	n, err := s.affected(ctx, "DELETE FROM messages WHERE id = $1 AND ($2 = '' OR project_id = $2)", id, projectID)
	return neededN(n, err, "message", id)
}

// PurgeMessages removes expired messages and returns how many there were.
func (s *Store) PurgeMessages(ctx context.Context) (int64, error) {
	return s.affected(ctx, "DELETE FROM messages WHERE expires_at <= now()")
}
