package model

import (
	"time"

	"github.com/google/uuid"
)

// ImageStatus is the status of an image in our trees (not in Glance).
type ImageStatus string

// Statuses of an image.
const (
	ImageQueued    ImageStatus = "queued"    // wanted, no origin chosen yet
	ImageImporting ImageStatus = "importing" // an origin is fetching it
	ImageActive    ImageStatus = "active"    // its origin serves it
	ImageError     ImageStatus = "error"     // unusable; see Error
	ImageDeleting  ImageStatus = "deleting"  // no volume wants it any more
)

// Image is one row of table images: a Glance image that volumes are made from.
// Glance's image data never changes, so Glance's id is the identity of the bytes.
type Image struct {
	ID              uuid.UUID   `db:"id"`
	Name            string      `db:"name"`
	DiskFormat      string      `db:"disk_format"`
	ContainerFormat string      `db:"container_format"`
	SizeBytes       int64       `db:"size_bytes"` // of the file in Glance
	Checksum        string      `db:"checksum"`
	HashAlgo        string      `db:"hash_algo"`
	HashValue       string      `db:"hash_value"`
	MinDiskGiB      int         `db:"min_disk_gib"`
	MinRAMMiB       int         `db:"min_ram_mib"`
	Properties      StringMap   `db:"properties"`
	Status          ImageStatus `db:"status"`
	VirtualBytes    int64       `db:"virtual_bytes"` // 0 until known
	DeviceBytes     int64       `db:"device_bytes"`  // size of the device served, 0 until active
	Degree          *int        `db:"degree"`        // of its tree; null: the default
	Phase           string      `db:"phase"`         // of the import
	Done            int64       `db:"done"`          // bytes
	Total           int64       `db:"total"`         // bytes
	Error           *string     `db:"error"`
	Attempts        int         `db:"attempts"`
	CreatedAt       time.Time   `db:"created_at"`
	UpdatedAt       time.Time   `db:"updated_at"`
}

// MemberRole in an image's tree.
type MemberRole string

// Roles.
const (
	RoleRoot  MemberRole = "root"  // holds the image itself
	RoleRelay MemberRole = "relay" // reads from a parent, serves its children
)

// MemberState is how far a member is, as the control plane sees it.
type MemberState string

// States of a member. A draining member serves until its last child has its new
// parent, then leaves; a leaving one takes its stack down, then its row goes.
const (
	MemberJoining   MemberState = "joining"
	MemberImporting MemberState = "importing" // a root that fetches the image while another serves it
	MemberActive    MemberState = "active"
	MemberPathLost  MemberState = "path-lost" // its way to the parent is cut
	MemberDraining  MemberState = "draining"
	MemberLeaving   MemberState = "leaving"
)

// Member is one row of table tree_members: a node in an image's tree.
type Member struct {
	ImageID  uuid.UUID   `db:"image_id"`
	Host     string      `db:"host"`
	Role     MemberRole  `db:"role"`
	State    MemberState `db:"state"`
	Parent   *string     `db:"parent"`   // null for a root
	Fallback *string     `db:"fallback"` // an uncle: next parent if Parent dies
	Depth    int         `db:"depth"`    // 0 for a root
	Children int         `db:"children"` // members whose Parent this is
	Pinned   bool        `db:"pinned"`   // kept though no volume needs it (warmed)
	// Secret is the CHAP secret with which it logs in to Parent; a new one for every parent.
	Secret   string `db:"secret"`
	ThinBase int64  `db:"thin_base"` // first of the thin numbers set aside for its cache
	// CacheMade: the cache's local devices were reported as made.
	CacheMade bool   `db:"cache_made"`
	Reason    string `db:"reason"` // why this parent
	// What the node reported last.
	ObservedParent string    `db:"observed_parent"`
	UpstreamBytes  int64     `db:"upstream_bytes"` // read from the parent (root: from the file)
	ReadBytes      int64     `db:"read_bytes"`     // read by volumes here
	ServedBytes    int64     `db:"served_bytes"`   // read by children
	CacheHits      int64     `db:"cache_hits"`
	CacheMisses    int64     `db:"cache_misses"`
	Error          string    `db:"error"`
	CreatedAt      time.Time `db:"created_at"`
	UpdatedAt      time.Time `db:"updated_at"`
}
