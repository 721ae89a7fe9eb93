package view

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// BackupService is what made a backup, as its exported record says; clients expect the prefix.
const BackupService = "cinder.backup.drivers.vmthunder"

// BackupSummary is a backup as create, update and plain lists show it.
func (c Context) BackupSummary(b *model.Backup) Object {
	return Object{"id": b.ID, "name": b.Name, "links": c.Links("backups", b.ID.String())}
}

// Backup is a backup as show and detailed lists have it (cinder/api/v3/views/backups.py).
func (c Context) Backup(b *model.Backup) Object {
	o := c.BackupSummary(b)
	for k, v := range (Object{
		"status": b.Status, "size": b.SizeGiB, "object_count": b.ObjectCount, "availability_zone": b.AvailabilityZone,
		"container": b.Container, "created_at": Time(b.CreatedAt), "updated_at": TimeOrNil(b.UpdatedAt), "description": b.Description,
		"fail_reason": b.FailReason, "volume_id": b.VolumeID, "is_incremental": b.ParentID != nil,
		"has_dependent_backups": b.HasDependents, "snapshot_id": b.SnapshotID, "data_timestamp": Time(b.DataTimestamp),
	}) {
		o[k] = v
	}
	if c.Version >= 43 {
		o["metadata"] = copyOf(b.Metadata)
	}
	const owner = "backup:backup_project_attribute"
	if c.Version >= 18 && c.allowed(owner, c.Identity.ProjectID) {
		o["os-backup-project-attr:project_id"] = b.ProjectID
	}
	if c.Version >= 56 && c.allowed(owner, c.Identity.ProjectID) {
		o["user_id"] = b.UserID
	}
	return o
}

// backupRecord is what an exported record holds: a row in Cinder's form
// (cinder/objects/backup.py, encode_record). ServiceMetadata is ours.
type backupRecord struct {
	ID               *uuid.UUID      `json:"id"`
	UserID           string          `json:"user_id"`
	ProjectID        string          `json:"project_id"`
	VolumeID         uuid.UUID       `json:"volume_id"`
	Host             *string         `json:"host"`
	AvailabilityZone *string         `json:"availability_zone"`
	Container        *string         `json:"container"`
	ParentID         *uuid.UUID      `json:"parent_id"`
	Status           string          `json:"status"`
	FailReason       *string         `json:"fail_reason"`
	Size             *int            `json:"size"`
	Name             *string         `json:"display_name"`
	Description      *string         `json:"display_description"`
	ServiceMetadata  *string         `json:"service_metadata"`
	Service          string          `json:"service"`
	ObjectCount      int             `json:"object_count"`
	SnapshotID       *uuid.UUID      `json:"snapshot_id"`
	DataTimestamp    time.Time       `json:"data_timestamp"`
	Metadata         model.StringMap `json:"metadata"`
	CreatedAt        time.Time       `json:"created_at"`
	UpdatedAt        *time.Time      `json:"updated_at"`
	DriverInfo       Object          `json:"driver_info"`
	Deleted          bool            `json:"deleted"`
}

// BackupRecord is a backup for another cloud, or for later: what import_record takes.
func BackupRecord(b *model.Backup) (Object, error) {
	source := string(b.Source)
	raw, err := json.Marshal(backupRecord{
		ID: &b.ID, UserID: b.UserID, ProjectID: b.ProjectID, VolumeID: b.VolumeID, AvailabilityZone: b.AvailabilityZone,
		Container: b.Container, ParentID: b.ParentID, Status: string(b.Status), Size: &b.SizeGiB, Name: b.Name, Description: b.Description,
		ServiceMetadata: &source, Service: BackupService, ObjectCount: b.ObjectCount, SnapshotID: b.SnapshotID,
		DataTimestamp: b.DataTimestamp.UTC(), Metadata: copyOf(b.Metadata), CreatedAt: b.CreatedAt.UTC(), UpdatedAt: b.UpdatedAt, DriverInfo: Object{},
	})
	if err != nil {
		return nil, err
	}
	return Object{"backup_service": BackupService, "backup_url": base64.StdEncoding.EncodeToString(raw)}, nil
}

// ReadBackupRecord is the inverse, but for what is the importer's to say: whose it is, and
// its status. ok is false for what can't be read; an id or a size that is missing is "".
func ReadBackupRecord(text string) (b model.Backup, missing string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	var r backupRecord
	if err != nil || json.Unmarshal(raw, &r) != nil {
		return b, "", false
	}
	switch {
	case r.ID == nil:
		return b, "an id", true
	case r.Size == nil:
		return b, "size attribute", true
	case *r.Size < 0:
		return b, "", false
	}
	b = model.Backup{
		ID: *r.ID, SizeGiB: *r.Size, AvailabilityZone: r.AvailabilityZone, Container: r.Container, ParentID: r.ParentID, Name: r.Name,
		Description: r.Description, ObjectCount: r.ObjectCount, SnapshotID: r.SnapshotID, DataTimestamp: r.DataTimestamp, Metadata: r.Metadata,
	}
	var source model.BackupSource
	if r.ServiceMetadata != nil && json.Unmarshal([]byte(*r.ServiceMetadata), &source) == nil {
		b.Source = model.JSON(*r.ServiceMetadata)
	}
	return b, "", true
}
