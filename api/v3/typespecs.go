package v3

import (
	"errors"
	"maps"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// Extra specs, access lists and encryption of volume types.

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
	body, err := c.parse()
	if err != nil {
		return err
	}
	in, err := body.Object("extra_specs")
	if err != nil {
		return err
	}
	specs, err := in.AsStrings()
	if err != nil {
		return err
	}
	if err := a.saveSpecs(c, "volume_extension:types_extra_specs:create", specs); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"extra_specs": specs})
}

func (a *API) putSpec(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	m, err := onePair(body, c.vars["key"])
	if err != nil {
		return err
	}
	if err := a.saveSpecs(c, "volume_extension:types_extra_specs:update", m); err != nil {
		return err
	}
	return c.json(http.StatusOK, m)
}

// saveSpecs merges specs into those of the type.
func (a *API) saveSpecs(c *call, rule string, specs map[string]string) error {
	t, err := a.volumeType(c, rule)
	if err != nil {
		return err
	}
	merged := model.StringMap{}
	maps.Copy(merged, t.ExtraSpecs)
	maps.Copy(merged, specs)
	t.ExtraSpecs = merged
	_, err = a.Store.PutType(c.ctx(), t, false)
	return notFound(err, noType, t.ID)
}

func (a *API) deleteSpec(c *call) error {
	t, err := a.volumeType(c, "volume_extension:types_extra_specs:delete")
	if err != nil {
		return err
	}
	specs := maps.Clone(t.ExtraSpecs)
	if _, ok := specs[c.vars["key"]]; !ok {
		return noSpec(c)
	}
	delete(specs, c.vars["key"])
	t.ExtraSpecs = specs
	if _, err := a.Store.PutType(c.ctx(), t, false); err != nil {
		return notFound(err, noType, t.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) listTypeAccess(c *call) error {
	t, err := a.volumeType(c, "volume_extension:volume_type_access:get_all_for_type")
	if err != nil {
		return err
	}
	if t.IsPublic {
		return fault.NotFound("Access list not available for public volume types.")
	}
	store, ok := a.Store.(TypeAccess)
	if !ok {
		return unsupported("Access to private volume types")
	}
	projects, err := store.TypeProjects(c.ctx(), t.ID)
	if err != nil {
		return err
	}
	rows := make([]view.Object, 0, len(projects))
	for _, p := range projects {
		rows = append(rows, view.Object{"volume_type_id": t.ID, "project_id": p})
	}
	return c.json(http.StatusOK, view.Object{"volume_type_access": rows})
}

func (a *API) typeAction(c *call) error {
	name, in, err := c.action()
	if err != nil {
		return err
	}
	if name != "addProjectAccess" && name != "removeProjectAccess" {
		return noAction(name)
	}
	args, err := in.Object(name)
	if err != nil {
		return err
	}
	project, err := args.Text("project", 1, 255)
	if err != nil {
		return err
	}
	t, err := a.volumeType(c, "volume_extension:volume_type_access:"+name)
	if err != nil {
		return err
	}
	store, ok := a.Store.(TypeAccess)
	switch {
	case t.IsPublic:
		return fault.BadRequest("Type access modification is not applicable to public volume type.")
	case !ok:
		return unsupported("Access to private volume types")
	case name == "addProjectAccess":
		if err := store.AddTypeProject(c.ctx(), t.ID, project); errors.Is(err, model.ErrExists) {
			return fault.Conflict("Volume type access for %s / %s combination already exists.", t.ID, project)
		} else if err != nil {
			return err
		}
	default:
		if err := store.RemoveTypeProject(c.ctx(), t.ID, project); err != nil {
			return notFound(err, "Volume type access not found for %s / %s combination.", t.ID, project)
		}
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) showTypeEncryption(c *call) error {
	if _, err := a.volumeType(c, "volume_extension:volume_type_encryption:get"); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{})
}

func (a *API) showTypeEncryptionKey(c *call) error {
	if _, err := a.volumeType(c, "volume_extension:volume_type_encryption:get"); err != nil {
		return err
	}
	return fault.NotFound("Volume type encryption for type %s does not exist.", c.vars["id"])
}

func (a *API) refuseTypeEncryption(rule string) handler {
	return func(c *call) error {
		if _, err := a.volumeType(c, rule); err != nil {
			return err
		}
		return unsupported("Encryption of volumes")
	}
}
