package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// BackupStatus is a backup's status, in Cinder's words.
type BackupStatus string

// Statuses of a backup (cinder/objects/fields.py, BackupStatus).
const (
	BackupCreating      BackupStatus = "creating"
	BackupAvailable     BackupStatus = "available"
	BackupRestoring     BackupStatus = "restoring"
	BackupDeleting      BackupStatus = "deleting"
	BackupError         BackupStatus = "error"
	BackupErrorDeleting BackupStatus = "error_deleting"
)

// Backup is one row of table backups: what a volume held at one moment, kept in a store
// that nodes reach. Where it is there follows from Container and ID. A backup with a parent
// needs that, and its parents, to be restored.
type Backup struct {
	ID               uuid.UUID    `db:"id"`
	ProjectID        string       `db:"project_id"`
	UserID           string       `db:"user_id"`
	Name             *string      `db:"name"`
	Description      *string      `db:"description"`
	SizeGiB          int          `db:"size_gib"` // of the volume
	Status           BackupStatus `db:"status"`
	VolumeID         uuid.UUID    `db:"volume_id"`
	SnapshotID       *uuid.UUID   `db:"snapshot_id"` // that it was taken of
	ParentID         *uuid.UUID   `db:"parent_id"`   // that it is an increment of
	Container        *string      `db:"container"`
	AvailabilityZone *string      `db:"availability_zone"`
	ObjectCount      int          `db:"object_count"` // chunks that it has stored itself
	FailReason       *string      `db:"fail_reason"`
	RestoreVolumeID  *uuid.UUID   `db:"restore_volume_id"` // the last one it was restored to
	Metadata         StringMap    `db:"metadata"`
	Source           JSON         `db:"source"`         // a [BackupSource]
	DataTimestamp    time.Time    `db:"data_timestamp"` // of the volume's data
	CreatedAt        time.Time    `db:"created_at"`
	UpdatedAt        *time.Time   `db:"updated_at"`
	HasDependents    bool         `db:"has_dependents"` // increments that are whole; never written
}

// BackupSource is what a volume that a backup is restored to gets of the one it was taken of.
type BackupSource struct {
	Bootable      bool      `json:"bootable,omitempty"`
	Metadata      StringMap `json:"metadata,omitempty"`
	ImageMetadata StringMap `json:"image_metadata,omitempty"`
}

// BackupMove is a guarded change of status: done only if the status is one of From; nil is any.
type BackupMove struct {
	From       []BackupStatus
	To         BackupStatus
	FailReason *string // set with the new status; nil clears it
	// Written unless nil.
	Objects         *int
	RestoreVolumeID *uuid.UUID
}

// BackupPatch changes fields of a backup that are not nil. The map replaces.
type BackupPatch struct {
	Name, Description     *string
	NoName, NoDescription bool // null instead
	Metadata              StringMap
}

// BackupOptions of a backup that is asked for.
type BackupOptions struct {
	Incremental bool
	Force       bool // the volume may be in use
}

// Refused says why something can't be done as things are, in Cinder's words. It is
// [ErrConflict], too.
type Refused struct{ What, Why string }

// Error is the text for users.
func (r *Refused) Error() string { return r.What + ": " + r.Why }

// Unwrap implements errors.Is.
func (r *Refused) Unwrap() error { return ErrConflict }

func refused(what, format string, args ...any) error {
	return &Refused{"Invalid " + what, fmt.Sprintf(format, args...)}
}

// MayBackUp tells whether a volume, or a snapshot of it unless that is nil, can be backed up
// (cinder/backup/api.py, create).
func MayBackUp(v *Volume, sn *Snapshot, force bool) error {
	switch {
	case sn != nil && sn.VolumeID != v.ID:
		return refused("volume", "Volume %s does not match with snapshot.volume_id %s.", v.ID, sn.VolumeID)
	case sn != nil && sn.Status != SnapshotAvailable:
		return refused("snapshot", "Snapshot to be backed up must be available, but the current status is \"%s\".", sn.Status)
	case sn != nil:
	case v.Status != VolumeAvailable && v.Status != VolumeInUse:
		return refused("volume", "Volume to be backed up must be available or in-use, but the current status is \"%s\".", v.Status)
	case v.Status == VolumeInUse && !force:
		return refused("volume", "Backing up an in-use volume must use the force flag.")
	}
	return nil
}

// BackupParent chooses of a volume's backups what an increment, of a snapshot unless that is
// nil, is made upon: the latest, by the time of its data; before the snapshot's, if there is one.
func BackupParent(of []Backup, sn *Snapshot) (Backup, error) {
	if len(of) == 0 {
		return Backup{}, refused("backup", "No backups available to do an incremental backup.")
	}
	at := func(b Backup) time.Time {
		if sn != nil && !b.DataTimestamp.Before(sn.CreatedAt) {
			return time.Time{}
		}
		return b.DataTimestamp
	}
	last := slices.MaxFunc(of, func(a, b Backup) int { return at(a).Compare(at(b)) })
	if last.Status != BackupAvailable {
		return Backup{}, refused("backup", "The parent backup must be available for incremental backup.")
	}
	return last, nil
}

// MayRestore tells whether a backup can be restored (cinder/backup/api.py, restore).
func MayRestore(b *Backup) error {
	if b.Status != BackupAvailable {
		return refused("backup", "Backup status must be available")
	}
	return nil
}

// MayRestoreTo tells whether a backup can be restored to a volume whose status must be one.
func MayRestoreTo(b *Backup, v *Volume, status VolumeStatus) error {
	switch {
	case v.Status != status:
		return refused("volume", "Volume to be restored to must be available")
	case b.SizeGiB > v.SizeGiB:
		return refused("volume", "volume size %d is too small to restore backup of size %d.", v.SizeGiB, b.SizeGiB)
	}
	return nil
}

// MayDeleteBackup tells whether a backup on which so many others depend can be deleted.
func MayDeleteBackup(b *Backup, children int, force bool) error {
	switch {
	case !force && b.Status != BackupAvailable && b.Status != BackupError:
		return refused("backup", "Backup status must be available or error")
	case children > 0:
		return refused("backup", "Incremental backups exist for this backup.")
	}
	return nil
}

// BackupMessage is a message for a backup's owner. Its id, level and times are set by the store.
func BackupMessage(e Event, b *Backup, reason, request string) Message {
	id := b.ID
	return Message{
		ProjectID: b.ProjectID, RequestID: request, ResourceType: ResourceBackup, ResourceUUID: &id,
		EventID: string(e), UserMessage: e.Because(reason),
	}
}

// BackupArgs of [TaskCreateBackup], [TaskRestoreBackup] and [TaskDeleteBackup].
type BackupArgs struct {
	BackupID  string `json:"backup_id"`
	Container string `json:"container,omitempty"`
	// Creation only: the parent of an increment, and what is kept with the bytes.
	ParentID        string    `json:"parent_id,omitempty"`
	ParentContainer string    `json:"parent_container,omitempty"`
	CreatedAt       time.Time `json:"created_at,omitzero"`
	Source          JSON      `json:"source,omitempty"`
}

// BackupResult of [TaskCreateBackup].
type BackupResult struct {
	Objects      int   `json:"objects"`       // chunks that it has stored itself
	StoredBytes  int64 `json:"stored_bytes"`  // of the volume, in these
	WrittenBytes int64 `json:"written_bytes"` // to the store, the last time it was tried
}
