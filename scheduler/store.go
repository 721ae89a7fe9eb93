package scheduler

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Store is what the scheduler needs of the database. Every method is one
// transaction; none is held open while the caller does something else.
// Methods return model.ErrNotFound, ErrConflict and ErrUnavailable.
type Store interface {
	// CreateVolumes inserts all volumes or none. With an image, its row is made if it
	// is not there (status queued, with a job import-image; once, however many ask
	// at the same time), and the volumes become available if the image is active,
	// downloading otherwise. A volume smaller than an active image's virtual size is
	// ErrInvalid, more volumes than a quota has room for are a *model.QuotaError. The rows
	// as written are returned, in order.
	CreateVolumes(ctx context.Context, vols []model.Volume, image *model.Image) ([]model.Volume, error)
	Volume(ctx context.Context, id uuid.UUID) (model.Volume, error)
	// Attachment returns an attachment and its volume with all its attachments, unlocked.
	Attachment(ctx context.Context, id uuid.UUID) (model.Attachment, model.Volume, error)
	// MoveVolume changes the status if it is one of From, else ErrConflict.
	MoveVolume(ctx context.Context, id uuid.UUID, m model.VolumeMove) (model.Volume, error)
	// DeleteRow removes a volume that is deleting, with its attachments; its home's generation
	// grows. ErrInUse while it has snapshots.
	DeleteRow(ctx context.Context, id uuid.UUID) error

	// CreateCopies inserts volumes made from a snapshot or another volume, all or none; those
	// whose source has data have its home, and are creating until that has made theirs.
	CreateCopies(ctx context.Context, vols []model.Volume) ([]model.Volume, error)
	// CreateSnapshots takes all snapshots or none, of volumes in one of the statuses.
	CreateSnapshots(ctx context.Context, snaps []model.Snapshot, from []model.VolumeStatus) ([]model.Snapshot, error)
	// CreateGroupSnapshot takes snapshots of all volumes of a group, or none.
	CreateGroupSnapshot(ctx context.Context, p model.GroupSnapshot) (model.GroupSnapshot, []model.Snapshot, error)
	// DeleteGroupSnapshot has a group snapshot and its snapshots, which it returns, become deleting.
	DeleteGroupSnapshot(ctx context.Context, id uuid.UUID) ([]model.Snapshot, error)
	// CopyGroup makes a group from a group snapshot or another group, with its volumes, or nothing.
	CopyGroup(ctx context.Context, g model.Group) (model.Group, []model.Volume, error)
	// DeleteGroup has a group and its volumes, which it returns, become deleting.
	DeleteGroup(ctx context.Context, id uuid.UUID, volumes bool) ([]model.Volume, error)
	// MoveSnapshot changes the status if it is one of From, else ErrConflict.
	MoveSnapshot(ctx context.Context, id uuid.UUID, m model.SnapshotMove) (model.Snapshot, error)
	// DeleteSnapshotRow removes a snapshot that is deleting and tells whose it was; its home's
	// generation grows.
	DeleteSnapshotRow(ctx context.Context, id uuid.UUID) (volume uuid.UUID, err error)
	// ExtendVolume writes a larger size; one whose device stands is extending until FinishExtend.
	ExtendVolume(ctx context.Context, id uuid.UUID, gib int, from []model.VolumeStatus) (model.Volume, error)
	FinishExtend(ctx context.Context, id uuid.UUID) (model.Volume, error)
	// Reimage has a volume begin anew from an image, made as by CreateVolumes.
	Reimage(ctx context.Context, id uuid.UUID, image model.Image, metadata model.StringMap, from []model.VolumeStatus) (model.Volume, error)

	// Storage is what is known of a node's pool.
	Storage(ctx context.Context, host string) (model.Storage, error)
	// Adopt inserts a volume that is kept on what was there before; ErrConflict if something has
	// got that meanwhile.
	Adopt(ctx context.Context, v model.Volume, a model.Adoption) (model.Volume, error)
	// AdoptFailed inserts a volume that could not be managed.
	AdoptFailed(ctx context.Context, v model.Volume, reason string) (model.Volume, error)
	// AdoptSnapshot and AdoptSnapshotFailed are the same for a snapshot of the volume that it names.
	AdoptSnapshot(ctx context.Context, sn model.Snapshot, a model.Adoption) (model.Snapshot, error)
	AdoptSnapshotFailed(ctx context.Context, sn model.Snapshot, reason string) (model.Snapshot, error)
	// UnmanageSnapshot removes a snapshot whose status is one of from and remembers what it was.
	UnmanageSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) (home *string, err error)
	// FinishUnmanage removes a volume that is unmanaging and remembers what it was.
	FinishUnmanage(ctx context.Context, id uuid.UUID) error
	// ForgetUnmanaged forgets what is gone from a host's pool.
	ForgetUnmanaged(ctx context.Context, host string, which []uuid.UUID) error

	// Tx gives fn a consistent view and the locks below for one short transaction,
	// retried on serialization failures. fn does no I/O but through t.
	Tx(ctx context.Context, fn func(t Tx) error) error

	Node(ctx context.Context, host string) (model.Node, error)
	Nodes(ctx context.Context) ([]model.Node, error)
	// NodeState reads in one snapshot all that Desired for a host is computed from.
	NodeState(ctx context.Context, host string) (NodeState, error)
	// SaveObserved records a report: the node's row (made on first sight; alive,
	// last_seen), its members' counters and states, its volumes' materialized flags,
	// the import's progress. It tells what changed that somebody has to act upon.
	SaveObserved(ctx context.Context, o model.Observed) (Changes, error)
	// LoseNodes marks nodes not seen since the given time as not alive and returns them.
	LoseNodes(ctx context.Context, before time.Time) ([]string, error)

	Image(ctx context.Context, id uuid.UUID) (model.Image, error)
	Images(ctx context.Context) ([]model.Image, error)
	Members(ctx context.Context, image uuid.UUID) ([]model.Member, error)
	// FinishImport makes an importing image active with its sizes and its waiting
	// volumes available; those too small for it get status error and a message.
	// It returns the hosts and volumes concerned.
	FinishImport(ctx context.Context, image uuid.UUID, virtualBytes, deviceBytes int64) error
	// FailImport sets the image's status error, its waiting volumes' status error with
	// the reason, and a user message of the event for each.
	FailImport(ctx context.Context, image uuid.UUID, event model.Event, reason string) error

	// TakeJob takes one due job for the given time, or returns model.ErrNotFound.
	TakeJob(ctx context.Context, holder string, lease time.Duration) (model.Job, error)
	FinishJob(ctx context.Context, id int64) error
	RetryJob(ctx context.Context, id int64, at time.Time, reason string) error

	Backup(ctx context.Context, id uuid.UUID, projectID string) (model.Backup, error)

	Task(ctx context.Context, id uuid.UUID) (model.Task, error)
	// OpenTasks returns those that have not ended, the oldest first.
	OpenTasks(ctx context.Context) ([]model.Task, error)

	// Lead takes or renews the named lease for the holder; false if another has it.
	Lead(ctx context.Context, name, holder string, lease time.Duration) (bool, error)
	// SetNodeDraining has a node drain, or not any more.
	SetNodeDraining(ctx context.Context, host string, on bool) error
	// Beat records that this replica lives.
	Beat(ctx context.Context, host, binary string) error
	AddMessage(ctx context.Context, m model.Message) error

	// Census reads in one snapshot what in the database must agree with itself.
	Census(ctx context.Context) (model.Census, error)
	// ReadTree reads in one snapshot an image and all that its tree is judged by.
	ReadTree(ctx context.Context, image uuid.UUID) (model.Tree, error)
	// HomesOf are the hosts that a volume, or an image's tree, is on.
	HomesOf(ctx context.Context, volume, image *uuid.UUID) ([]string, error)
	// RecountUsage makes a project's usage what its rows sum up to; RaiseThinNumbers a node's next thin
	// number one that no row has.
	RecountUsage(ctx context.Context, project string) (int, error)
	RaiseThinNumbers(ctx context.Context, host string) error
	// AttachOptions are what a volume's type says of its attachments.
	AttachOptions(ctx context.Context, volumeType uuid.UUID) (model.AttachOptions, error)
}

