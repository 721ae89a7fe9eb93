package model

// DesiredSchema is the version of the [Desired] and [Observed] documents. An agent
// takes documents of its own and the previous version.
const DesiredSchema = 1

// Desired is all that should stand on one node. It is computed from the database
// as a whole; an agent that applies it twice changes nothing the second time. What
// stands on the node under our names and is not mentioned is reported, not removed.
type Desired struct {
	Schema int    `json:"schema"`
	Host   string `json:"host"`
	// Generation grows with every change. An agent ignores a document older than
	// the last one it took.
	Generation int64           `json:"generation"`
	PoolUUID   string          `json:"pool_uuid,omitempty"` // the pool its volumes are in; "" before the first report
	Images     []DesiredImage  `json:"images"`
	Volumes    []DesiredVolume `json:"volumes"`
	Tasks      []DesiredTask   `json:"tasks,omitempty"`
}

// Presence says what should be of a thing.
type Presence string

// Presences. Absent must be said: silence never deletes data.
const (
	Present  Presence = "present"  // image: its stack stands · volume: its device stands
	Inactive Presence = "inactive" // volume: data kept, no device
	Absent   Presence = "absent"   // nothing of it remains
)

// DesiredImage is one image on one node.
type DesiredImage struct {
	ID    string     `json:"id"`
	Role  MemberRole `json:"role"`
	State Presence   `json:"state"`
	// DeviceBytes is the size of the image's device, a multiple of 4096; for a root
	// that has not imported it yet 0.
	DeviceBytes int64 `json:"device_bytes"`
	// Source: root only.
	Source *ImageSource `json:"source,omitempty"`
	// Parent: relay only. Alternates may be tried, in order, when Parent can't be reached.
	Parent     *ParentPortal  `json:"parent,omitempty"`
	Alternates []ParentPortal `json:"alternates,omitempty"`
	ThinBase   uint32         `json:"thin_base"`
	// CacheMade: the cache's local devices were made before; if they are gone that is a loss.
	CacheMade bool `json:"cache_made"`
	// Children that may log in. None: nothing is exported.
	Children []Child `json:"children,omitempty"`
}

// ImageSource is what the origin needs to fetch an image from Glance.
type ImageSource struct {
	DiskFormat string `json:"disk_format"`
	SizeBytes  int64  `json:"size_bytes"` // -1 unknown
	HashAlgo   string `json:"hash_algo,omitempty"`
	HashValue  string `json:"hash_value,omitempty"`
	Checksum   string `json:"checksum,omitempty"`
	MaxBytes   int64  `json:"max_bytes"` // largest virtual size that may be served
}

// ParentPortal is where a relay logs in.
type ParentPortal struct {
	Host    string `json:"host"`
	Address string `json:"address"` // IP:PORT
	IQN     string `json:"iqn"`
	User    string `json:"user"`
	Secret  string `json:"secret"`
}

// Child is an initiator that may log in, with its CHAP credential.
type Child struct {
	Host      string `json:"host"`
	Initiator string `json:"initiator"`
	User      string `json:"user"`
	Secret    string `json:"secret"`
}

// DesiredVolume is whatever has a thin device of its own on this node: a volume, a
// snapshot (never more than inactive), what is left of one that was replaced, or the frozen
// copy that a task reads.
type DesiredVolume struct {
	ID      string   `json:"id"`
	ImageID string   `json:"image_id,omitempty"` // "" for a blank volume
	State   Presence `json:"state"`
	Bytes   int64    `json:"bytes"`
	ThinID  uint32   `json:"thin_id"`
	// Materialized: its thin device was made before. If it is gone now, that is lost
	// data and must be reported, never papered over with an empty one.
	Materialized bool `json:"materialized"`
	// SourceThin: its thin device is made, at once and whatever the state, as a copy of
	// this one as it is now; 0: empty, when it is first needed. A volume that has the source's
	// device stands still meanwhile. Without meaning once it is materialized.
	SourceThin uint32 `json:"source_thin,omitempty"`
	// Together: copies with the same are made at one moment, with all their sources standing
	// still at once, or none of them is: when one fails, all do. "" is a copy by itself.
	Together string `json:"together,omitempty"`
	// Hosts that reach it over iSCSI. None: nothing is exported.
	Hosts []Child `json:"hosts,omitempty"`
	// Frozen: its device is only read, also by Hosts. One with ThinID 0 has no thin device: it is the
	// image, or zeros.
	Frozen bool `json:"frozen,omitempty"`
}

// DesiredTask is long data work that the node does: see [Task].
type DesiredTask struct {
	ID   string   `json:"id"`
	Kind TaskKind `json:"kind"`
	// State is present: it is to be done, once, and how it ended to be reported; or absent:
	// nothing of it is to remain here.
	State Presence `json:"state"`
	// Volume whose device it works on, by its id in the document's Volumes; "": it needs none.
	Volume string `json:"volume"`
	Bytes  int64  `json:"bytes"` // size of that device
	// Source is a disk of another node that it reads.
	Source *ParentPortal `json:"source,omitempty"`
	Args   JSON          `json:"args,omitempty"`
}
