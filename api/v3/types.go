package v3

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noType = "Volume type %s could not be found."

func (a *API) typeRoutes() []route {
	return slices.Concat([]route{
		{method: "GET", path: "/types", h: a.listTypes},
		{method: "POST", path: "/types", h: a.createType},
		{method: "GET", path: "/types/default", h: a.showDefaultType},
		{method: "GET", path: "/types/{id}", h: a.showType},
		{method: "PUT", path: "/types/{id}", h: a.updateType},
		{method: "DELETE", path: "/types/{id}", h: a.deleteType},
	}, a.specRoutes(), a.typeAccessRoutes(), a.typeEncryptionRoutes(), a.defaultTypeRoutes())
}

// allTypes that the caller may use.
func (a *API) allTypes(c *call) ([]model.VolumeType, error) {
	return a.Store.Types(c.ctx(), model.ListQuery{ProjectID: c.scope()}, nil)
}

// volumeType finds the type in the path, for whom the rule allows it. A private type is
// there for administrators and for projects with access.
func (a *API) volumeType(c *call, rule string) (model.VolumeType, error) {
	if err := c.allow(rule); err != nil {
		return model.VolumeType{}, err
	}
	return a.typeByID(c, c.vars["id"])
}

func (a *API) typeByID(c *call, ref string) (model.VolumeType, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		return model.VolumeType{}, fault.NotFound(noType, ref)
	}
	t, err := a.Store.Type(c.ctx(), id, c.scope())
	return t, notFound(err, noType, ref)
}

// typeByRef finds a type by its id, or by its name, which may look like an id.
func (a *API) typeByRef(c *call, ref string) (model.VolumeType, error) {
	id, err := uuid.Parse(ref)
	if err == nil {
		t, err := a.Store.Type(c.ctx(), id, c.scope())
		if !errors.Is(err, model.ErrNotFound) {
			return t, err
		}
	}
	t, byName := a.Store.TypeByName(c.ctx(), ref, c.scope())
	if err == nil {
		return t, notFound(byName, noType, ref)
	}
	return t, notFound(byName, "Volume type with name %s could not be found.", ref)
}

// defaultType of the caller's project, else that of the configuration, which is for all.
func (a *API) defaultType(c *call) (model.VolumeType, error) {
	t, err := a.Store.DefaultTypeOf(c.ctx(), c.id.ProjectID, a.DefaultType)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return t, a.noDefault()
	case err == nil && !t.IsPublic && t.Name != a.DefaultType:
		return a.typeByID(c, t.ID.String())
	}
	return t, err
}

// noDefault: the type is there from `vmthunder db sync` on, unless default_volume_type
// names another one.
func (a *API) noDefault() error {
	f := fault.New(http.StatusInternalServerError,
		"The request cannot be fulfilled as the default volume type %s cannot be found.", a.DefaultType)
	f.Cause = errors.New("[DEFAULT] default_volume_type names a volume type that is not there: create it, or name another")
	return f
}

// typeList is what a list of types asks for.
func (a *API) typeList(c *call) (w asked, isPublic *bool, err error) {
	params := c.r.URL.Query()
	sorts := []string{"id", "name", "description", "qos_specs_id", "is_public", "created_at", "updated_at"}
	if w, err = a.asked(params, noType, sorts); err != nil {
		return w, nil, err
	}
	q := &w.query
	// Without is_public administrators see what a user of their project does.
	q.ProjectID = c.id.ProjectID
	if s := params.Get("is_public"); c.id.Admin && params.Has("is_public") {
		switch v, ok := schema.Truth(s); {
		case strings.EqualFold(s, "none"):
			q.ProjectID = ""
		case !ok:
			return w, nil, fault.BadRequest("Invalid is_public filter [%s]", s)
		case !v:
			q.ProjectID, isPublic = "", &v
		}
	}
	if q.ProjectID == "" && isPublic == nil && !strings.EqualFold(params.Get("is_public"), "none") {
		public := true // of somebody without a project
		isPublic = &public
	}
	params.Del("is_public")
	rules := filterRules{allowed: a.filtersOf("volume_type"), admin: c.id.Admin, mv: c.mv, columns: map[string]string{
		"id": "id", "name": "name", "description": "description", "qos_specs_id": "qos_specs_id", "extra_specs": "extra_specs",
		"created_at": "created_at", "updated_at": "updated_at",
	}}
	if c.mv < 52 && !c.id.Admin {
		params.Del("extra_specs")
		rules.mv = 0 // the configured filters are not for types yet
	}
	if q.Filters, w.nothing, err = rules.parse(params); err != nil {
		return w, nil, err
	}
	q.Filters, w.nothing = a.specFilters(c, q.Filters, w.nothing)
	return w, isPublic, nil
}

// specFilters takes from filters what the caller may not know of, so that nothing matches,
// and looks for a zone in the list of zones that an extra spec is.
func (a *API) specFilters(c *call, filters []model.Filter, nothing bool) ([]model.Filter, bool) {
	const zones = "RESKEY:availability_zones"
	for _, f := range filters {
		if f.Column != "extra_specs" {
			continue
		}
		for k := range f.Map {
			nothing = nothing || !view.VisibleSpec(k) && !c.view().Sensitive()
		}
		if zone, ok := f.Map[zones]; ok {
			delete(f.Map, zones)
			filters = append(filters, model.Filter{Column: "zones", Op: "like", Value: zone})
		}
	}
	return filters, nothing
}

