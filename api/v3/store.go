package v3

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/db/model"
)

// Store is what the REST API reads and writes itself. Methods return
// model.ErrNotFound, ErrConflict, ErrExists, ErrInUse and ErrUnavailable.
type Store interface {
	TypeStore
	QoSStore
	TransferStore
	GroupStore

	// Volume returns one volume with its attachments; projectID "" sees all.
	Volume(ctx context.Context, id uuid.UUID, projectID string) (model.Volume, error)
	ListVolumes(ctx context.Context, q model.ListQuery) ([]model.Volume, error)
	CountVolumes(ctx context.Context, q model.ListQuery) (int, error)
	PatchVolume(ctx context.Context, id uuid.UUID, p model.VolumePatch) (model.Volume, error)
	// EditVolumeMaps changes metadata and image metadata in one transaction, by a pure function.
	EditVolumeMaps(ctx context.Context, id uuid.UUID, edit func(metadata, imageMetadata model.StringMap) error) (model.Volume, error)
	// MoveVolume is a guarded change of status, else ErrConflict.
	MoveVolume(ctx context.Context, id uuid.UUID, m model.VolumeMove) (model.Volume, error)
	// ResetVolume writes statuses unguarded (os-reset_status); attach status detached drops the attachments.
	ResetVolume(ctx context.Context, id uuid.UUID, status *model.VolumeStatus, attach *model.AttachStatus, migration *string) error
	Summary(ctx context.Context, projectID string) (count int, gib int64, metadata map[string][]string, err error)

	Snapshot(ctx context.Context, id uuid.UUID, projectID string) (model.Snapshot, error)
	ListSnapshots(ctx context.Context, q model.ListQuery) ([]model.Snapshot, error)
	CountSnapshots(ctx context.Context, q model.ListQuery) (int, error)
	// SnapshotsOf a volume, the oldest first.
	SnapshotsOf(ctx context.Context, volume uuid.UUID) ([]model.Snapshot, error)
	PatchSnapshot(ctx context.Context, id uuid.UUID, p model.SnapshotPatch) (model.Snapshot, error)
	EditSnapshotMetadata(ctx context.Context, id uuid.UUID, edit func(metadata model.StringMap) error) (model.Snapshot, error)
	// MoveSnapshot is a guarded change of status, else ErrConflict.
	MoveSnapshot(ctx context.Context, id uuid.UUID, m model.SnapshotMove) (model.Snapshot, error)

	Backup(ctx context.Context, id uuid.UUID, projectID string) (model.Backup, error)
	ListBackups(ctx context.Context, q model.ListQuery) ([]model.Backup, error)
	CountBackups(ctx context.Context, q model.ListQuery) (int, error)
	PatchBackup(ctx context.Context, id uuid.UUID, p model.BackupPatch) (model.Backup, error)
	// MoveBackup is a guarded change of status, else ErrConflict.
	MoveBackup(ctx context.Context, id uuid.UUID, m model.BackupMove) (model.Backup, error)
	// ImportBackup inserts a backup that is in the store already; one of its id is ErrExists, one
	// more than quotas have room for a *[model.QuotaError].
	ImportBackup(ctx context.Context, b model.Backup) (model.Backup, error)

	// Reserve makes an attachment without connector and moves the volume to reserved, guarded
	// by the rules of Cinder's attachment_create (available, or in use by the same instance, or multiattach).
	// model.ErrConflict with the volume's status in the message otherwise.
	Reserve(ctx context.Context, a model.Attachment) (model.Attachment, error)
	Attachment(ctx context.Context, id uuid.UUID, projectID string) (model.Attachment, error)
	ListAttachments(ctx context.Context, q model.ListQuery) ([]model.Attachment, error)
	// CompleteAttachment: attaching -> attached, volume in-use.
	CompleteAttachment(ctx context.Context, id uuid.UUID) error

	Nodes(ctx context.Context) ([]model.Node, error)
	Services(ctx context.Context) ([]model.Service, error)
	SetNodeEnabled(ctx context.Context, host string, enabled bool, reason *string) error
	SetNodeFrozen(ctx context.Context, host string, frozen bool) error
	// ForgetPool lets a node take the pool that it finds; what was in the one before is lost.
	ForgetPool(ctx context.Context, host string) error
	// Allocated sums the sizes of volumes (GiB) and counts them by home.
	Allocated(ctx context.Context) (map[string]Allocation, error)

	// SharesOf a node: what each project has there, ordered by project.
	SharesOf(ctx context.Context, host string) ([]model.Share, error)

	// Usage of a project by resource, those of volume types included.
	Usage(ctx context.Context, projectID string) (map[string]int64, error)
	// Limits of a project: its quotas over those of class default, over what the
	// configuration says. "" has the defaults.
	Limits(ctx context.Context, projectID string) (map[string]int64, error)
	// SetQuotas gives a project limits of its own. One that it had before and that would be
	// below what it uses is a *model.BelowUsage, and nothing is written.
	SetQuotas(ctx context.Context, projectID string, limits map[string]int64) error
	DeleteQuotas(ctx context.Context, projectID string) error
	// ClassLimits of a quota class: its own over those of class default.
	ClassLimits(ctx context.Context, class string) (map[string]int64, error)
	SetClassLimits(ctx context.Context, class string, limits map[string]int64) error

	// TasksOf returns the long data work on a volume that is under way, the oldest first.
	TasksOf(ctx context.Context, volume uuid.UUID) ([]model.Task, error)

	Messages(ctx context.Context, q model.ListQuery) ([]model.Message, error)
	Message(ctx context.Context, id uuid.UUID, projectID string) (model.Message, error)
	DeleteMessage(ctx context.Context, id uuid.UUID, projectID string) error

	// Image and Images: what our trees hold, with the state of imports.
	Image(ctx context.Context, id uuid.UUID) (model.Image, error)
	Images(ctx context.Context) ([]model.Image, error)
	Members(ctx context.Context, image uuid.UUID) ([]model.Member, error)
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
}

