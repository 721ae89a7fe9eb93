package v3

import (
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noGroupType = "Group type %s could not be found."

func (a *API) groupTypeRoutes() []route {
	const since = 11
	return append([]route{
		{method: "GET", path: "/group_types", min: since, h: a.listGroupTypes},
		{method: "POST", path: "/group_types", min: since, h: a.createGroupType},
		{method: "GET", path: "/group_types/default", min: since, h: a.showDefaultGroupType},
		{method: "GET", path: "/group_types/{id}", min: since, h: a.showGroupType},
		{method: "PUT", path: "/group_types/{id}", min: since, h: a.updateGroupType},
		{method: "DELETE", path: "/group_types/{id}", min: since, h: a.deleteGroupType},
	}, a.groupSpecs(since).routes()...)
}

func (a *API) groupSpecs(since microversion.Version) specced {
	return specced{
		path: "/group_types/{id}", key: "group_specs", min: since, created: http.StatusAccepted,
		list: "group:group_types_specs:get_all", show: "group:group_types_specs:get", create: "group:group_types_specs:create",
		update: "group:group_types_specs:update", remove: "group:group_types_specs:delete",
		missing: "Group Type %s has no extra spec with key %s.", missingDeleted: "Group Type %s has no specs with key %s.",
		removed: func(c *call) error { return c.emptyHTML(http.StatusAccepted) },
		read: func(c *call, rule string) (model.StringMap, error) {
			if err := c.allow(rule); err != nil {
				return nil, err
			}
			y, err := a.groupType(c)
			return notNil(y.Specs), err
		},
		edit: func(c *call, rule string, change func(model.StringMap) error) error {
			if err := c.allow(rule); err != nil {
				return err
			}
			y, err := a.groupType(c)
			if err != nil {
				return err
			}
			_, err = a.Store.EditGroupSpecs(c.ctx(), y.ID, change)
			return notFound(err, noGroupType, y.ID)
		},
	}
}

// groupType finds the type in the path. Nobody is given private ones: only administrators
// see them.
func (a *API) groupType(c *call) (model.GroupType, error) {
	id, ok := c.uuid("id")
	if !ok {
		return model.GroupType{}, fault.NotFound(noGroupType, c.vars["id"])
	}
	y, err := a.Store.GroupType(c.ctx(), id, c.id.Admin)
	return y, notFound(err, noGroupType, c.vars["id"])
}

// groupTypeByRef finds a type by its id, or by its name, which may look like an id.
func (a *API) groupTypeByRef(c *call, ref string) (model.GroupType, error) {
	id, notID := uuid.Parse(ref)
	if notID == nil {
		if y, err := a.Store.GroupType(c.ctx(), id, c.id.Admin); !errors.Is(err, model.ErrNotFound) {
			return y, err
		}
	}
	y, err := a.Store.GroupTypeByName(c.ctx(), ref, c.id.Admin)
	if notID == nil {
		return y, notFound(err, noGroupType, ref)
	}
	return y, notFound(err, "Group type with name %s could not be found.", ref)
}

func (a *API) listGroupTypes(c *call) error {
	params := c.r.URL.Query()
	w, err := a.asked(params, noGroupType, []string{"id", "name", "description", "is_public", "created_at", "updated_at"})
	if err != nil {
		return err
	}
	public := "true"
	if c.id.Admin && params.Has("is_public") {
		switch v, ok := schema.Truth(params.Get("is_public")); {
		case strings.EqualFold(params.Get("is_public"), "none"):
			public = ""
		case !ok:
			return fault.BadRequest("Invalid is_public filter [%s]", params.Get("is_public"))
		case !v:
			public = "false"
		}
	}
	if public != "" {
		w.query.Filters = []model.Filter{{Column: "is_public", Op: "=", Value: public}}
	}
	return listing[model.GroupType]{
		key: "group_types", links: "group_type_links", missing: noGroupType,
		id:   func(y *model.GroupType) uuid.UUID { return y.ID },
		find: a.Store.GroupTypes, show: each(c.view().GroupType),
	}.send(a, c, w)
}

func (a *API) sendGroupType(c *call, status int, y model.GroupType) error {
	return c.json(status, view.Object{"group_type": c.view().GroupType(&y)})
}

func (a *API) showGroupType(c *call) error {
	y, err := a.groupType(c)
	if err != nil {
		return err
	}
	return a.sendGroupType(c, http.StatusOK, y)
}

// showDefaultGroupType shows the one that the configuration names, if there is one.
func (a *API) showDefaultGroupType(c *call) error {
	const missing = "Default group type can not be found."
	if a.DefaultGroupType == "" {
		return fault.NotFound(missing)
	}
	y, err := a.Store.GroupTypeByName(c.ctx(), a.DefaultGroupType, true)
	if err != nil {
		return notFound(err, missing)
	}
	return a.sendGroupType(c, http.StatusOK, y)
}

func (a *API) createGroupType(c *call) error {
	body, in, err := c.wrapped("group_type")
	if err != nil {
		return err
	}
	y := model.GroupType{ID: uuid.New(), IsPublic: true, Specs: model.StringMap{}}
	name, err := in.Name("name")
	if err != nil {
		return err
	}
	if y.Description, err = in.Description("description"); err != nil {
		return err
	}
	public, err := in.Flag("is_public")
	if err != nil {
		return err
	}
	if public != nil {
		y.IsPublic = *public
	}
	specs, err := in.Optional("group_specs")
	if err != nil {
		return err
	}
	if specs != nil {
		if y.Specs, err = specs.Specs(schema.SpecKeys); err != nil {
			return err
		}
	}
	if err := closed(body, in, []string{"name"}, "name", "description", "is_public", "group_specs"); err != nil {
		return err
	}
	y.Name = *name
	if err := c.allow("group:group_types:create"); err != nil {
		return err
	}
	made, err := a.Store.CreateGroupType(c.ctx(), y)
	if err != nil {
		return err
	}
	return a.sendGroupType(c, http.StatusAccepted, made)
}

func (a *API) updateGroupType(c *call) error {
	body, in, err := c.wrapped("group_type")
	if err != nil {
		return err
	}
	var p model.GroupTypePatch
	if p.Name, err = in.String("name", 0, 255); err != nil {
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
	if err := c.allow("group:group_types:update"); err != nil {
		return err
	}
	switch {
	case p.Name != nil && strings.TrimSpace(*p.Name) == "":
		return fault.BadRequest("Group type name can not be empty.")
	case p.Name == nil && p.Description == nil && p.IsPublic == nil:
		return fault.BadRequest("Specify group type name, description or a combination thereof.")
	}
	y, err := a.groupType(c)
	if err != nil {
		return err
	}
	saved, err := a.Store.UpdateGroupType(c.ctx(), y.ID, p)
	if err != nil {
		return notFound(err, noGroupType, y.ID)
	}
	return a.sendGroupType(c, http.StatusOK, saved)
}

func (a *API) deleteGroupType(c *call) error {
	if err := c.allow("group:group_types:delete"); err != nil {
		return err
	}
	y, err := a.groupType(c)
	if err != nil {
		return err
	}
	err = a.Store.DeleteGroupType(c.ctx(), y.ID)
	if errors.Is(err, model.ErrInUse) {
		return fault.BadRequest("Target group type is still in use. %s", plain(err))
	}
	if err != nil {
		return notFound(err, noGroupType, y.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}
