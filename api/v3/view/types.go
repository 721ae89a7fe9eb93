package view

import (
	"github.com/vmthunder/vmthunder/db/model"
)

// IsPublicKey is the field of an extension of Cinder that says is_public once more.
const IsPublicKey = "os-volume-type-access:is_public"

// VolumeType is a type as list and show give it.
func (c Context) VolumeType(t *model.VolumeType) Object {
	o := c.VolumeTypeDefault(t)
	o[IsPublicKey] = t.IsPublic
	return o
}

// VolumeTypeDefault is a type as GET /types/default gives it.
func (c Context) VolumeTypeDefault(t *model.VolumeType) Object {
	o := c.VolumeTypeUpdated(t)
	if c.Identity.Admin {
		o["qos_specs_id"] = orNil(t.QoSSpecsID)
	}
	return o
}

// VolumeTypeUpdated is a type as PUT gives it.
func (c Context) VolumeTypeUpdated(t *model.VolumeType) Object {
	return Object{
		"id": t.ID, "name": t.Name, "is_public": t.IsPublic, "description": orNil(t.Description),
		"extra_specs": c.ExtraSpecs(t),
	}
}

// VolumeTypeCreated is a type as POST gives it.
func (c Context) VolumeTypeCreated(t *model.VolumeType) Object {
	o := c.VolumeTypeUpdated(t)
	o[IsPublicKey] = t.IsPublic
	return o
}

// ExtraSpecs that the caller may see: administrators all, others those that change how
// the type is used.
func (c Context) ExtraSpecs(t *model.VolumeType) model.StringMap {
	out := model.StringMap{}
	for k, v := range t.ExtraSpecs {
		if c.Identity.Admin || VisibleSpec(k) {
			out[k] = v
		}
	}
	return out
}

// VisibleSpec tells whether everybody sees an extra spec.
func VisibleSpec(key string) bool {
	return key == "multiattach" || key == "RESKEY:availability_zones" || key == "replication_enabled"
}
