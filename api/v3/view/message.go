package view

import "github.com/vmthunder/vmthunder/db/model"

// Message is why something that a user asked for failed.
func (c Context) Message(m *model.Message) Object {
	o := Object{
		"id": m.ID, "event_id": m.EventID, "user_message": m.UserMessage, "message_level": m.Level,
		"created_at": Time(m.CreatedAt), "guaranteed_until": TimeOrNil(&m.ExpiresAt), "request_id": m.RequestID,
		"links": c.Links("messages", m.ID.String()),
	}
	if m.ResourceType != "" {
		o["resource_type"] = m.ResourceType
	}
	if m.ResourceUUID != nil {
		o["resource_uuid"] = *m.ResourceUUID
	}
	return o
}
