package v3

import (
	"context"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/db/model"
)

// TypeStore is the part of a [Store] that holds volume types. A type is locked against
// new volumes while what they would be is changed.
type TypeStore interface {
	// Types that q.ProjectID may see ("" sees all), and of these the public or the private
	// ones alone if isPublic is not nil.
	Types(ctx context.Context, q model.ListQuery, isPublic *bool) ([]model.VolumeType, error)
	// Type and TypeByName return one if projectID may see it ("" sees all).
	Type(ctx context.Context, id uuid.UUID, projectID string) (model.VolumeType, error)
	TypeByName(ctx context.Context, name, projectID string) (model.VolumeType, error)
	// DefaultTypeOf is a project's own default type, else the type of that name. Whether
	// the project may see it is the caller's to check.
	DefaultTypeOf(ctx context.Context, projectID, name string) (model.VolumeType, error)
	CreateType(ctx context.Context, t model.VolumeType) (model.VolumeType, error)
	UpdateType(ctx context.Context, id uuid.UUID, p model.TypePatch) (model.VolumeType, error)
	// EditExtraSpecs changes extra specs by a pure function, which may run again:
	// model.ErrInUse while a volume has the type.
	EditExtraSpecs(ctx context.Context, id uuid.UUID, edit func(model.StringMap) error) (model.VolumeType, error)
	// DeleteType: model.ErrInUse while a volume has it, ErrConflict while it is the default
	// type of a project.
	DeleteType(ctx context.Context, id uuid.UUID) error

	TypeProjects(ctx context.Context, id uuid.UUID) ([]string, error)
	// AddTypeProject: model.ErrExists if it is there.
	AddTypeProject(ctx context.Context, id uuid.UUID, project string) error
	// RemoveTypeProject: model.ErrNotFound if it is not there.
	RemoveTypeProject(ctx context.Context, id uuid.UUID, project string) error

	// TypeEncryption: model.ErrNotFound if volumes of the type are not encrypted. The three
	// that change it: model.ErrInUse while a volume has the type.
	TypeEncryption(ctx context.Context, volumeType uuid.UUID) (model.Encryption, error)
	CreateEncryption(ctx context.Context, e model.Encryption) (model.Encryption, error)
	UpdateEncryption(ctx context.Context, volumeType uuid.UUID, p model.EncryptionPatch) error
	DeleteEncryption(ctx context.Context, volumeType uuid.UUID) error

	DefaultTypes(ctx context.Context) ([]model.DefaultType, error)
	// DefaultType: model.ErrNotFound if the project has none of its own.
	DefaultType(ctx context.Context, project string) (model.DefaultType, error)
	SetDefaultType(ctx context.Context, d model.DefaultType) error
	UnsetDefaultType(ctx context.Context, project string) error
}

// QoSStore is the part of a [Store] that holds QoS specs.
type QoSStore interface {
	ListQoS(ctx context.Context, q model.ListQuery) ([]model.QoS, error)
	QoS(ctx context.Context, id uuid.UUID) (model.QoS, error)
	CreateQoS(ctx context.Context, q model.QoS) (model.QoS, error)
	// EditQoS changes consumer and specs by a pure function, which may run again.
	EditQoS(ctx context.Context, id uuid.UUID, edit func(*model.QoS) error) (model.QoS, error)
	// DeleteQoS: model.ErrInUse while a type has them, unless forced.
	DeleteQoS(ctx context.Context, id uuid.UUID, force bool) error
	QoSTypes(ctx context.Context, id uuid.UUID) ([]model.VolumeType, error)
	// AssociateQoS: model.ErrConflict, in words for users, if the type has others.
	AssociateQoS(ctx context.Context, id, volumeType uuid.UUID) error
	// DisassociateQoS takes them from a type, from all if it is nil.
	DisassociateQoS(ctx context.Context, id uuid.UUID, volumeType *uuid.UUID) error
}

// TransferStore is the part of a [Store] that holds transfers, those that are open.
type TransferStore interface {
	// CreateTransfer moves the volume to awaiting-transfer: model.ErrConflict, in words for
	// users, if it or a snapshot that goes with it is not available.
	CreateTransfer(ctx context.Context, t model.Transfer) (model.Transfer, error)
	// Transfer of a volume of projectID; "" sees all.
	Transfer(ctx context.Context, id uuid.UUID, projectID string) (model.Transfer, error)
	ListTransfers(ctx context.Context, q model.ListQuery) ([]model.Transfer, error)
	DeleteTransfer(ctx context.Context, id uuid.UUID) error
	// AcceptTransfer gives the volume to a project, if its quotas have room for it, else
	// *model.QuotaError; model.ErrConflict, in words for users, if it is in another status.
	AcceptTransfer(ctx context.Context, id uuid.UUID, projectID, userID string) (model.Transfer, error)
}

// Projects is asked whether a project exists, with the caller's token.
type Projects interface {
	// Project: keystone.ErrUnreachable if nobody can tell.
	Project(ctx context.Context, id keystone.Identity, project string) (exists bool, err error)
}
