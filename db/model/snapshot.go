package model

import (
	"time"

	"github.com/google/uuid"
)

// SnapshotStatus is a snapshot's status, in Cinder's words.
type SnapshotStatus string

// Statuses of a snapshot (cinder/objects/fields.py, SnapshotStatus).
const (
	SnapshotCreating      SnapshotStatus = "creating"
	SnapshotAvailable     SnapshotStatus = "available"
	SnapshotDeleting      SnapshotStatus = "deleting"
	SnapshotError         SnapshotStatus = "error"
	SnapshotErrorDeleting SnapshotStatus = "error_deleting"
	SnapshotUnmanaging    SnapshotStatus = "unmanaging"
	SnapshotBackingUp     SnapshotStatus = "backing-up"
	SnapshotRestoring     SnapshotStatus = "restoring"
)

// Snapshot is one row of table snapshots: what a volume held at one moment. Its data is a
// thin device in the pool of the volume's home; it has none if nothing had been written
// to the volume, and then is what the image is, or zeros.
type Snapshot struct {
	ID              uuid.UUID      `db:"id"`
	VolumeID        uuid.UUID      `db:"volume_id"`
	ProjectID       string         `db:"project_id"`
	UserID          string         `db:"user_id"`
	Name            *string        `db:"name"`
	Description     *string        `db:"description"`
	SizeGiB         int            `db:"size_gib"`
	Status          SnapshotStatus `db:"status"`
	Progress        string         `db:"progress"` // "0%" to "100%"
	Metadata        StringMap      `db:"metadata"`
	GroupSnapshotID *uuid.UUID     `db:"group_snapshot_id"`
	ConsumesQuota   bool           `db:"consumes_quota"`
	Home            *string        `db:"home"`
	ThinID          *int64         `db:"thin_id"`
	SourceThin      *int64         `db:"source_thin"` // the volume's, at that moment
	Materialized    bool           `db:"materialized"`
	Together        *uuid.UUID     `db:"together"` // copies with the same are made at one moment
	// What a volume made from it gets of the one it was taken from.
	ImageID       *uuid.UUID `db:"image_id"`
	VolumeTypeID  *uuid.UUID `db:"volume_type_id"`
	Bootable      bool       `db:"bootable"`
	ImageMetadata StringMap  `db:"image_metadata"`
	Error         *string    `db:"error"` // why status is an error, for users
	CreatedAt     time.Time  `db:"created_at"`
	UpdatedAt     *time.Time `db:"updated_at"`
}

// Bytes is the size of a volume made from it, at least.
func (s *Snapshot) Bytes() int64 { return int64(s.SizeGiB) << 30 }

// SnapshotMove is a guarded change of status: done only if the status is one of From; nil is any.
type SnapshotMove struct {
	From     []SnapshotStatus
	To       SnapshotStatus
	Progress *string // with a percent sign
	Error    *string // set with the new status; nil clears it
}

// SnapshotPatch changes fields of a snapshot that are not nil. The map replaces.
type SnapshotPatch struct {
	Name, Description     *string
	NoName, NoDescription bool // null instead
	Metadata              StringMap
}

// DroppedThin is one row of table dropped_thins.
type DroppedThin struct {
	ID     uuid.UUID `db:"id"`
	Host   string    `db:"host"`
	ThinID int64     `db:"thin_id"`
}
