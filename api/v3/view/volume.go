package view

import (
	"fmt"
	"maps"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Keys of metadata that are not stored: they tell how a volume is doing.
const (
	ImportKey = "vmthunder:import" // while it waits for its image
	ErrorKey  = "vmthunder:error"  // why its status is error
)

// Virtual tells whether a metadata key is one of ours, which nobody can write.
func Virtual(key string) bool { return key == ImportKey || key == ErrorKey }

// VolumeSummary is a row of GET /volumes.
func (c Context) VolumeSummary(v *model.Volume) Object {
	return Object{"id": v.ID, "name": orNil(v.Name), "links": c.Links("volumes", v.ID.String())}
}

// Volume is the body of create and update.
func (c Context) Volume(v *model.Volume) Object {
	o := Object{
		"id": v.ID, "name": orNil(v.Name), "description": orNil(v.Description),
		"status": v.Status, "size": v.SizeGiB, "availability_zone": v.AvailabilityZone,
		"created_at": Time(v.CreatedAt), "updated_at": TimeOrNil(v.UpdatedAt),
		"volume_type": orNil(v.VolumeType), "snapshot_id": orNil(v.SnapshotID), "source_volid": orNil(v.SourceVolID),
		"metadata": copyOf(v.Metadata), "links": c.Links("volumes", v.ID.String()),
		"user_id": v.UserID, "bootable": lower(v.Bootable), "encrypted": v.EncryptionKeyID != nil,
		"replication_status": nil, "consistencygroup_id": nil, "multiattach": v.Multiattach,
		"attachments": c.attachmentsOf(v),
	}
	if c.Identity.Admin {
		o["migration_status"] = orNil(v.MigrationStatus)
	}
	if c.Version >= 13 {
		o["group_id"] = orNil(v.GroupID)
	}
	if c.Version >= 21 && c.Identity.Admin {
		o["provider_id"] = nil
	}
	if c.Version >= 48 {
		// Nova takes no lock per host for a backend that shares no targets.
		o["shared_targets"], o["service_uuid"] = false, nil
	}
	if c.Version >= 61 && c.Identity.Admin {
		o["cluster_name"] = nil
	}
	if c.Version >= 63 {
		o["volume_type_id"] = orNil(v.VolumeTypeID)
	}
	if c.Version >= 64 && v.EncryptionKeyID != nil {
		o["encryption_key_id"] = *v.EncryptionKeyID
	}
	if c.Version >= 65 {
		o["consumes_quota"] = v.ConsumesQuota
	}
	return o
}

// VolumeDetail is the body of show and of detailed lists: Volume and what Cinder's
// extensions add. image is the volume's image, for the progress of its import; may be nil.
func (c Context) VolumeDetail(v *model.Volume, image *model.Image) Object {
	o := c.Volume(v)
	o["metadata"] = shownMetadata(v, image)
	if c.allowed("volume_extension:volume_tenant_attribute", v.ProjectID) {
		o["os-vol-tenant-attr:tenant_id"] = v.ProjectID
	}
	if c.allowed("volume_extension:volume_host_attribute", v.ProjectID) {
		o["os-vol-host-attr:host"] = nil
		if v.Home != nil {
			o["os-vol-host-attr:host"] = PoolName(*v.Home)
		}
	}
	if c.allowed("volume_extension:volume_mig_status_attribute", v.ProjectID) {
		o["os-vol-mig-status-attr:migstat"] = orNil(v.MigrationStatus)
		o["os-vol-mig-status-attr:name_id"] = nil
	}
	if len(v.ImageMetadata) > 0 && c.allowed("volume_extension:volume_image_metadata:show", v.ProjectID) {
		o["volume_image_metadata"] = v.ImageMetadata
	}
	return o
}

// shownMetadata is the user's metadata, what Cinder mixes in (readonly, attached_mode)
// and our virtual keys.
func shownMetadata(v *model.Volume, image *model.Image) model.StringMap {
	m := copyOf(v.Metadata)
	for _, k := range []string{"readonly", "attached_mode"} {
		if x, ok := v.AdminMetadata[k]; ok {
			m[k] = x
		}
	}
	if _, ever := m["readonly"]; v.ReadOnly || ever {
		m["readonly"] = title(v.ReadOnly)
	}
	if v.Status == model.VolumeDownloading {
		m[ImportKey] = Progress(image)
	}
	if strings.HasPrefix(string(v.Status), "error") && v.Error != nil && *v.Error != "" {
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

func (c Context) attachmentsOf(v *model.Volume) []Object {
	out := []Object{}
	for _, a := range v.Attachments {
		if a.Status != model.AttachAttached {
			continue
		}
		o := Object{
			"id": v.ID, "attachment_id": a.ID, "volume_id": v.ID, "server_id": orNil(a.InstanceUUID),
			"host_name": nil, "device": "na", "attached_at": TimeOrNil(a.AttachedAt),
		}
		if a.Mountpoint != nil && *a.Mountpoint != "" {
			o["device"] = *a.Mountpoint
		}
		if c.Identity.Admin {
			o["host_name"] = orNil(a.AttachedHost)
		}
		out = append(out, o)
	}
	return out
}

// backend is the name of our only backend and of its only pool.
const backend = "vmthunder"

// HostName is a node as a host of Cinder: node@vmthunder.
func HostName(node string) string { return node + "@" + backend }

// PoolName is a node's pool: node@vmthunder#vmthunder.
func PoolName(node string) string { return HostName(node) + "#" + backend }

// NodeOf is the node of a host or pool name, or of a plain node name; ok is false if the
// name is one of another backend.
func NodeOf(name string) (node string, ok bool) {
	name, pool, hasPool := strings.Cut(name, "#")
	node, b, hasBackend := strings.Cut(name, "@")
	return node, node != "" && (!hasBackend || b == backend) && (!hasPool || hasBackend && pool == backend)
}

func lower(b bool) string { return map[bool]string{true: "true", false: "false"}[b] }
func title(b bool) string { return map[bool]string{true: "True", false: "False"}[b] }

func copyOf(m model.StringMap) model.StringMap {
	if m == nil {
		return model.StringMap{}
	}
	return maps.Clone(m)
}
