package model

import (
	"time"

	"github.com/google/uuid"
)

// A task is long data work on one node: an upload of a volume to the image service, a
// backup. (A job, by contrast, is the control plane's own.) It belongs to a volume, or to
// one of its snapshots, and is a row in table tasks. While the row is running the node's
// document has it ([DesiredTask]) with the device that it works on ([DesiredVolume]), and the
// node's reports tell how far it is ([ObservedTask]). What a report tells of its end is acted
// upon in one transaction, which also changes the status of whatever waited for it; from
// then on the document says that nothing of it is to remain, and when the node reports
// that, the row goes. So a crash of anybody at any point is gone on from, and nothing is
// left behind.
//
// The work must be done twice as well as once, and by somebody who has forgotten all: an
// agent that starts is sent the task and begins it anew, from what it finds on its disk and
// at the other end.
//
// To add a kind:
//
//   - name it here, with the forms of its Args and Result (JSON; no secrets: nodes have
//     the service's own credentials);
//   - do it on the node: a [driver.TaskWorker], put into agent.Drivers.Tasks in
//     cmd/internal/wire;
//   - begin it: [scheduler.Service.beginTask] in the transaction that moves the volume, or
//     what else belongs to the work, to the status that says so;
//   - end it: an entry in taskKinds of package scheduler.
type Task struct {
	ID         uuid.UUID  `db:"id"` // also that of its copy's devices
	Kind       TaskKind   `db:"kind"`
	Status     TaskStatus `db:"status"`
	Host       string     `db:"host"` // the node that does it
	VolumeID   uuid.UUID  `db:"volume_id"`
	SnapshotID *uuid.UUID `db:"snapshot_id"` // nil: it is about the volume as it is now
	Access     TaskAccess `db:"access"`
	// The frozen copy: the image below (nil: zeros), its size, and the numbers of its thin
	// device and of the one that this is a copy of (nil: nothing was ever written).
	ImageID      *uuid.UUID `db:"image_id"`
	Bytes        int64      `db:"bytes"`
	ThinID       *int64     `db:"thin_id"`
	SourceThin   *int64     `db:"source_thin"`
	Materialized bool       `db:"materialized"`
	Secret       string     `db:"secret"` // CHAP, where one node lets another read
	Args         JSON       `db:"args"`
	Result       JSON       `db:"result"` // when it has succeeded
	// How far it is, as its node reports. Total is 0 while unknown.
	Phase string `db:"phase"`
	Done  int64  `db:"done"`  // bytes
	Total int64  `db:"total"` // bytes
	// Error is why it has failed, or what is in the way of one that is running.
	Error     *string   `db:"error"`
	ProjectID string    `db:"project_id"` // who asked for it
	UserID    string    `db:"user_id"`
	RequestID string    `db:"request_id"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// Ended tells whether the task is over and was acted upon.
func (t *Task) Ended() bool { return t.Status == TaskSucceeded || t.Status == TaskFailed }

// TaskKind names long data work.
type TaskKind string

// Kinds of tasks.
const (
	TaskUploadImage TaskKind = "upload-image" // Args [UploadArgs], Result [UploadResult]
	// TaskMigrate fills a thin device on a volume's new home with what [TaskServe] lets that read
	// on the old one. The two begin and end together.
	TaskMigrate TaskKind = "migrate" // Args [MigrateArgs]
	TaskServe   TaskKind = "serve"   // Args [ServeArgs]
	// Args of these are [BackupArgs].
	TaskCreateBackup  TaskKind = "create-backup" // Result [BackupResult]
	TaskRestoreBackup TaskKind = "restore-backup"
	TaskDeleteBackup  TaskKind = "delete-backup"
)

// TaskStatus is how far a task is.
type TaskStatus string

// Statuses of a task.
const (
	TaskQueued    TaskStatus = "queued"  // being prepared; its node is not told yet
	TaskRunning   TaskStatus = "running" // its node is at it
	TaskSucceeded TaskStatus = "succeeded"
	TaskFailed    TaskStatus = "failed"
)

// TaskAccess is what a task works on.
type TaskAccess string

// Accesses.
const (
	// TaskCopy reads what the volume or snapshot holds when the task begins, through
	// devices of its own. The volume may be in use and is not held up.
	TaskCopy TaskAccess = "copy"
	// TaskVolume has the volume's own device, and may write to it.
	TaskVolume TaskAccess = "volume"
	// TaskFill writes to a device of its own, over the same image, which begins with nothing
	// written to it.
	TaskFill TaskAccess = "fill"
	// TaskNone needs no device. The volume that the task names need not be there.
	TaskNone TaskAccess = "none"
)

// TaskMove is a guarded change of status: done only if the status is one of From.
type TaskMove struct {
	From   []TaskStatus
	To     TaskStatus
	Result JSON    // set with it, unless it is nil
	Error  *string // set with it; nil clears it
}

// TaskEnd is the end of a task as its node reports it.
type TaskEnd struct {
	ID     uuid.UUID
	Failed bool
	Result JSON
	Error  string
}

// UploadArgs of [TaskUploadImage].
type UploadArgs struct {
	ImageID    string `json:"image_id"` // in the image service; made before by the API
	DiskFormat string `json:"disk_format"`
}

// UploadResult of [TaskUploadImage].
type UploadResult struct {
	Bytes     int64  `json:"bytes"` // that were sent
	HashAlgo  string `json:"os_hash_algo"`
	HashValue string `json:"os_hash_value"`
}

// MigrateArgs of [TaskMigrate].
type MigrateArgs struct {
	Host    string `json:"host"`    // the old home
	Address string `json:"address"` // IP:PORT of its portal
}

// ServeArgs of [TaskServe].
type ServeArgs struct {
	Host      string    `json:"host"`      // that may read
	Initiator string    `json:"initiator"` // IQN of that
	For       uuid.UUID `json:"for"`       // the [TaskMigrate]
}

// ServeID is the id of the [TaskServe] that belongs to a [TaskMigrate].
func ServeID(migrate uuid.UUID) uuid.UUID { return uuid.NewSHA1(migrate, []byte("serve")) }
