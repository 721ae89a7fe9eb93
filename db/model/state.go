package model

import "github.com/google/uuid"

// NodeState is one node's part of the database, in one snapshot.
type NodeState struct {
	Node    Node
	Images  map[uuid.UUID]Image // of its members
	Members []Member            // this node's, one per image
	// Parents and Fallbacks by image: the rows of the nodes that Members name.
	Parents   map[uuid.UUID]Node
	Fallbacks map[uuid.UUID]Node
	// Children by image: members whose parent or fallback is this node, or who still read
	// from it (observed parent), with their nodes' rows.
	Children map[uuid.UUID][]ChildMember
	// Volumes whose home is this node, with attachments that have a connector.
	Volumes []Volume
	// Snapshots whose home is this node, and thin devices here that are to be deleted.
	Snapshots []Snapshot
	Dropped   []DroppedThin
	// Tasks that this node does, or has to remove what is left of.
	Tasks []Task
}

// ChildMember is a child with its node.
type ChildMember struct {
	Member Member
	Node   Node
}

// Changes that a report brought.
type Changes struct {
	NodeNew       bool        // first report ever
	NodeBack      bool        // it was not alive, or has a new boot id
	NeedsDocument bool        // it reports an older generation than the database has
	PoolLost      bool        // another pool than before
	Imported      []uuid.UUID // images whose root reports ready
	ImportFailed  map[uuid.UUID]string
	PathLost      []uuid.UUID // images whose way to the parent is cut
	PathBack      []uuid.UUID
	Rooted        []uuid.UUID // images that the node has imported beside another root
	Drained       []uuid.UUID // images whose children here have all gone
	Left          []uuid.UUID // leaving members whose stack is gone
	Deleted       []uuid.UUID // volumes in deleting whose data is gone
	Unmanaged     []uuid.UUID // volumes in unmanaging whose devices are down
	// SnapshotsDeleted are in deleting, and their data is gone.
	SnapshotsDeleted []uuid.UUID
	// Extended volumes whose device has its new size now.
	Extended []uuid.UUID
	// TasksEnded are running, and their node tells how they ended; TasksGone have ended, and
	// nothing of them is left on their node. Both are told until somebody has acted.
	TasksEnded []TaskEnd
	TasksGone  []uuid.UUID
	Settled    bool
}

// Share of one project in what a node holds: its volumes whose home that is, and their snapshots.
type Share struct {
	ProjectID   string `db:"project_id"`
	Volumes     int    `db:"volumes"`
	GiB         int64  `db:"gib"`
	Snapshots   int    `db:"snapshots"`
	SnapshotGiB int64  `db:"snapshot_gib"`
}

// Allocation of one host: the volumes whose home it is.
type Allocation struct {
	Volumes int
	GiB     int64
}
