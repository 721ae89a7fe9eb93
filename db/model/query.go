package model

import (
	"errors"

	"github.com/google/uuid"
)

// Errors of the stores, to be tested with errors.Is.
var (
	// ErrNotFound: no such row, or not one the caller may see.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the row was not in the status that was asked for; somebody else moved it.
	ErrConflict = errors.New("changed by somebody else meanwhile")
	// ErrExists: unique name taken.
	ErrExists = errors.New("exists already")
	// ErrInvalid: the request can't be met as it is; the message is for users.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the database, the bus or a node can't be reached now; try again.
	ErrUnavailable = errors.New("unavailable")
	// ErrInUse: other rows depend on it.
	ErrInUse = errors.New("in use")
	// ErrImmovable: it would have to move to another node, and can't as it is.
	ErrImmovable = errors.New("must move")
)

// SortKey is one key of a list's order.
type SortKey struct {
	Column string // as in the API: created_at, name, size, status, id, …
	Desc   bool
}

// Filter is one condition of a list: Column Op Value. Op is =, like (contains), or for
// times lt, lte, gt, gte, eq, neq. Column metadata with op = holds a StringMap in Map.
type Filter struct {
	Column string
	Op     string
	Value  string
	Values []string // for op in
	Map    StringMap
}

// ListQuery is a page of a list.
type ListQuery struct {
	ProjectID string // "" = all projects
	Filters   []Filter
	Sort      []SortKey // default created_at desc, id desc; id is always added last
	Limit     int       // rows, 0 = no limit
	Offset    int
	Marker    *uuid.UUID // last row of the page before; ErrNotFound if it is gone
	Detail    bool       // with attachments
}

// VolumePatch changes fields of a volume that are not nil. The maps replace.
type VolumePatch struct {
	Name, Description *string
	NoName            bool // Name becomes null
	NoDescription     bool
	Bootable          *bool
	ReadOnly          *bool
	Metadata          StringMap
	ImageMetadata     StringMap
	VolumeTypeID      *uuid.UUID
}

// VolumeMove is a guarded change of status: done only if the status is one of From.
type VolumeMove struct {
	From  []VolumeStatus
	To    VolumeStatus
	Error *string // set with the new status; nil clears it
}

// DeleteOptions of a volume.
type DeleteOptions struct {
	Force   bool // whatever its status, if only it is not attached
	Cascade bool // with its snapshots; else ErrConflict if it has any
	// Foreign snapshots go with it too: those that other projects have kept when the volume
	// was transferred to its project.
	Foreign bool
}
