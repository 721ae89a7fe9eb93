package view

import (
	"fmt"

	"github.com/vmthunder/vmthunder/db/model"
)

// TaskProgress is how far long work on a volume is, in words: "upload-image: send 34% of
// 1 GiB".
func TaskProgress(k *model.Task) string {
	s := string(k.Kind) + ": "
	switch {
	case k.Phase == "":
		s += string(k.Status)
	case k.Total <= 0:
		s += k.Phase
	default:
		s += fmt.Sprintf("%s %d%% of %s", k.Phase, min(100, k.Done*100/k.Total), Size(k.Total))
	}
	if k.Error != nil && *k.Error != "" {
		s += " (" + *k.Error + ")"
	}
	return s
}

// VolumeTypeRow is a type as Cinder's os-volume_upload_image gives it: its database's row.
func VolumeTypeRow(t *model.VolumeType) Object {
	return Object{
		"id": t.ID, "name": t.Name, "description": orNil(t.Description), "is_public": t.IsPublic, "extra_specs": copyOf(t.ExtraSpecs),
		"qos_specs_id": orNil(t.QoSSpecsID), "created_at": Time(t.CreatedAt), "updated_at": TimeOrNil(t.UpdatedAt),
		"deleted_at": nil, "deleted": false,
	}
}
