package model

import (
	"time"

	"github.com/google/uuid"
)

// Severity of a [Finding].
type Severity string

// Severities. Only the first two are something wrong.
const (
	SeverityError   Severity = "error"   // data or I/O are in danger, or something can't go on
	SeverityWarning Severity = "warning" // not as it should be, and it will not become so by itself
	SeverityInfo    Severity = "info"    // good to know
)

// FindingKind is what a [Finding] is about.
type FindingKind string

// Kinds.
const (
	FindNode          FindingKind = "node"
	FindImage         FindingKind = "image"
	FindVolume        FindingKind = "volume"
	FindSnapshot      FindingKind = "snapshot"
	FindBackup        FindingKind = "backup"
	FindGroup         FindingKind = "group"
	FindGroupSnapshot FindingKind = "group-snapshot"
	FindTask          FindingKind = "task"
	FindJob           FindingKind = "job"
	FindProject       FindingKind = "project"
	FindControlPlane  FindingKind = "control-plane"
)

// Finding is one difference between the database and what stands, or between rows of the database
// that must agree.
type Finding struct {
	Severity Severity
	Code     string // which difference it is, in words that stay the same
	Kind     FindingKind
	ID       string // of what Kind says; the host of a node
	Node     string // where, "" if it is about no node
	Volume   string // that a snapshot, backup or task belongs to, else ""
	Text     string // what is wrong
	Remedy   string // what to do; "" if nothing
	Repair   Repair // what mends it, "" if that is not safe or not possible
}

// Wrong tells whether it is more than good to know.
func (f Finding) Wrong() bool { return f.Severity != SeverityInfo }

// Repair is something that is safe to do, however often: it writes rows, and never deletes what could
// hold data. Devices are changed by agents alone, as their documents say.
type Repair string

// Repairs.
const (
	RepairDocument Repair = "document" // the node's document grows and is sent, so that it goes through all of it again
	RepairTree     Repair = "tree"     // what follows from the parents is counted anew, and the tree put in shape
	RepairImport   Repair = "import"   // the image's import is asked for again
	RepairRelease  Repair = "release"  // nodes that need the image no more are asked to let it go
	RepairStatus   Repair = "status"   // the status becomes what the end of the work would have made it
	RepairUsage    Repair = "usage"    // the project's usage becomes what its rows sum up to
	RepairNumbers  Repair = "numbers"  // the node's next thin number becomes one that was never used
)

// Checkup says what is to be looked at.
type Checkup struct {
	Node, Image, Volume string // only findings about these; "": all
	Repair              bool   // mend what is safe, and look again
}

// Diagnosis is what was looked at, found and done.
type Diagnosis struct {
	At       time.Time
	Findings []Finding // that are left, the worst first
	Mended   []Mended  // what was done, in that order
	Nodes    int       // that there are
	Answered int       // of those that were asked, how many did
	Images   int
	Volumes  int
	// Snapshots of them.
	Snapshots int
	// OldestHost has said nothing for the longest time, since Oldest; nil: never.
	OldestHost string
	Oldest     *time.Time
	// More tells what there is too much of to look at all of it.
	More []string
}

// Mended is one repair.
type Mended struct {
	Repair Repair
	Of     string // a node, image, volume …
	Text   string // what was done
	Error  string // why it could not be done, else ""
}

// CensusLimit bounds each list of a [Census].
const CensusLimit = 1000

// Census is what the database holds that must agree with itself, in one snapshot. Its lists are of what
// is passing or disagrees; at rest they are empty, but for the first three.
type Census struct {
	Nodes    []Node
	Images   []Image
	Services []Service
	Leases   []Lease
	Jobs     []Job  // the oldest first
	Tasks    []Task // the oldest first
	Passing  []Passing
	Crooked  []Crooked
	Idle     []Idle
	Shared   []SharedThin
	Ahead    []ThinsAhead
	Usage    []UsageDrift
	// Attached volumes by their homes, and all of them.
	Attached  map[string]int
	Homes     map[string]int
	Volumes   int
	Snapshots int
	// More names lists that were cut at CensusLimit.
	More []string
}

// Tree is an image with its members and their nodes.
type Tree struct {
	Image   Image
	Members []Member
	Nodes   []Node // of the members, and of those that they name
	Imports bool   // the job is there that has it imported
}

// Lease is one row of table leases.
type Lease struct {
	Name      string    `db:"name"`
	Holder    string    `db:"holder"`
	ExpiresAt time.Time `db:"expires_at"`
}

// Passing is something whose status says that work is being done on it.
type Passing struct {
	Kind        FindingKind `db:"kind"`
	ID          uuid.UUID   `db:"id"`
	Volume      *uuid.UUID  `db:"volume_id"` // of a snapshot or backup
	Status      string      `db:"status"`
	Home        *string     `db:"home"`
	Since       time.Time   `db:"since"` // it was written last
	Image       *uuid.UUID  `db:"image_id"`
	ImageStatus ImageStatus `db:"image_status"` // "" without an image
	Copying     bool        `db:"copying"`      // its thin device is still to be made as a copy
	Migration   string      `db:"migration"`    // migration_status
	// Tasks are the kinds of its tasks that have not ended; of those that move it, also of those
	// whose node has still to take something down. Separated by commas.
	Tasks string `db:"tasks"`
	// Parts it waits for: snapshots of a volume, members of a group that are passing themselves.
	Parts int `db:"parts"`
}

// Crooked is a volume whose status and attachments disagree.
type Crooked struct {
	ID       uuid.UUID    `db:"id"`
	Status   VolumeStatus `db:"status"`
	Home     *string      `db:"home"`
	Attached int          `db:"attached"` // attachments with that status
	Others   int          `db:"others"`   // with another that reserves the volume
	Since    time.Time    `db:"since"`
}

// Idle is a relay that no volume and no task needs, and that nobody is asked to let go; Host is "" where
// it is the image as a whole.
type Idle struct {
	Image uuid.UUID `db:"image_id"`
	Host  string    `db:"host"`
	Since time.Time `db:"since"`
}

// SharedThin is a thin number of a node that more than one row has.
type SharedThin struct {
	Host   string `db:"host"`
	ThinID int64  `db:"thin_id"`
	Rows   string `db:"rows"` // "volume ID, snapshot ID"
}

// ThinsAhead is a node whose next thin number is in use already.
type ThinsAhead struct {
	Host string `db:"host"`
	Next int64  `db:"next"`
	Used int64  `db:"used"` // the highest
}

// UsageDrift is what a project's usage of a volume type is less than its rows sum up to; negative: more.
type UsageDrift struct {
	Project   string     `db:"project_id"`
	Type      *uuid.UUID `db:"volume_type_id"`
	Volumes   int64      `db:"volumes"`
	Snapshots int64      `db:"snapshots"`
	GiB       int64      `db:"gib"`
	Backups   int64      `db:"backups"`
	BackupGiB int64      `db:"backup_gib"`
	Groups    int64      `db:"groups"`
}
