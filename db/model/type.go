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
	Encrypted   bool       `db:"encrypted"` // there is an [Encryption] of it; never written
}

// Is tells whether an extra spec is a boolean of Cinder's that is true: "<is> True".
func (t *VolumeType) Is(spec string) bool { return t.ExtraSpecs[spec] == "<is> True" }

// TypePatch changes fields of a volume type that are not nil.
type TypePatch struct {
	Name, Description *string
	IsPublic          *bool
}

// Encryption is one row of table volume_type_encryption: how volumes of a type are encrypted.
type Encryption struct {
	VolumeTypeID    uuid.UUID  `db:"volume_type_id"`
	ID              uuid.UUID  `db:"id"`
	Provider        string     `db:"provider"`         // luks, luks2, plain, or a class name of os-brick
	ControlLocation string     `db:"control_location"` // front-end (Nova) or back-end
	Cipher          *string    `db:"cipher"`           // aes-xts-plain64
	KeySize         *int       `db:"key_size"`         // bits
	CreatedAt       time.Time  `db:"created_at"`
	UpdatedAt       *time.Time `db:"updated_at"`
}

// EncryptionPatch changes fields of an encryption that are not nil; the two that may be
// null are written if their Set is true.
type EncryptionPatch struct {
	Provider, ControlLocation *string
	SetCipher                 bool
	Cipher                    *string
	SetKeySize                bool
	KeySize                   *int
}

// DefaultType is one row of table default_types.
type DefaultType struct {
	ProjectID    string    `db:"project_id"`
	VolumeTypeID uuid.UUID `db:"volume_type_id"`
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
	JobReleaseImage JobKind = "release-image" // subject: image id; take the tree down when no volume wants it
	JobTellExtended JobKind = "tell-extended" // subject: volume id; the instances that have it are told
	JobTellReimaged JobKind = "tell-reimaged" // subject: volume id
	JobAbandonImage JobKind = "abandon-image" // subject: image id; what an upload that failed has left
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
