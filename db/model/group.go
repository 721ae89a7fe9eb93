package model

import (
	"time"

	"github.com/google/uuid"
)

// LegacyGroupType is the type of groups that the API of consistency groups makes, and that
// the API of groups does not show (cinder/volume/group_types.py, DEFAULT_CGSNAPSHOT_TYPE).
const LegacyGroupType = "default_cgsnapshot_type"

// consistentSpec says that snapshots of a group are of one moment for all its volumes.
const consistentSpec = "consistent_group_snapshot_enabled"

// GroupType is one row of table group_types.
type GroupType struct {
	ID          uuid.UUID  `db:"id"`
	Name        string     `db:"name"`
	Description *string    `db:"description"`
	IsPublic    bool       `db:"is_public"`
	Specs       StringMap  `db:"group_specs"`
	CreatedAt   time.Time  `db:"created_at"`
	UpdatedAt   *time.Time `db:"updated_at"`
}

// GroupTypePatch changes fields of a group type that are not nil.
type GroupTypePatch struct {
	Name, Description *string
	IsPublic          *bool
}

// GroupStatus is the status of a group or of a group snapshot, in Cinder's words.
type GroupStatus string

// Statuses of groups and of group snapshots (cinder/objects/fields.py, GroupStatus). A group
// snapshot is never in-use.
const (
	GroupError         GroupStatus = "error"
	GroupAvailable     GroupStatus = "available"
	GroupCreating      GroupStatus = "creating"
	GroupDeleting      GroupStatus = "deleting"
	GroupDeleted       GroupStatus = "deleted"
	GroupUpdating      GroupStatus = "updating"
	GroupInUse         GroupStatus = "in-use"
	GroupErrorDeleting GroupStatus = "error_deleting"
)

// GroupWants is what a group asks of the home of its volumes.
type GroupWants struct {
	Together bool        // they must have the same
	Specs    []StringMap // extra specs of their types
	Host     *string     // that they are on or placed on; nil: none yet
}

// Group is one row of table volume_groups: volumes that are snapshotted together. All with
// data of a consistent one have the same home, the first one's.
type Group struct {
	ID               uuid.UUID   `db:"id"`
	ProjectID        string      `db:"project_id"`
	UserID           string      `db:"user_id"`
	Name             *string     `db:"name"`
	Description      *string     `db:"description"`
	Status           GroupStatus `db:"status"`
	AvailabilityZone *string     `db:"availability_zone"`
	GroupTypeID      uuid.UUID   `db:"group_type_id"`
	Specs            StringMap   `db:"group_specs"` // of the type, joined in; never written
	Legacy           bool        `db:"legacy"`      // of type [LegacyGroupType]; never written
	VolumeTypes      IDs         `db:"volume_types"`
	Volumes          IDs         `db:"volumes"` // the oldest first; never written
	GroupSnapshotID  *uuid.UUID  `db:"group_snapshot_id"`
	SourceGroupID    *uuid.UUID  `db:"source_group_id"`
	CreatedAt        time.Time   `db:"created_at"`
	UpdatedAt        *time.Time  `db:"updated_at"`
}

// Consistent tells whether the group's snapshots are of one moment.
func (g *Group) Consistent() bool { return g.Specs[consistentSpec] == "<is> True" }

// Replicated tells whether the group's type asks for replication.
func (g *Group) Replicated() bool {
	return g.Specs["group_replication_enabled"] == "<is> True" || g.Specs["consistent_group_replication_enabled"] == "<is> True"
}

// GroupSnapshot is one row of table group_snapshots. Its snapshots name it.
type GroupSnapshot struct {
	ID          uuid.UUID   `db:"id"`
	GroupID     uuid.UUID   `db:"group_id"`
	GroupTypeID uuid.UUID   `db:"group_type_id"`
	Legacy      bool        `db:"legacy"` // as of [Group]
	ProjectID   string      `db:"project_id"`
	UserID      string      `db:"user_id"`
	Name        *string     `db:"name"`
	Description *string     `db:"description"`
	Status      GroupStatus `db:"status"`
	CreatedAt   time.Time   `db:"created_at"`
	UpdatedAt   *time.Time  `db:"updated_at"`
}

// GroupPatch changes a group: what is not nil, and which volumes are in it. The volumes are
// as they were asked for.
type GroupPatch struct {
	Name, Description *string
	Add, Remove       []string
}
