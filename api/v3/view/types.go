package view

import (
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// IsPublicKey is the field of an extension of Cinder that says is_public once more.
const IsPublicKey = "os-volume-type-access:is_public"

// own tells whether a field of something that is no project's own is shown.
func (c Context) own(rule string) bool { return c.allowed(rule, c.Identity.ProjectID) }

// VolumeType is a type as list and show give it.
func (c Context) VolumeType(t *model.VolumeType) Object {
	o := c.VolumeTypeDefault(t)
	if c.own("volume_extension:volume_type_access") {
		o[IsPublicKey] = t.IsPublic
	}
	return o
}

// VolumeTypeDefault is a type as GET /types/default gives it.
func (c Context) VolumeTypeDefault(t *model.VolumeType) Object {
	o := Object{"id": t.ID, "name": t.Name, "is_public": t.IsPublic, "description": orNil(t.Description)}
	if c.own("volume_extension:access_types_extra_specs") {
		o["extra_specs"] = c.ExtraSpecs(t)
	}
	if c.own("volume_extension:access_types_qos_specs_id") {
		o["qos_specs_id"] = orNil(t.QoSSpecsID)
	}
	return o
}

// VolumeTypeUpdated is a type as PUT gives it.
func (c Context) VolumeTypeUpdated(t *model.VolumeType) Object {
	return Object{
		"id": t.ID, "name": t.Name, "is_public": t.IsPublic, "description": orNil(t.Description),
		"extra_specs": copyOf(t.ExtraSpecs),
	}
}

// VolumeTypeCreated is a type as POST gives it.
func (c Context) VolumeTypeCreated(t *model.VolumeType) Object {
	o := c.VolumeTypeUpdated(t)
	if c.own("volume_extension:volume_type_access") {
		o[IsPublicKey] = t.IsPublic
	}
	return o
}

// Sensitive tells whether the caller may see all extra specs.
func (c Context) Sensitive() bool { return c.own("volume_extension:types_extra_specs:read_sensitive") }

// ExtraSpecs that the caller may see: administrators all, others those that change how
// the type is used.
func (c Context) ExtraSpecs(t *model.VolumeType) model.StringMap {
	out := model.StringMap{}
	for k, v := range t.ExtraSpecs {
		if VisibleSpec(k) || c.Sensitive() {
			out[k] = v
		}
	}
	return out
}

// VisibleSpec tells whether everybody sees an extra spec.
func VisibleSpec(key string) bool {
	return slices.Contains([]string{"multiattach", "RESKEY:availability_zones", "replication_enabled"}, key)
}

// Encryption of a type. Three fields are what Cinder shows of its table.
func (c Context) Encryption(e *model.Encryption) Object {
	return Object{
		"volume_type_id": e.VolumeTypeID, "encryption_id": e.ID, "provider": e.Provider, "control_location": e.ControlLocation,
		"cipher": orNil(e.Cipher), "key_size": orNil(e.KeySize), "created_at": Time(e.CreatedAt), "updated_at": TimeOrNil(e.UpdatedAt),
		"deleted": false, "deleted_at": nil,
	}
}

// DefaultType of a project.
func (c Context) DefaultType(d model.DefaultType) Object {
	return Object{"project_id": d.ProjectID, "volume_type_id": d.VolumeTypeID}
}

// QoS specs; their links stand beside them, not in them.
func (c Context) QoS(q *model.QoS) Object {
	return Object{"id": q.ID, "name": q.Name, "consumer": q.Consumer, "specs": copyOf(q.Specs)}
}
