package v3

import (
	"errors"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// Default types of projects go before that of the configuration (3.62).

func (a *API) defaultTypeRoutes() []route {
	return []route{
		{method: "GET", path: "/default-types", min: 62, global: true, h: a.listDefaultTypes},
		{method: "GET", path: "/default-types/{id}", min: 62, global: true, h: a.showProjectType},
		{method: "PUT", path: "/default-types/{id}", min: 62, global: true, h: a.setProjectType},
		{method: "DELETE", path: "/default-types/{id}", min: 62, global: true, h: a.unsetProjectType},
	}
}

// project is the one in the path, if the rule allows it and Keystone knows it.
func (a *API) project(c *call, rule string) (string, error) {
	project := c.vars["id"]
	if c.allowOn(rule, project) != nil {
		return "", notAllowed()
	}
	if a.Projects == nil {
		return project, nil
	}
	exists, err := a.Projects.Project(c.ctx(), c.id, project)
	switch {
	case err != nil:
		return "", fault.Unavailable(err, "The identity service is unavailable at the moment; please try again.")
	case !exists:
		return "", fault.NotFound("Project with id %s not found.", project)
	}
	return project, nil
}

func notAllowed() error {
	return fault.New(http.StatusForbidden, "You are not authorized to perform this operation.")
}

func (a *API) listDefaultTypes(c *call) error {
	if c.allow("volume_extension:default_get_all") != nil {
		return notAllowed()
	}
	all, err := a.Store.DefaultTypes(c.ctx())
	if err != nil {
		return err
	}
	rows := make([]view.Object, 0, len(all))
	for _, d := range all {
		rows = append(rows, c.view().DefaultType(d))
	}
	return c.json(http.StatusOK, view.Object{"default_types": rows})
}

func (a *API) showProjectType(c *call) error {
	project, err := a.project(c, "volume_extension:default_get")
	if err != nil {
		return err
	}
	d, err := a.Store.DefaultType(c.ctx(), project)
	if err != nil {
		return notFound(err, "Default type for project %s not found.", project)
	}
	return c.json(http.StatusOK, view.Object{"default_type": c.view().DefaultType(d)})
}

func (a *API) setProjectType(c *call) error {
	_, in, err := c.wrapped("default_type")
	if err != nil {
		return err
	}
	ref, err := in.Name("volume_type")
	if err != nil {
		return err
	}
	if err := in.Require("volume_type"); err != nil {
		return err
	}
	if err := in.Only("volume_type"); err != nil {
		return err
	}
	project, err := a.project(c, "volume_extension:default_set_or_update")
	if err != nil {
		return err
	}
	t, err := a.typeByRef(c, *ref)
	if f, ok := errors.AsType[*fault.Fault](err); ok && f.Status == http.StatusNotFound {
		return fault.BadRequest("%s", f.Message)
	}
	if err != nil {
		return err
	}
	d := model.DefaultType{ProjectID: project, VolumeTypeID: t.ID}
	if err := a.Store.SetDefaultType(c.ctx(), d); err != nil {
		return notFound(err, noType, t.ID)
	}
	return c.json(http.StatusOK, view.Object{"default_type": c.view().DefaultType(d)})
}

func (a *API) unsetProjectType(c *call) error {
	project, err := a.project(c, "volume_extension:default_unset")
	if err != nil {
		return err
	}
	if err := a.Store.UnsetDefaultType(c.ctx(), project); err != nil {
		return err
	}
	return c.empty(http.StatusNoContent)
}
