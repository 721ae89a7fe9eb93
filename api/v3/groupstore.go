package v3

import (
	"context"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// GroupStore is the part of a [Store] that holds groups. What the rules of groups refuse is
// model.ErrInvalid, in Cinder's words.
type GroupStore interface {
	GroupTypes(ctx context.Context, q model.ListQuery) ([]model.GroupType, error)
	// GroupType and GroupTypeByName return one; private ones too if all.
	GroupType(ctx context.Context, id uuid.UUID, all bool) (model.GroupType, error)
	GroupTypeByName(ctx context.Context, name string, all bool) (model.GroupType, error)
	CreateGroupType(ctx context.Context, y model.GroupType) (model.GroupType, error)
	UpdateGroupType(ctx context.Context, id uuid.UUID, p model.GroupTypePatch) (model.GroupType, error)
	// EditGroupSpecs changes specs by a pure function, which may run again.
	EditGroupSpecs(ctx context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.GroupType, error)
	// DeleteGroupType is model.ErrInUse while a group has it.
	DeleteGroupType(ctx context.Context, id uuid.UUID) error

	ListGroups(ctx context.Context, q model.ListQuery) ([]model.Group, error)
	Group(ctx context.Context, id uuid.UUID, projectID string) (model.Group, error)
	// CreateGroup makes a group without volumes, available at once.
	CreateGroup(ctx context.Context, g model.Group) (model.Group, error)
	UpdateGroup(ctx context.Context, id uuid.UUID, p model.GroupPatch) (model.Group, error)
	// ResetGroup and ResetGroupSnapshot write a status unguarded (reset_status).
	ResetGroup(ctx context.Context, id uuid.UUID, status model.GroupStatus) error
	ResetGroupSnapshot(ctx context.Context, id uuid.UUID, status model.GroupStatus) error

	ListGroupSnapshots(ctx context.Context, q model.ListQuery) ([]model.GroupSnapshot, error)
	GroupSnapshot(ctx context.Context, id uuid.UUID, projectID string) (model.GroupSnapshot, error)
}

// GroupScheduler is the part of a [Scheduler] that groups need. What the rules of groups
// refuse is model.ErrInvalid, in Cinder's words; more than a quota has room for is a *[model.QuotaError].
type GroupScheduler interface {
	// SnapshotGroup takes a snapshot of each of a group's volumes, or none.
	SnapshotGroup(ctx context.Context, p model.GroupSnapshot) (model.GroupSnapshot, error)
	// DeleteGroupSnapshot that is available or failed, and its snapshots; else ErrConflict.
	DeleteGroupSnapshot(ctx context.Context, id uuid.UUID) error
	// CopyGroup makes a group with volumes from GroupSnapshotID or SourceGroupID, or nothing.
	CopyGroup(ctx context.Context, g model.Group) (model.Group, error)
	// DeleteGroup takes a group away, with its volumes or only without.
	DeleteGroup(ctx context.Context, id uuid.UUID, volumes bool) error
}