func (a *API) listTypes(c *call) error {
	if err := c.allow("volume_extension:type_get_all"); err != nil {
		return err
	}
	w, isPublic, err := a.typeList(c)
	if err != nil {
		return err
	}
	return listing[model.VolumeType]{
		key: "volume_types", links: "volume_type_links", missing: noType,
		id: func(t *model.VolumeType) uuid.UUID { return t.ID },
		find: func(ctx context.Context, q model.ListQuery) ([]model.VolumeType, error) {
			return a.Store.Types(ctx, q, isPublic)
		},
		show: each(c.view().VolumeType),
	}.send(a, c, w)
}

func (a *API) showType(c *call) error {
	t, err := a.typeByID(c, c.vars["id"])
	if err != nil {
		return err
	}
	if err := c.allow("volume_extension:type_get"); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeType(&t)})
}

func (a *API) showDefaultType(c *call) error {
	t, err := a.defaultType(c)
	if err != nil {
		return err
	}
	if err := c.allow("volume_extension:type_get"); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeDefault(&t)})
}

func (a *API) createType(c *call) error {
	body, in, err := c.wrapped("volume_type")
	if err != nil {
		return err
	}
	t := model.VolumeType{ID: uuid.New(), IsPublic: true, CreatedAt: a.Now().UTC(), ExtraSpecs: model.StringMap{}}
	name, err := in.Name("name")
	if err != nil {
		return err
	}
	if t.Description, err = in.Description("description"); err != nil {
		return err
	}
	if in.Given("extra_specs") {
		specs, err := in.Object("extra_specs")
		if err != nil {
			return err
		}
		if t.ExtraSpecs, err = specs.Specs(schema.SpecKeys); err != nil {
			return err
		}
	}
	public, err := in.Flag(view.IsPublicKey)
	if err != nil {
		return err
	}
	if public != nil {
		t.IsPublic = *public
	}
	if err := closed(body, in, []string{"name"}, "name", "description", "extra_specs", view.IsPublicKey); err != nil {
		return err
	}
	t.Name = *name
	if err := c.allow("volume_extension:type_create"); err != nil {
		return err
	}
	made, err := a.Store.CreateType(c.ctx(), t)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeCreated(&made)})
}

// wrapped reads a body that is an object around one object, and returns both.
func (c *call) wrapped(key string) (body, in *schema.Object, err error) {
	if body, err = c.parse(); err != nil {
		return nil, nil, err
	}
	in, err = body.Object(key)
	return body, in, err
}

// closed refuses what lacks a required key, and keys that are not known, in Cinder's order.
func closed(body, in *schema.Object, required []string, known ...string) error {
	if err := in.Require(required...); err != nil {
		return err
	}
	if err := in.Only(known...); err != nil {
		return err
	}
	return body.Only(in.Key())
}

func (a *API) updateType(c *call) error {
	body, in, err := c.wrapped("volume_type")
	if err != nil {
		return err
	}
	var p model.TypePatch
	if p.Name, err = in.String("name", 1, 255); err != nil {
		return err
	}
	if p.Description, err = in.Description("description"); err != nil {
		return err
	}
	if p.IsPublic, err = in.Flag("is_public"); err != nil {
		return err
	}
	if err := closed(body, in, nil, "name", "description", "is_public"); err != nil {
		return err
	}
	if err := c.allow("volume_extension:type_update"); err != nil {
		return err
	}
	switch {
	case p.Name != nil && strings.TrimSpace(*p.Name) == "":
		return fault.BadRequest("Volume type name can not be empty.")
	case p.Name == nil && p.Description == nil && p.IsPublic == nil:
		return fault.BadRequest("Specify volume type name, description, is_public or a combination thereof.")
	}
	t, err := a.typeByID(c, c.vars["id"])
	if err != nil {
		return err
	}
	saved, err := a.Store.UpdateType(c.ctx(), t.ID, p)
	if err != nil {
		return notFound(err, noType, t.ID)
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeUpdated(&saved)})
}

// deleteType never deletes the default type, so that there is always one.
func (a *API) deleteType(c *call) error {
	t, err := a.volumeType(c, "volume_extension:type_delete")
	if err != nil {
		return err
	}
	d, err := a.Store.TypeByName(c.ctx(), a.DefaultType, "")
	switch {
	case errors.Is(err, model.ErrNotFound):
		return a.noDefault()
	case err != nil:
		return err
	case t.ID == d.ID:
		return fault.BadRequest("The volume type %s is a default volume type and cannot be deleted.", t.ID)
	}
	switch err := a.Store.DeleteType(c.ctx(), t.ID); {
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("Target volume type is still in use.")
	case errors.Is(err, model.ErrConflict):
		return fault.BadRequest("The volume type %s is a default volume type and cannot be deleted.", t.ID)
	case err != nil:
		return notFound(err, noType, t.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}
