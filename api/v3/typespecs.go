package v3

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) specRoutes() []route {
	return []route{
		{method: "GET", path: "/types/{id}/extra_specs", h: a.listSpecs},
		{method: "POST", path: "/types/{id}/extra_specs", h: a.addSpecs},
		{method: "GET", path: "/types/{id}/extra_specs/{key}", h: a.showSpec},
		{method: "PUT", path: "/types/{id}/extra_specs/{key}", h: a.putSpec},
		{method: "DELETE", path: "/types/{id}/extra_specs/{key}", h: a.deleteSpec},
	}
}

func noSpec(c *call) error {
	return fault.NotFound("Volume Type %s has no extra specs with key %s.", c.vars["id"], c.vars["key"])
}

func (a *API) listSpecs(c *call) error {
	t, err := a.volumeType(c, "volume_extension:types_extra_specs:index")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"extra_specs": c.view().ExtraSpecs(&t)})
}

func (a *API) showSpec(c *call) error {
	t, err := a.volumeType(c, "volume_extension:types_extra_specs:show")
	if err != nil {
		return err
	}
	v, ok := c.view().ExtraSpecs(&t)[c.vars["key"]]
	if !ok {
		return noSpec(c)
	}
	return c.json(http.StatusOK, view.Object{c.vars["key"]: v})
}

func (a *API) addSpecs(c *call) error {
	body, in, err := c.wrapped("extra_specs")
	if err != nil {
		return err
	}
	specs, err := in.Specs(schema.SpecKeysNoSpace)
	if err != nil {
		return err
	}
	if err := body.Only("extra_specs"); err != nil {
		return err
	}
	if err := a.saveSpecs(c, "volume_extension:types_extra_specs:create", specs); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"extra_specs": json.RawMessage(in.Self())})
}

func (a *API) putSpec(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	specs, err := body.Specs(schema.SpecKeysNoSpace)
	if err != nil {
		return err
	}
	switch len(specs) {
	case 0:
		return fault.BadRequest("{} does not have enough properties")
	case 1:
	default:
		return fault.BadRequest("%s has too many properties", schema.Repr(body.Self()))
	}
	if err := c.allow("volume_extension:types_extra_specs:update"); err != nil {
		return err
	}
	if _, ok := specs[c.vars["key"]]; !ok {
		return fault.BadRequest("Request body and URI mismatch")
	}
	if err := a.saveSpecs(c, "volume_extension:types_extra_specs:update", specs); err != nil {
		return err
	}
	return c.json(http.StatusOK, json.RawMessage(body.Self()))
}

// saveSpecs merges specs into those of the type.
func (a *API) saveSpecs(c *call, rule string, specs map[string]string) error {
	return a.editSpecs(c, rule, func(old model.StringMap) error {
		maps.Copy(old, specs)
		// Nova's host can't cache what others write.
		t := model.VolumeType{ExtraSpecs: old}
		_, one := specs["cacheable"]
		_, other := specs["multiattach"]
		if (one || other) && t.Is("cacheable") && t.Is("multiattach") {
			return fault.BadRequest("cacheable cannot be set with multiattach.")
		}
		return nil
	})
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

func (a *API) deleteSpec(c *call) error {
	err := a.editSpecs(c, "volume_extension:types_extra_specs:delete", func(specs model.StringMap) error {
		if _, ok := specs[c.vars["key"]]; !ok {
			return noSpec(c)
		}
		delete(specs, c.vars["key"])
		return nil
	})
	if err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}