// Allocation of one host.
type Allocation = model.Allocation

// Scheduler does what takes more than the database: it chooses nodes and talks to them.
type Scheduler interface {
	GroupScheduler

	// Create makes all volumes or none. image is nil for blank ones. More than the
	// project's quotas have room for are a *[model.QuotaError], and none is made.
	Create(ctx context.Context, vols []model.Volume, specs model.StringMap, image *model.Image) ([]model.Volume, error)
	// Delete moves the volume to deleting (guarded; force skips the guard on status,
	// never that on attachments) and returns; the rest goes on behind.
	Delete(ctx context.Context, id uuid.UUID, o model.DeleteOptions) error
	// Copy makes all volumes, each from SnapshotID or SourceVolID, or none; specs are those of their
	// type. ErrConflict: the source is in no status to be copied from; ErrInvalid: the volume is smaller.
	Copy(ctx context.Context, vols []model.Volume, specs model.StringMap) ([]model.Volume, error)
	// Retype gives a volume whose status is one of from another type, else ErrConflict. One whose node
	// is not for that moves if move is true, at once or behind: ErrImmovable if it can't as it is.
	// Where there is no node for it its owner gets a message, and it keeps its type.
	Retype(ctx context.Context, id uuid.UUID, to model.VolumeType, move bool, from []model.VolumeStatus, who model.Task) error
	// Snapshot takes all snapshots or none, of volumes whose status is one of from, else ErrConflict.
	Snapshot(ctx context.Context, snaps []model.Snapshot, from []model.VolumeStatus) ([]model.Snapshot, error)
	// DeleteSnapshot whose status is one of from (nil: any), else ErrConflict.
	DeleteSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) error
	// Revert brings an available volume back to what one of its snapshots holds, else ErrConflict.
	Revert(ctx context.Context, volume, snapshot uuid.UUID) error
	// Extend gives a volume whose status is one of from a larger size in GiB, else ErrConflict.
	Extend(ctx context.Context, id uuid.UUID, gib int, from []model.VolumeStatus) error
	// Reimage has a volume whose status is one of from begin anew from an image, else ErrConflict.
	Reimage(ctx context.Context, id uuid.UUID, image model.Image, metadata model.StringMap, from []model.VolumeStatus) error
	// Connect brings the volume to the connector's host and returns when the device or
	// target stands: attachment attaching, with connection_info.
	Connect(ctx context.Context, attachment uuid.UUID, c model.Connector, rawConnector []byte, mode string) (model.Attachment, error)
	// Disconnect takes the attachment away, at the node first, then its row, and returns
	// those that remain of the volume.
	Disconnect(ctx context.Context, attachment uuid.UUID) ([]model.Attachment, error)
	// Warm gives hosts a place in the image's tree that is kept while no volume needs it.
	// An image that is not here is imported first: the status that is returned is not
	// active then, and no host has been given a place. model.ErrInvalid names hosts that
	// can't have one, and then none gets one.
	Warm(ctx context.Context, image model.Image, hosts []string) (model.ImageStatus, error)
	// Unwarm lets hosts go again, as soon as no volume there needs the image.
	Unwarm(ctx context.Context, image uuid.UUID, hosts []string) error
	// Drain prepares a node for being taken out of service, or ends that; Drained tells what is left there.
	// model.ErrNotFound if there is no such node.
	Drain(ctx context.Context, host string, on bool) error
	Drained(ctx context.Context, host string) (model.Drain, error)
	// Doctor looks for what is wrong on the nodes and in the database, and mends what is safe if c says
	// so. ErrInvalid and ErrNotFound: c names what can't be, or what is not there.
	Doctor(ctx context.Context, c model.Checkup) (model.Diagnosis, error)
	// Manageable lists what a node's pool holds that is a volume, or a snapshot, or could become one.
	Manageable(ctx context.Context, host string, kind model.Kind) ([]model.Manageable, error)
	// Manage makes a volume of what the reference names in a node's pool; in status error_managing if
	// that can't be. Without a host only what is nowhere is found, and everything else is ErrInvalid.
	// specs are those of its type.
	Manage(ctx context.Context, v model.Volume, specs model.StringMap, host string, ref model.ManageRef) (model.Volume, error)
	// Unmanage has a volume forgotten and its data left where they are; ErrConflict in a status in
	// which that can't be.
	Unmanage(ctx context.Context, id uuid.UUID) error
	// ManageSnapshot makes a snapshot of a volume of what the reference names at the volume's home; in
	// status error if that can't be.
	ManageSnapshot(ctx context.Context, sn model.Snapshot, ref model.ManageRef) (model.Snapshot, error)
	// UnmanageSnapshot whose status is one of from, else ErrConflict.
	UnmanageSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) error
	// Migrate moves an available volume to another node, at once or behind: ErrConflict in a state in
	// which that can't be, ErrInvalid to a node that can't have it, ErrInUse while its device stands.
	// who says who asks.
	Migrate(ctx context.Context, id uuid.UUID, host string, who model.Task) error
	// BeginUpload moves a volume whose status is one of from to uploading, else ErrConflict, and
	// sets the work aside: StartUpload has it done, CancelUpload takes it back. k says who asks.
	BeginUpload(ctx context.Context, volume uuid.UUID, args model.UploadArgs, k model.Task, from []model.VolumeStatus) (model.Task, error)
	StartUpload(ctx context.Context, task uuid.UUID) error
	CancelUpload(ctx context.Context, task uuid.UUID, why string) error
	// CreateBackup begins a backup; k says who asks. Why there can be none as things are is a
	// *[model.Refused]; one more than quotas have room for a *[model.QuotaError].
	CreateBackup(ctx context.Context, b model.Backup, o model.BackupOptions, k model.Task) (model.Backup, error)
	// Restore overwrites an available volume with a backup, RestoreNew makes a blank volume in a
	// status and restores to that. Errors are those of CreateBackup, and ErrUnavailable if there is
	// no node that could do it.
	Restore(ctx context.Context, backup, volume uuid.UUID, k model.Task) error
	RestoreNew(ctx context.Context, backup uuid.UUID, v model.Volume, status model.VolumeStatus, k model.Task) (model.Volume, error)
	// DeleteBackup deletes one whose status allows that (any, with force), and that no other needs.
	DeleteBackup(ctx context.Context, id uuid.UUID, force bool, k model.Task) error
	// Healthy returns nil if the message bus can be reached.
	Healthy(ctx context.Context) error
}

// Glance answers for images, with the caller's token, so that what is not theirs is not found.
type Glance interface {
	// Image by id or unique name: model.ErrNotFound, model.ErrInvalid (ambiguous, or not active).
	Image(ctx context.Context, who keystone.Identity, ref string) (model.Image, error)
	// Create makes an image without data that is the caller's. What the service refuses is
	// model.ErrInvalid, in its own words.
	Create(ctx context.Context, who keystone.Identity, image NewImage) (NewImage, error)
}

// NewImage is an image that gets its data later: what is asked for, and what was made.
type NewImage struct {
	ID                          uuid.UUID
	Name                        string
	DiskFormat, ContainerFormat string
	Visibility                  string // "": the image service's default
	Protected                   *bool
	Properties                  model.StringMap
}

// ErrAmbiguous is the [Glance] error for a name that several images have. It is model.ErrInvalid too.
var ErrAmbiguous = fmt.Errorf("more than one image has this name: %w", model.ErrInvalid)
