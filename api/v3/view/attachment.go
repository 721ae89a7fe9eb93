package view

import (
	"encoding/json"

	"github.com/vmthunder/vmthunder/db/model"
)

// AttachmentSummary is a row of GET /attachments.
func (c Context) AttachmentSummary(a *model.Attachment) Object {
	return Object{"id": a.ID, "status": a.Status, "instance": orNil(a.InstanceUUID), "volume_id": a.VolumeID}
}

// Attachment with its connection_info, which is flat: the driver's data and
// driver_volume_type beside each other (unlike os-initialize_connection).
func (c Context) Attachment(a *model.Attachment) Object {
	o := c.AttachmentSummary(a)
	o["attached_at"], o["detached_at"] = timeOrEmpty(a.AttachedAt), timeOrEmpty(a.DetachedAt)
	o["attach_mode"] = "null" // Cinder's word for none
	if a.AttachMode != nil && *a.AttachMode != "" {
		o["attach_mode"] = *a.AttachMode
	}
	o["connection_info"] = ConnectionInfo(a)
	return o
}

// ConnectionInfo of an attachment as an object with what Nova always expects in it; {}
// before there is a connection.
func ConnectionInfo(a *model.Attachment) Object {
	var info Object
	if len(a.ConnectionInfo) == 0 || json.Unmarshal(a.ConnectionInfo, &info) != nil || len(info) == 0 {
		return Object{}
	}
	mode := "rw"
	if a.AttachMode != nil && *a.AttachMode == "ro" {
		mode = "ro"
	}
	always := Object{
		"access_mode": mode, "qos_specs": nil, "encrypted": false, "cacheable": false, "attachment_id": a.ID.String(),
	}
	for k, v := range always {
		if info[k] == nil {
			info[k] = v
		}
	}
	return info
}

// LegacyConnection is connection_info as os-initialize_connection returns it: the data
// one level below the type.
func LegacyConnection(a *model.Attachment) Object {
	data := ConnectionInfo(a)
	kind := data["driver_volume_type"]
	delete(data, "driver_volume_type")
	delete(data, "attachment_id")
	return Object{"driver_volume_type": kind, "data": data}
}
