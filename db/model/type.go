package model

import (
	"time"

	"github.com/google/uuid"
)

// VolumeType is one row of table volume_types.
type VolumeType struct {
	ID          uuid.UUID  `db:"id"`
	Name        string     `db:"name"`
	Description *string    `db:"description"`
	IsPublic    bool       `db:"is_public"`
	ExtraSpecs  StringMap  `db:"extra_specs"`
	QoSSpecsID  *uuid.UUID `db:"qos_specs_id"`
	CreatedAt   time.Time  `db:"created_at"`
	UpdatedAt   *time.Time `db:"updated_at"`
}

// Message is one row of table messages: why something a user asked for failed.
type Message struct {
	ID           uuid.UUID  `db:"id"`
	ProjectID    string     `db:"project_id"`
	RequestID    string     `db:"request_id"`
	ResourceType string     `db:"resource_type"` // VOLUME, …
	ResourceUUID *uuid.UUID `db:"resource_uuid"`
	EventID      string     `db:"event_id"` // VOLUME_VOLUME_001_002: resource, action, detail
	Level        string     `db:"message_level"`
	UserMessage  string     `db:"user_message"`
	CreatedAt    time.Time  `db:"created_at"`
	ExpiresAt    time.Time  `db:"expires_at"`
}

// Service is one row of table services: a replica of the control plane.
type Service struct {
	Host           string    `db:"host"`
	Binary         string    `db:"binary"`
	Disabled       bool      `db:"disabled"`
	DisabledReason *string   `db:"disabled_reason"`
	LastSeen       time.Time `db:"last_seen"`
	CreatedAt      time.Time `db:"created_at"`
}

// JobKind names long work.
type JobKind string

// Kinds of jobs.
const (
	JobImportImage  JobKind = "import-image"  // subject: image id
	JobDeleteVolume JobKind = "delete-volume" // subject: volume id
	JobReleaseImage JobKind = "release-image" // subject: image id; take the tree down when no volume wants it
)

// Job is one row of table jobs.
type Job struct {
	ID         int64      `db:"id"`
	Kind       JobKind    `db:"kind"`
	Subject    string     `db:"subject"`
	Args       JSON       `db:"args"`
	Attempts   int        `db:"attempts"`
	Error      *string    `db:"error"`
	RunAt      time.Time  `db:"run_at"`
	TakenBy    *string    `db:"taken_by"`
	TakenUntil *time.Time `db:"taken_until"`
	CreatedAt  time.Time  `db:"created_at"`
}
