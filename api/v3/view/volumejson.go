package view

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// VolumeRows are the rows of a detailed list. A list holds a thousand, so they are
// written field by field: by reflection that takes four times as long.
type VolumeRows []*Volume

// AppendJSON appends what encoding/json makes of the rows.
func (rows VolumeRows) AppendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, v := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		start := len(b)
		b = v.appendJSON(b)
		if i == 0 { // the others are about as long
			b = slices.Grow(b, (len(b)-start+32)*(len(rows)-1))
		}
	}
	return append(b, ']')
}

func (v *Volume) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), v.ID)
	b = appendText(append(b, `,"name":`...), v.Name)
	b = appendText(append(b, `,"description":`...), v.Description)
	b = appendString(append(b, `,"status":`...), string(v.Status))
	b = strconv.AppendInt(append(b, `,"size":`...), int64(v.Size), 10)
	b = appendString(append(b, `,"availability_zone":`...), v.AvailabilityZone)
	b = appendString(append(b, `,"created_at":`...), v.CreatedAt)
	b = appendText(append(b, `,"updated_at":`...), v.UpdatedAt)
	b = appendText(append(b, `,"volume_type":`...), v.VolumeType)
	b = appendID(append(b, `,"snapshot_id":`...), v.SnapshotID)
	b = appendID(append(b, `,"source_volid":`...), v.SourceVolID)
	b = appendMap(append(b, `,"metadata":`...), v.Metadata)
	b = appendLinks(append(b, `,"links":`...), v.Links)
	b = appendString(append(b, `,"user_id":`...), v.UserID)
	b = appendString(append(b, `,"bootable":`...), v.Bootable)
	b = strconv.AppendBool(append(b, `,"encrypted":`...), v.Encrypted)
	b = appendText(append(b, `,"replication_status":`...), v.ReplicationStatus)
	b = appendText(append(b, `,"consistencygroup_id":`...), v.ConsistencyGroupID)
	b = strconv.AppendBool(append(b, `,"multiattach":`...), v.Multiattach)
	b = append(b, `,"attachments":`...)
	if len(v.Attachments) == 0 && v.Attachments != nil {
		b = append(b, `[]`...)
	} else {
		b = appendAny(b, v.Attachments)
	}
	return append(v.appendSome(b), '}')
}

// appendSome appends the fields that are there for some versions or callers only.
func (v *Volume) appendSome(b []byte) []byte {
	if v.volumeMigration != nil {
		b = appendText(append(b, `,"migration_status":`...), v.volumeMigration.Status)
	}
	if v.volume13 != nil {
		b = appendID(append(b, `,"group_id":`...), v.GroupID)
	}
	if v.volume21 != nil {
		b = appendText(append(b, `,"provider_id":`...), v.ProviderID)
	}
	if v.volume48 != nil {
		b = strconv.AppendBool(append(b, `,"shared_targets":`...), v.SharedTargets)
		b = appendText(append(b, `,"service_uuid":`...), v.ServiceUUID)
	}
	if v.volume61 != nil {
		b = appendText(append(b, `,"cluster_name":`...), v.ClusterName)
	}
	if v.volume63 != nil {
		b = appendID(append(b, `,"volume_type_id":`...), v.VolumeTypeID)
	}
	if v.volume64 != nil {
		b = appendID(append(b, `,"encryption_key_id":`...), v.EncryptionKeyID)
	}
	if v.volume65 != nil {
		b = strconv.AppendBool(append(b, `,"consumes_quota":`...), v.ConsumesQuota)
	}
	if v.volumeTenant != nil {
		b = appendString(append(b, `,"os-vol-tenant-attr:tenant_id":`...), v.TenantID)
	}
	if v.volumeHost != nil {
		b = appendText(append(b, `,"os-vol-host-attr:host":`...), v.Host)
	}
	if v.volumeMigrationAttributes != nil {
		b = appendText(append(b, `,"os-vol-mig-status-attr:migstat":`...), v.MigrationStatus)
		b = appendText(append(b, `,"os-vol-mig-status-attr:name_id":`...), v.NameID)
	}
	if len(v.ImageMetadata) > 0 {
		b = appendMap(append(b, `,"volume_image_metadata":`...), v.ImageMetadata)
	}
	return b
}

// appendString: most strings need no escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendAny(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendText(b []byte, s *string) []byte {
	if s == nil {
		return append(b, `null`...)
	}
	return appendString(b, *s)
}

func appendID(b []byte, id *uuid.UUID) []byte {
	if id == nil {
		return append(b, `null`...)
	}
	return appendString(b, id.String())
}

func appendMap(b []byte, m model.StringMap) []byte {
	switch {
	case m == nil:
		return append(b, `null`...)
	case len(m) == 0:
		return append(b, `{}`...)
	}
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, k), ':'), m[k])
	}
	return append(b, '}')
}

func appendLinks(b []byte, links []Link) []byte {
	b = append(b, '[')
	for i, l := range links {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"rel":`...), l.Rel)
		b = append(appendString(append(b, `,"href":`...), l.Href), '}')
	}
	return append(b, ']')
}

// appendAny leaves a value to encoding/json.
func appendAny(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, numbers and ids only
		return append(b, `null`...)
	}
	return append(b, text...)
}
