package view

import (
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Keys of metadata that are not stored: they tell how a volume is doing.
const (
	ImportKey = "vmthunder:import" // while it waits for its image
	ErrorKey  = "vmthunder:error"  // why its status is error
	TaskKey   = "vmthunder:task"   // how far the work is that it waits for
)

// Virtual tells whether a metadata key is one of ours, which nobody can write.
func Virtual(key string) bool { return key == ImportKey || key == ErrorKey || key == TaskKey }

// VolumeSummary is a row of GET /volumes.
type VolumeSummary struct {
	ID    string  `json:"id"`
	Name  *string `json:"name"`
	Links []Link  `json:"links"`
}

// VolumeSummary makes the row of a volume.
func (c Context) VolumeSummary(v *model.Volume) VolumeSummary {
	id := v.ID.String()
	return VolumeSummary{ID: id, Name: v.Name, Links: c.Links("volumes", id)}
}

// Volume is the body of create, update, show and of detailed lists. It is a struct for
// speed: a list holds a thousand. What is embedded is there for some versions or callers
// only, and left out where it is nil.
type Volume struct {
	ID                 string             `json:"id"`
	Name               *string            `json:"name"`
	Description        *string            `json:"description"`
	Status             model.VolumeStatus `json:"status"`
	Size               int                `json:"size"`
	AvailabilityZone   string             `json:"availability_zone"`
	CreatedAt          string             `json:"created_at"`
	UpdatedAt          *string            `json:"updated_at"`
	VolumeType         *string            `json:"volume_type"`
	SnapshotID         *uuid.UUID         `json:"snapshot_id"`
	SourceVolID        *uuid.UUID         `json:"source_volid"`
	Metadata           model.StringMap    `json:"metadata"`
	Links              []Link             `json:"links"`
	UserID             string             `json:"user_id"`
	Bootable           string             `json:"bootable"`
	Encrypted          bool               `json:"encrypted"`
	ReplicationStatus  *string            `json:"replication_status"`
	ConsistencyGroupID *string            `json:"consistencygroup_id"`
	Multiattach        bool               `json:"multiattach"`
	Attachments        []VolumeAttachment `json:"attachments"`

	*volumeMigration
	*volume13
	*volume21
	*volume48
	*volume61
	*volume63
	*volume64
	*volume65
	*volumeTenant
	*volumeHost
	*volumeMigrationAttributes

	ImageMetadata model.StringMap `json:"volume_image_metadata,omitempty"`
}

type (
	volumeMigration struct { // administrators only
		Status *string `json:"migration_status"`
	}
	volume13 struct {
		GroupID *uuid.UUID `json:"group_id"`
	}
	volume21 struct { // administrators only
		ProviderID *string `json:"provider_id"`
	}
	volume48 struct {
		// Nova takes no lock per host for a backend that shares no targets.
		SharedTargets bool    `json:"shared_targets"`
		ServiceUUID   *string `json:"service_uuid"`
	}
	volume61 struct { // administrators only
		ClusterName *string `json:"cluster_name"`
	}
	volume63 struct {
		VolumeTypeID *uuid.UUID `json:"volume_type_id"`
	}
	volume64 struct { // encrypted ones only
		EncryptionKeyID *uuid.UUID `json:"encryption_key_id"`
	}
	volume65 struct {
		ConsumesQuota bool `json:"consumes_quota"`
	}
	volumeTenant struct {
		TenantID string `json:"os-vol-tenant-attr:tenant_id"`
	}
	volumeHost struct {
		Host *string `json:"os-vol-host-attr:host"`
	}
	volumeMigrationAttributes struct {
		MigrationStatus *string `json:"os-vol-mig-status-attr:migstat"`
		NameID          *string `json:"os-vol-mig-status-attr:name_id"`
	}
)

// VolumeAttachment is a volume's attachment in the volume itself.
type VolumeAttachment struct {
	ID           string     `json:"id"` // of the volume
	AttachmentID string     `json:"attachment_id"`
	VolumeID     string     `json:"volume_id"`
	ServerID     *uuid.UUID `json:"server_id"`
	HostName     *string    `json:"host_name"`
	Device       string     `json:"device"`
	AttachedAt   any        `json:"attached_at"`
}

// Volume makes the body of create and update.
func (c Context) Volume(v *model.Volume) *Volume {
	id := v.ID.String()
	o := &Volume{
		ID: id, Name: v.Name, Description: v.Description, Status: shownStatus(v.Status), Size: v.SizeGiB,
		AvailabilityZone: v.AvailabilityZone, CreatedAt: Time(v.CreatedAt), UpdatedAt: timeOrNull(v.UpdatedAt),
		VolumeType: v.VolumeType, SnapshotID: v.SnapshotID, SourceVolID: v.SourceVolID,
		Metadata: v.Metadata, Links: c.Links("volumes", id), UserID: v.UserID,
		Bootable: lower(v.Bootable), Encrypted: v.EncryptionKeyID != nil, Multiattach: v.Multiattach,
		Attachments: c.attachmentsOf(v, id),
	}
	if o.Metadata == nil {
		o.Metadata = model.StringMap{}
	}
	if c.Identity.Admin {
		o.volumeMigration = &volumeMigration{v.MigrationStatus}
	}
	if c.Version >= 13 {
		o.volume13 = &volume13{v.GroupID}
	}
	if c.Version >= 21 && c.Identity.Admin {
		o.volume21 = &volume21{}
	}
	if c.Version >= 48 {
		o.volume48 = &volume48{}
	}
	if c.Version >= 61 && c.Identity.Admin {
		o.volume61 = &volume61{}
	}
	if c.Version >= 63 {
		o.volume63 = &volume63{v.VolumeTypeID}
	}
	if c.Version >= 64 && v.EncryptionKeyID != nil {
		o.volume64 = &volume64{v.EncryptionKeyID}
	}
	if c.Version >= 65 {
		o.volume65 = &volume65{v.ConsumesQuota}
	}
	return o
}

// VolumeUpdated makes the body of update: Cinder mixes its own metadata in there as it does
// in show.
func (c Context) VolumeUpdated(v *model.Volume) *Volume {
	o := c.Volume(v)
	o.Metadata = shownMetadata(v, nil)
	return o
}

// shownStatus is the status in the words of clients that know of no managing
// (cinder/api/v2/views/volumes.py).
func shownStatus(s model.VolumeStatus) model.VolumeStatus {
	switch s {
	case model.VolumeErrorManaging:
		return model.VolumeError
	case "managing":
		return model.VolumeCreating
	}
	return s
}

// VolumeDetail makes the body of show: Volume and what Cinder's extensions add. image is
// the volume's image, for the progress of its import; may be nil.
func (c Context) VolumeDetail(v *model.Volume, image *model.Image) *Volume {
	return c.volumeDetail(v, image, c.volumeExtensions(v.ProjectID))
}

// VolumeDetails makes the rows of a detailed list; images are those of the volumes that
// wait for theirs.
func (c Context) VolumeDetails(vols []model.Volume, images map[uuid.UUID]*model.Image) VolumeRows {
	rows := make(VolumeRows, 0, len(vols))
	shown := map[string]volumeExtensions{} // by project
	for i := range vols {
		v := &vols[i]
		x, known := shown[v.ProjectID]
		if !known {
			x = c.volumeExtensions(v.ProjectID)
			shown[v.ProjectID] = x
		}
		var image *model.Image
		if v.ImageID != nil {
			image = images[*v.ImageID]
		}
		rows = append(rows, c.volumeDetail(v, image, x))
	}
	return rows
}

// volumeExtensions are the fields under rules of their own that a caller is shown of the
// volumes of one project.
type volumeExtensions struct{ tenant, host, migration, image bool }

func (c Context) volumeExtensions(project string) volumeExtensions {
	return volumeExtensions{
		tenant:    c.allowed("volume_extension:volume_tenant_attribute", project),
		host:      c.allowed("volume_extension:volume_host_attribute", project),
		migration: c.allowed("volume_extension:volume_mig_status_attribute", project),
		image:     c.allowed("volume_extension:volume_image_metadata:show", project),
	}
}

func (c Context) volumeDetail(v *model.Volume, image *model.Image, x volumeExtensions) *Volume {
	o := c.Volume(v)
	o.Metadata = shownMetadata(v, image)
	if x.tenant {
		o.volumeTenant = &volumeTenant{v.ProjectID}
	}
	if x.host {
		o.volumeHost = &volumeHost{}
		if host := v.Host(); host != nil {
			pool := c.Backend.PoolName(*host, deref(v.HostBackend))
			o.Host = &pool
		}
	}
	if x.migration {
		o.volumeMigrationAttributes = &volumeMigrationAttributes{MigrationStatus: v.MigrationStatus}
	}
	if x.image {
		o.ImageMetadata = v.ImageMetadata
	}
	return o
}

// shownMetadata is the user's metadata, what Cinder mixes in (readonly, attached_mode)
// and our virtual keys.
func shownMetadata(v *model.Volume, image *model.Image) model.StringMap {
	waits := v.Status == model.VolumeDownloading
	failed := (strings.HasPrefix(string(v.Status), "error") || v.MigrationStatus != nil && *v.MigrationStatus == "error") && v.Error != nil && *v.Error != ""
	if len(v.AdminMetadata) == 0 && !v.ReadOnly && !waits && !failed && v.Metadata != nil {
		return v.Metadata // as it is, most times
	}
	m := copyOf(v.Metadata)
	for _, k := range []string{"readonly", "attached_mode"} {
		if x, ok := v.AdminMetadata[k]; ok {
			m[k] = x
		}
	}
	if _, ever := m["readonly"]; v.ReadOnly || ever {
		m["readonly"] = title(v.ReadOnly)
	}
	if waits {
		m[ImportKey] = Progress(image)
	}
	if failed {
		m[ErrorKey] = *v.Error
	}
	return m
}

// Progress of an import in words: "download 34% of 512 MiB".
func Progress(image *model.Image) string {
	switch {
	case image == nil || image.Status == model.ImageQueued:
		return "queued"
	case image.Phase == "":
		return string(image.Status)
	case image.Total <= 0:
		return image.Phase
	}
	percent := min(100, float64(image.Done)/float64(image.Total)*100)
	return fmt.Sprintf("%s %d%% of %s", image.Phase, int(percent), Size(image.Total))
}

// Size of bytes, rounded to a binary unit.
func Size(bytes int64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	n, unit := float64(bytes)/1024, 0
	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%.4g %ciB", n, units[unit])
}

func (c Context) attachmentsOf(v *model.Volume, id string) []VolumeAttachment {
	out := []VolumeAttachment{}
	for i := range v.Attachments {
		a := &v.Attachments[i]
		if a.Status != model.AttachAttached {
			continue
		}
		o := VolumeAttachment{
			ID: id, AttachmentID: a.ID.String(), VolumeID: id, ServerID: a.InstanceUUID, Device: "na", AttachedAt: TimeOrNil(a.AttachedAt),
		}
		if a.Mountpoint != nil && *a.Mountpoint != "" {
			o.Device = *a.Mountpoint
		}
		if c.Identity.Admin {
			o.HostName = a.AttachedHost
		}
		out = append(out, o)
	}
	return out
}

func lower(b bool) string { return map[bool]string{true: "true", false: "false"}[b] }
func title(b bool) string { return map[bool]string{true: "True", false: "False"}[b] }

func copyOf(m model.StringMap) model.StringMap {
	if m == nil {
		return model.StringMap{}
	}
	return maps.Clone(m)
}