// Tx is what a scheduling transaction can do.
type Tx interface {
	// LockImage returns the image's row, locked against other placements in its tree.
	LockImage(id uuid.UUID) (model.Image, error)
	// WantImage makes the image's row and starts its import where CreateVolumes would, and
	// returns it, locked.
	WantImage(image model.Image) (model.Image, error)
	SetImage(id uuid.UUID, status model.ImageStatus, reason *string) error
	// LockVolume returns the volume's row with its attachments, locked.
	LockVolume(id uuid.UUID) (model.Volume, error)
	// LockAttachment locks the attachment's volume and returns both rows, the volume with all its attachments.
	LockAttachment(id uuid.UUID) (model.Attachment, model.Volume, error)
	// GroupHome locks a group and returns the host that its volumes must live on, nil if there
	// is none yet or they may live anywhere.
	GroupHome(group uuid.UUID) (*string, error)
	// SetHome gives the volume a home and a thin number there.
	SetHome(id uuid.UUID, host string) (thin int64, err error)
	SetVolumeStatus(id uuid.UUID, s model.VolumeStatus, a model.AttachStatus, reason *string) error
	// UpdateAttachment writes attach_status, attached_host, mountpoint, attach_mode, connector,
	// connection_info, chap_secret, attached_at.
	UpdateAttachment(a model.Attachment) error
	// LockSnapshotsOf returns a volume's snapshots, locked, the oldest first.
	LockSnapshotsOf(volume uuid.UUID) ([]model.Snapshot, error)
	SetSnapshotStatus(id uuid.UUID, s model.SnapshotStatus, reason *string) error
	// Revert makes an available volume begin anew as a copy of one of its snapshots.
	Revert(volume, snapshot uuid.UUID) (model.Volume, error)
	DeleteAttachment(id uuid.UUID) error

	Nodes() ([]model.Node, error)
	// NodesOf returns those of the hosts that are known.
	NodesOf(hosts ...string) ([]model.Node, error)
	Members(image uuid.UUID) ([]model.Member, error)
	// MembersOf returns those of the hosts that are members.
	MembersOf(image uuid.UUID, hosts ...string) ([]model.Member, error)
	// Frontier returns members that could take a child: state joining or active, alive node,
	// children < degree, shallowest first, at most limit.
	Frontier(image uuid.UUID, degree, limit int) ([]model.Member, error)
	Member(image uuid.UUID, host string) (model.Member, error)
	// PutMember inserts or updates role, state, parent, fallback, depth, pinned, secret, reason; a new
	// relay gets its thin numbers. The children counts of old and new parent follow.
	PutMember(m model.Member) error
	// Place writes a whole plan: added are relays that have no row; of changed ones state,
	// parent, fallback, depth, reason and, unless it is "", secret. Counts of children follow.
	Place(image uuid.UUID, added, changed []model.Member) error
	// Pin keeps relays in the tree, or no longer keeps them.
	Pin(image uuid.UUID, hosts []string, pinned bool) error
	DeleteMember(image uuid.UUID, host string) error
	// VolumesOf counts the image's volumes (of any status) by their homes.
	VolumesOf(image uuid.UUID) (map[string]int, error)
	// ImageUsed tells whether any volume (of any status) is made from the image.
	ImageUsed(image uuid.UUID) (bool, error)
	// DeleteImage removes the row of an image that has neither members nor volumes.
	DeleteImage(image uuid.UUID) error
	// Bump makes the generation of these hosts grow, so that they get a new document.
	Bump(hosts ...string) error
	AddJob(kind model.JobKind, subject string, at time.Time) error
	AddMessage(m model.Message) error

	// Rehome gives a volume the node of a task as its home and the thin device that this has filled.
	Rehome(v model.Volume, k model.Task) error
	// Wants returns the extra specs that a volume's home must fulfil: those of its type, and of those
	// that must live with it. GroupWants are those of a group's volumes, and where they are or are placed.
	Wants(v model.Volume) ([]model.StringMap, error)
	GroupWants(group uuid.UUID) (model.GroupWants, error)
	// SetPlaced writes where a volume without a home is to live.
	SetPlaced(id uuid.UUID, host *string) error
	// ReserveType is a *model.QuotaError if the quotas of another type have no room for a volume. It
	// locks the project, before anything else.
	ReserveType(v model.Volume, kind uuid.UUID) error
	// SetType gives a volume another type, and its snapshots.
	SetType(v model.Volume, kind uuid.UUID, multiattach bool) error
	// SetRetypeTo writes the type that a volume gets by FinishRetype.
	SetRetypeTo(id uuid.UUID, kind *uuid.UUID) error
	FinishRetype(v model.Volume) error
	// Unhome takes its home from a volume that nothing was ever written to.
	Unhome(v model.Volume) error
	SetMigrationStatus(id uuid.UUID, status string) error
	// RecountTree writes depths and counts of children as they follow from the parents.
	RecountTree(image uuid.UUID) (int, error)
	// PassingOf reads what is done to a volume, snapshot or backup.
	PassingOf(kind model.FindingKind, id uuid.UUID) (model.Passing, error)
	// AddTask inserts a task of a volume that is locked; one with SourceThin, or that fills a thin
	// device, gets a thin number.
	AddTask(k model.Task) (model.Task, error)
	// LockTask returns a task, locked after its volume, which may be gone.
	LockTask(id uuid.UUID) (model.Task, error)
	// MoveTask changes the status if it is one of From, else ErrConflict.
	MoveTask(id uuid.UUID, m model.TaskMove) (model.Task, error)
	// TasksOf returns a volume's tasks and those of its snapshots, the oldest first.
	TasksOf(volume uuid.UUID) ([]model.Task, error)
	// TasksOfBackup returns the tasks about a backup, the oldest first.
	TasksOfBackup(id uuid.UUID) ([]model.Task, error)

	// ReserveBackup returns a *model.QuotaError if there is no room for a backup; AddVolume inserts
	// a blank volume, if there is. Both lock the project, before anything else.
	ReserveBackup(project string, gib int) error
	AddVolume(v model.Volume, status model.VolumeStatus) (model.Volume, error)
	LockSnapshot(id uuid.UUID) (model.Snapshot, error)
	AddBackup(b model.Backup) (model.Backup, error)
	// LockBackup returns a backup, locked, after volumes and tasks.
	LockBackup(id uuid.UUID) (model.Backup, error)
	// BackupsOf returns a project's backups of a volume.
	BackupsOf(volume uuid.UUID, projectID string) ([]model.Backup, error)
	// BackupChildren counts the increments of a backup.
	BackupChildren(id uuid.UUID) (int, error)
	// MoveBackup changes the status if it is one of From, else ErrConflict.
	MoveBackup(id uuid.UUID, m model.BackupMove) (model.Backup, error)
	DeleteBackup(id uuid.UUID) error
	// Restored writes into a volume what it gets of the one that a backup was taken of.
	Restored(volume uuid.UUID, src model.BackupSource, from *uuid.UUID) error
	// DeleteTask removes a task that has ended.
	DeleteTask(id uuid.UUID) (model.Task, error)
}

// What the store hands out is defined where both sides can see it.
type (
	// NodeState is one node's part of the database, in one snapshot.
	NodeState = model.NodeState
	// ChildMember is a child with its node.
	ChildMember = model.ChildMember
	// Changes that a report brought.
	Changes = model.Changes
)
