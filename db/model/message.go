package model

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// Message is one row of table messages: why something a user asked for failed.
type Message struct {
	ID           uuid.UUID  `db:"id"`
	ProjectID    string     `db:"project_id"`
	RequestID    string     `db:"request_id"`    // of the request that failed, "" if that is not known
	ResourceType string     `db:"resource_type"` // VOLUME, …
	ResourceUUID *uuid.UUID `db:"resource_uuid"`
	EventID      string     `db:"event_id"` // an [Event]
	Level        string     `db:"message_level"`
	UserMessage  string     `db:"user_message"`
	CreatedAt    time.Time  `db:"created_at"`
	ExpiresAt    time.Time  `db:"expires_at"`
}

// Resources that messages are about.
const (
	ResourceVolume   = "VOLUME"
	ResourceSnapshot = "VOLUME_SNAPSHOT"
	ResourceBackup   = "VOLUME_BACKUP"
)

// Event is the kind of a message, VOLUME_<resource>_<action>_<detail>: VOLUME_VOLUME_001_003.
// Actions, details and their texts are those of cinder/message/message_field.py, which clients know.
type Event string

// NewEvent of an action and a detail, as three digits each.
func NewEvent(resource, action, detail string) Event {
	return Event("VOLUME_" + resource + "_" + action + "_" + detail)
}

// Text is what went wrong with which action, in Cinder's words.
func (e Event) Text() string {
	parts := strings.Split(string(e), "_")
	if len(parts) < 2 {
		return actionText("") + ":" + detailText("")
	}
	return actionText(parts[len(parts)-2]) + ":" + detailText(parts[len(parts)-1])
}

// Because is Text with the reason, "" if there is none to tell: what Cinder keeps from users
// is what helps them and their operator.
func (e Event) Because(reason string) string {
	if reason == "" {
		return e.Text()
	}
	return e.Text() + " (" + reason + ")"
}

// VolumeMessage is a message for a volume's owner. Its id, level and times are set by the store.
func VolumeMessage(e Event, v *Volume, reason string) Message {
	id := v.ID
	return Message{
		ProjectID: v.ProjectID, RequestID: v.RequestID, ResourceType: ResourceVolume, ResourceUUID: &id,
		EventID: string(e), UserMessage: e.Because(reason),
	}
}

// Actions.
const (
	ActionScheduleVolume    = "001"
	ActionAttachVolume      = "002"
	ActionCopyVolumeToImage = "003"
	ActionUpdateAttachment  = "004"
	ActionCopyImageToVolume = "005"
	ActionUnmanageVolume    = "006"
	ActionExtendVolume      = "007"
	ActionCreateFromBackend = "008"
	ActionCreateSnapshot    = "009"
	ActionDeleteSnapshot    = "010"
	ActionUpdateSnapshot    = "011"
	ActionUpdateSnapshotMD  = "012"
	ActionCreateBackup      = "013"
	ActionDeleteBackup      = "014"
	ActionRestoreBackup     = "015"
	ActionReimageVolume     = "016"
)

func actionText(id string) string {
	switch id {
	case ActionScheduleVolume:
		return "schedule allocate volume"
	case ActionAttachVolume:
		return "attach volume"
	case ActionCopyVolumeToImage:
		return "copy volume to image"
	case ActionUpdateAttachment:
		return "update attachment"
	case ActionCopyImageToVolume:
		return "copy image to volume"
	case ActionUnmanageVolume:
		return "unmanage volume"
	case ActionExtendVolume:
		return "extend volume"
	case ActionCreateFromBackend:
		return "create volume from backend storage"
	case ActionCreateSnapshot:
		return "create snapshot"
	case ActionDeleteSnapshot:
		return "delete snapshot"
	case ActionUpdateSnapshot:
		return "update snapshot"
	case ActionUpdateSnapshotMD:
		return "update snapshot metadata"
	case ActionCreateBackup:
		return "create backup"
	case ActionDeleteBackup:
		return "delete backup"
	case ActionRestoreBackup:
		return "restore backup"
	case ActionReimageVolume:
		return "reimage volume"
	}
	return "unknown action"
}

// Details.
const (
	DetailUnknownError         = "001"
	DetailNotInitialized       = "002"
	DetailNoBackend            = "003"
	DetailUploadFailed         = "004"
	DetailAttachModeInvalid    = "005"
	DetailQuotaExceeded        = "006"
	DetailNoSpaceForImage      = "007"
	DetailUnmanageEncrypted    = "008"
	DetailExtendNotified       = "009"
	DetailExtendFailed         = "010"
	DetailSignatureWrong       = "011"
	DetailCreateFailed         = "012"
	DetailSnapshotCreateFailed = "013"
	DetailSnapshotUpdateFailed = "014"
	DetailSnapshotBusy         = "015"
	DetailSnapshotDeleteFailed = "016"
	DetailBackupState          = "017"
	DetailBackupServiceDown    = "018"
	DetailBackupDevice         = "019"
	DetailBackupCreateFailed   = "020"
	DetailAttachFailed         = "021"
	DetailDetachFailed         = "022"
	DetailBackupCleanup        = "023"
	DetailBackupNotScheduled   = "024"
	DetailBackupDeleteFailed   = "025"
	DetailBackupRestoreFailed  = "026"
	DetailVolumeState          = "027"
	DetailReimageNotified      = "028"
	DetailImageFormat          = "029"
)

func detailText(id string) string {
	switch id {
	case DetailNotInitialized:
		return "Driver is not initialized at present."
	case DetailNoBackend:
		return "Could not find any available weighted backend."
	case DetailUploadFailed:
		return "Failed to upload volume to image at backend."
	case DetailAttachModeInvalid:
		return "Volume's attach mode is invalid."
	case DetailQuotaExceeded:
		return "Not enough quota resource for operation."
	case DetailNoSpaceForImage:
		return "Image used for creating volume exceeds available space."
	case DetailUnmanageEncrypted:
		return "Unmanaging encrypted volumes is not supported."
	case DetailExtendNotified:
		return "Compute service failed to extend volume."
	case DetailExtendFailed:
		return "Volume Driver failed to extend volume."
	case DetailSignatureWrong:
		return "Image signature verification failed."
	case DetailCreateFailed:
		return "Driver failed to create the volume."
	case DetailSnapshotCreateFailed:
		return "Snapshot failed to create."
	case DetailSnapshotUpdateFailed:
		return "Volume snapshot update metadata failed."
	case DetailSnapshotBusy:
		return "Snapshot is busy."
	case DetailSnapshotDeleteFailed:
		return "Snapshot failed to delete."
	case DetailBackupState:
		return "Backup status is invalid."
	case DetailBackupServiceDown:
		return "Backup service is down."
	case DetailBackupDevice:
		return "Failed to get backup device from the volume service."
	case DetailBackupCreateFailed:
		return "Backup driver failed to create backup."
	case DetailAttachFailed:
		return "Failed to attach volume."
	case DetailDetachFailed:
		return "Failed to detach volume."
	case DetailBackupCleanup:
		return "Cleanup of temporary volume/snapshot failed."
	case DetailBackupNotScheduled:
		return "Backup failed to schedule. Service not found for creating backup."
	case DetailBackupDeleteFailed:
		return "Backup driver failed to delete backup."
	case DetailBackupRestoreFailed:
		return "Backup driver failed to restore backup."
	case DetailVolumeState:
		return "Volume status is invalid."
	case DetailReimageNotified:
		return "Compute service failed to reimage volume."
	case DetailImageFormat:
		return "The image disk format must be the same as the volume format for the volume type you are requesting."
	}
	return "An unknown error occurred."
}
