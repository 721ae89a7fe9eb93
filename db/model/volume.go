package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// VolumeStatus is a volume's status, in Cinder's words.
type VolumeStatus string

// Statuses of a volume (cinder/objects/fields.py, cinder/volume/api.py).
const (
	VolumeCreating         VolumeStatus = "creating"
	VolumeDownloading      VolumeStatus = "downloading" // waits for its image's import
	VolumeAvailable        VolumeStatus = "available"
	VolumeReserved         VolumeStatus = "reserved"
	VolumeAttaching        VolumeStatus = "attaching"
	VolumeInUse            VolumeStatus = "in-use"
	VolumeDetaching        VolumeStatus = "detaching"
	VolumeExtending        VolumeStatus = "extending"
	VolumeUploading        VolumeStatus = "uploading"
	VolumeRetyping         VolumeStatus = "retyping"
	VolumeMaintenance      VolumeStatus = "maintenance"
	VolumeDeleting         VolumeStatus = "deleting"
	VolumeError            VolumeStatus = "error"
	VolumeErrorDeleting    VolumeStatus = "error_deleting"
	VolumeErrorExtending   VolumeStatus = "error_extending"
	VolumeAwaitingTransfer VolumeStatus = "awaiting-transfer"
	VolumeReverting        VolumeStatus = "reverting"
	VolumeBackingUp        VolumeStatus = "backing-up"
	VolumeRestoringBackup  VolumeStatus = "restoring-backup"
	VolumeErrorRestoring   VolumeStatus = "error_restoring"
	VolumeErrorManaging    VolumeStatus = "error_managing" // what it was to be could not be found
	VolumeUnmanaging       VolumeStatus = "unmanaging"     // its data stays, it goes
)

// Deletable lists the statuses from which a user may delete a volume.
var Deletable = []VolumeStatus{VolumeAvailable, VolumeError, VolumeErrorDeleting, VolumeErrorExtending, VolumeErrorRestoring, VolumeErrorManaging}

// Unmanageable lists the statuses from which a volume may be unmanaged.
var Unmanageable = []VolumeStatus{VolumeAvailable, VolumeError, VolumeErrorExtending, VolumeErrorRestoring, VolumeErrorManaging}

// AttachStatus of a volume or of one attachment.
type AttachStatus string

// Attach statuses.
const (
	AttachDetached       AttachStatus = "detached"
	AttachReserved       AttachStatus = "reserved"
	AttachAttaching      AttachStatus = "attaching"
	AttachAttached       AttachStatus = "attached"
	AttachDetaching      AttachStatus = "detaching"
	AttachErrorAttaching AttachStatus = "error_attaching"
	AttachErrorDetaching AttachStatus = "error_detaching"
)

// Volume is one row of table volumes.
type Volume struct {
	ID               uuid.UUID    `db:"id"`
	ProjectID        string       `db:"project_id"`
	UserID           string       `db:"user_id"`
	Name             *string      `db:"name"`
	Description      *string      `db:"description"`
	SizeGiB          int          `db:"size_gib"`
	Status           VolumeStatus `db:"status"`
	AttachStatus     AttachStatus `db:"attach_status"`
	MigrationStatus  *string      `db:"migration_status"`
	AvailabilityZone string       `db:"availability_zone"`
	VolumeTypeID     *uuid.UUID   `db:"volume_type_id"`
	VolumeType       *string      `db:"volume_type"` // name, joined in; never written
	Bootable         bool         `db:"bootable"`
	Multiattach      bool         `db:"multiattach"`
	ReadOnly         bool         `db:"readonly"`
	ConsumesQuota    bool         `db:"consumes_quota"`
	ImageID          *uuid.UUID   `db:"image_id"`    // image whose tree its blocks come from
	SnapshotID       *uuid.UUID   `db:"snapshot_id"` // what it was made from
	SourceVolID      *uuid.UUID   `db:"source_volid"`
	GroupID          *uuid.UUID   `db:"group_id"`
	EncryptionKeyID  *uuid.UUID   `db:"encryption_key_id"`
	Metadata         StringMap    `db:"metadata"`
	AdminMetadata    StringMap    `db:"admin_metadata"` // readonly, attached_mode
	ImageMetadata    StringMap    `db:"image_metadata"` // volume_image_metadata
	Home             *string      `db:"home"`           // host that keeps its COW device; null until first attached
	// Placed is the host that a volume without a home is shown on: its type is not for every node.
	// It lives there unless another node that its type is for asks for it first.
	Placed         *string       `db:"placed"`
	HostBackend    *string       `db:"host_backend"` // the backend of that node or of the home; never written
	RetypeTo       *uuid.UUID    `db:"retype_to"`    // type that it gets when it has moved to where that can be had
	ThinID         *int64        `db:"thin_id"`      // number in the home's pool
	SourceThin     *int64        `db:"source_thin"`  // its thin device begins as a copy of this one; nil: empty
	Materialized   bool          `db:"materialized"` // the home has reported its thin device
	Together       *uuid.UUID    `db:"together"`     // copies with the same are made at one moment
	Error          *string       `db:"error"`        // why status is an error, for users
	RequestID      string        `db:"request_id"`   // that made it, "" if that is not known
	CreatedAt      time.Time     `db:"created_at"`
	UpdatedAt      *time.Time    `db:"updated_at"`
	LaunchedAt     *time.Time    `db:"launched_at"`
	PreviousStatus *VolumeStatus `db:"previous_status"`
	Attachments    []Attachment  `db:"-"` // filled by show and detail lists
}

