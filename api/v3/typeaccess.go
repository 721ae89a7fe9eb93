package v3

import (
	"errors"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) typeAccessRoutes() []route {
	return []route{
		{method: "POST", path: "/types/{id}/action", h: a.typeAction},
		{method: "GET", path: "/types/{id}/os-volume-type-access", h: a.listTypeAccess},
	}
}

func (a *API) listTypeAccess(c *call) error {
	t, err := a.volumeType(c, "volume_extension:volume_type_access:get_all_for_type")
	if err != nil {
		return err
	}
	if t.IsPublic {
		return fault.NotFound("Access list not available for public volume types.")
	}
	projects, err := a.Store.TypeProjects(c.ctx(), t.ID)
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
	name, body, err := c.action()
	if err != nil {
		return err
	}
	if name != "addProjectAccess" && name != "removeProjectAccess" {
		return noAction(name)
	}
	in, err := body.Object(name)
	if err != nil {
		return err
	}
	project, err := in.ID("project")
	if err != nil {
		return err
	}
	if err := closed(body, in, []string{"project"}, "project"); err != nil {
		return err
	}
	t, err := a.volumeType(c, "volume_extension:volume_type_access:"+name)
	if err != nil {
		return err
	}
	if t.IsPublic {
		return fault.BadRequest("Invalid volume type: Type access modification is not applicable to public volume type.")
	}
	if name == "removeProjectAccess" {
		err = a.Store.RemoveTypeProject(c.ctx(), t.ID, *project)
		err = notFound(err, "Volume type access not found for %s / %s combination.", t.ID, *project)
	} else {
		err = notFound(a.Store.AddTypeProject(c.ctx(), t.ID, *project), noType, t.ID)
	}
	switch {
	case errors.Is(err, model.ErrExists):
		return fault.Conflict("Volume type access for %s / %s combination already exists.", t.ID, *project)
	case err != nil:
		return err
	}
	return c.emptyHTML(http.StatusAccepted)
}
