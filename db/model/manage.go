package model

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Thin is a thin device in a node's pool.
type Thin struct {
	ID          uint32 `json:"id"`
	MappedBytes int64  `json:"mapped_bytes"` // that it takes in the pool
	EndBytes    int64  `json:"end_bytes"`    // behind the last one that is mapped
	// Device that stands on it, by its device-mapper name; "" if none does.
	Device string `json:"device,omitempty"`
	// Exceptions: it holds changes of an image's blocks, which are nothing without the image.
	Exceptions bool `json:"exceptions,omitempty"`
}

// Thins are thin devices of a node's pool.
type Thins struct {
	PoolUUID string `json:"pool_uuid"`
	Thins    []Thin `json:"thins"` // by number
}

// Managed is a thin device that a volume or snapshot is kept on.
type Managed struct {
	ID       uuid.UUID  `db:"id"`
	VolumeID *uuid.UUID `db:"volume_id"` // of a snapshot
	ThinID   int64      `db:"thin_id"`
	SizeGiB  int        `db:"size_gib"`
}

// Storage is what the control plane knows of a node's pool.
type Storage struct {
	PoolUUID  string
	Volumes   []Managed
	Snapshots []Managed
	Others    []int64 // thin devices of caches and tasks, and those that are to be deleted
	// Unmanaged are those in the pool, and those that are nowhere since nothing was ever written.
	Unmanaged []Unmanaged
}

// MaxAdopted bounds the numbers of thin devices that become managed: numbers up to the highest
// one that was ever used are not given any more, and some must remain.
const MaxAdopted = 1 << 23

// Kind of what is managed.
type Kind string

// Kinds.
const (
	KindVolume   Kind = "volume"
	KindSnapshot Kind = "snapshot"
)

// Unmanaged is one row of table unmanaged: what a volume or snapshot was that is not managed
// any more.
type Unmanaged struct {
	ID            uuid.UUID  `db:"id"`
	Kind          Kind       `db:"kind"`
	VolumeID      *uuid.UUID `db:"volume_id"` // of a snapshot
	Host          *string    `db:"host"`      // nil: it has no thin device, nothing was ever written
	ThinID        *int64     `db:"thin_id"`
	ImageID       *uuid.UUID `db:"image_id"`
	SizeGiB       int        `db:"size_gib"`
	Bootable      bool       `db:"bootable"`
	ImageMetadata StringMap  `db:"image_metadata"`
	CreatedAt     time.Time  `db:"created_at"`
}

// Manageable is one row of the list of what could be managed, or is.
type Manageable struct {
	Reference string // source-name
	SizeGiB   int
	Reason    string     // why it can't be managed, "" if it can
	ManagedAs *uuid.UUID // by what it is managed
	Source    string     // of a snapshot: source-name of its volume
}

// Adoption is what becomes a volume or snapshot. Host is nil for one without a thin device.
type Adoption struct {
	Was     *Unmanaged // nil: nothing is known of it
	Host    *string
	ThinID  *int64
	SizeGiB int
}

// ManageRef names what is to be managed: by the number of its thin device or by the id that it
// had. Neither: it is none that this storage knows.
type ManageRef struct {
	Text    string // as it was given
	Thin    *int64
	ID      *uuid.UUID
	SizeGiB int // that it is to have at least; 0: what it takes
}

// Prefixes of source-name.
const (
	thinPrefix     = "thin-"
	volumePrefix   = "volume-"
	snapshotPrefix = "snapshot-"
)

// ThinReference is the source-name of a thin device.
func ThinReference(id int64) string { return thinPrefix + strconv.FormatInt(id, 10) }

// Reference is the source-name of what has, or had, an id.
func Reference(k Kind, id uuid.UUID) string {
	if k == KindSnapshot {
		return snapshotPrefix + id.String()
	}
	return volumePrefix + id.String()
}

// ParseReference reads a source-name: thin-NUMBER, volume-ID, or snapshot-ID, which may begin
// with an underscore as with Cinder's own drivers; or a source-id, which has no prefix.
func ParseReference(text string) ManageRef {
	ref := ManageRef{Text: text}
	name, thin := strings.CutPrefix(text, thinPrefix)
	if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 && n < 1<<24 {
		ref.Thin = &n
		return ref
	}
	if thin {
		return ref
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, volumePrefix), "_")
	if id, err := uuid.Parse(strings.TrimPrefix(name, snapshotPrefix)); err == nil {
		ref.ID = &id
	}
	return ref
}
