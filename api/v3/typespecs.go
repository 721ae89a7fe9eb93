package v3

import (
	"errors"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) specRoutes() []route {
	const missing = "Volume Type %s has no extra specs with key %s."
	return specced{
		path: "/types/{id}", key: "extra_specs", created: http.StatusOK,
		list: "volume_extension:types_extra_specs:index", show: "volume_extension:types_extra_specs:show",
		create: "volume_extension:types_extra_specs:create", update: "volume_extension:types_extra_specs:update",
		remove: "volume_extension:types_extra_specs:delete", missing: missing, missingDeleted: missing,
		removed: func(c *call) error { return c.empty(http.StatusAccepted) },
		read: func(c *call, rule string) (model.StringMap, error) {
			t, err := a.volumeType(c, rule)
			return c.view().ExtraSpecs(&t), err
		},
		edit: a.editSpecs, check: cacheableAlone,
	}.routes()
}

// cacheableAlone: Nova's host can't cache what others write.
func cacheableAlone(all, given model.StringMap) error {
	t := model.VolumeType{ExtraSpecs: all}
	_, one := given["cacheable"]
	_, other := given["multiattach"]
	if (one || other) && t.Is("cacheable") && t.Is("multiattach") {
		return fault.BadRequest("cacheable cannot be set with multiattach.")
	}
	return nil
}

// editSpecs of a type that no volume has.
func (a *API) editSpecs(c *call, rule string, edit func(model.StringMap) error) error {
	t, err := a.volumeType(c, rule)
	if err != nil {
		return err
	}
	_, err = a.Store.EditExtraSpecs(c.ctx(), t.ID, edit)
	if errors.Is(err, model.ErrInUse) {
		return fault.BadRequest("Volume Type is currently in use.")
	}
	return notFound(err, noType, t.ID)
}