// Bytes is the size that a VM sees.
func (v *Volume) Bytes() int64 { return int64(v.SizeGiB) << 30 }

// Host is the node that the volume is shown on: its home, or where it is to live; nil if that is
// not settled.
func (v *Volume) Host() *string {
	if v.Home != nil {
		return v.Home
	}
	return v.Placed
}

// Pristine tells that nothing was ever written to the volume: it has no thin device, so
// it is what its image is, or zeros.
func (v *Volume) Pristine() bool { return v.Home == nil || !v.Materialized && v.SourceThin == nil }

// MustBe is ErrConflict unless the volume's status is one of from.
func (v *Volume) MustBe(from []VolumeStatus) error {
	if slices.Contains(from, v.Status) {
		return nil
	}
	return fmt.Errorf("%w: volume %s is %s", ErrConflict, v.ID, v.Status)
}

// Deletable tells whether a user may delete the volume in its status.
func (v *Volume) Deletable() bool { return slices.Contains(Deletable, v.Status) }

// Migrating tells whether the volume is on its way to another host.
func (v *Volume) Migrating() bool {
	return v.MigrationStatus != nil && !slices.Contains([]string{"", "deleting", "error", "success"}, *v.MigrationStatus)
}

// Attachment is one row of table attachments: a volume at a server or host.
type Attachment struct {
	ID           uuid.UUID    `db:"id"`
	VolumeID     uuid.UUID    `db:"volume_id"`
	ProjectID    string       `db:"project_id"`
	UserID       string       `db:"user_id"`
	InstanceUUID *uuid.UUID   `db:"instance_uuid"`
	AttachedHost *string      `db:"attached_host"` // connector.host
	Mountpoint   *string      `db:"mountpoint"`
	AttachMode   *string      `db:"attach_mode"` // rw, ro
	Status       AttachStatus `db:"attach_status"`
	Connector    JSON         `db:"connector"`
	// ConnectionInfo is what os-brick gets: driver data and driver_volume_type, flat.
	// It holds the CHAP secret of an iscsi attachment.
	ConnectionInfo JSON       `db:"connection_info"`
	ChapSecret     string     `db:"chap_secret"`
	CreatedAt      time.Time  `db:"created_at"`
	UpdatedAt      *time.Time `db:"updated_at"`
	AttachedAt     *time.Time `db:"attached_at"`
	DetachedAt     *time.Time `db:"detached_at"`
}

// StatusFromAttachments is the status of a volume whose attachments have the
// given statuses (Cinder: attached before attaching before detaching before reserved).
func StatusFromAttachments(as []AttachStatus) (VolumeStatus, AttachStatus) {
	switch {
	case slices.Contains(as, AttachAttached):
		return VolumeInUse, AttachAttached
	case slices.Contains(as, AttachAttaching):
		return VolumeAttaching, AttachAttaching
	case slices.Contains(as, AttachDetaching):
		return VolumeDetaching, AttachDetaching
	case slices.Contains(as, AttachReserved):
		return VolumeReserved, AttachReserved
	}
	return VolumeAvailable, AttachDetached
}

// Connector is what Nova (os-brick) tells about the host that wants a volume.
type Connector struct {
	Host       string `json:"host"`
	IP         string `json:"ip"`
	Initiator  string `json:"initiator"`
	Mountpoint string `json:"mountpoint"`
	Multipath  bool   `json:"multipath"`
	OSType     string `json:"os_type"`
	Platform   string `json:"platform"`
}
