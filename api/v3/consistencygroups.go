package v3

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// The older API of groups, whose groups are of a type of their own ([model.LegacyGroupType]).
// It shows all groups, as Cinder's does.

func (a *API) consistencyGroupRoutes() []route {
	return []route{
		{method: "GET", path: "/consistencygroups", h: func(c *call) error { return a.consistencyGroupList(c, false) }},
		{method: "GET", path: "/consistencygroups/detail", h: func(c *call) error { return a.consistencyGroupList(c, true) }},
		{method: "POST", path: "/consistencygroups", h: a.createConsistencyGroup},
		{method: "POST", path: "/consistencygroups/create_from_src", h: a.copyConsistencyGroup},
		{method: "GET", path: "/consistencygroups/{id}", h: a.showConsistencyGroup},
		{method: "PUT", path: "/consistencygroups/{id}", h: a.updateConsistencyGroup},
		{method: "PUT", path: "/consistencygroups/{id}/update", h: a.updateConsistencyGroup},
		{method: "POST", path: "/consistencygroups/{id}/delete", h: a.deleteConsistencyGroup},
		{method: "GET", path: "/cgsnapshots", h: func(c *call) error { return a.cgSnapshotList(c, false) }},
		{method: "GET", path: "/cgsnapshots/detail", h: func(c *call) error { return a.cgSnapshotList(c, true) }},
		{method: "POST", path: "/cgsnapshots", h: a.createCGSnapshot},
		{method: "GET", path: "/cgsnapshots/{id}", h: a.showCGSnapshot},
		{method: "DELETE", path: "/cgsnapshots/{id}", h: a.deleteCGSnapshot},
	}
}

// required reads the object under a key that this older API words in its own way.
func (c *call) required(key string) (*schema.Object, error) {
	body, err := c.parse()
	if err != nil {
		return nil, err
	}
	in, err := body.Object(key)
	if err != nil {
		return nil, fault.BadRequest("Missing required element '%s' in request body.", key)
	}
	return in, nil
}

func (a *API) consistencyGroupList(c *call, detail bool) error {
	if err := c.allow("group:get_all"); err != nil {
		return err
	}
	w, _, err := a.askedGroups(c, true)
	if err != nil {
		return err
	}
	return listing[model.Group]{
		key: "consistencygroups", links: "consistencygroup_links", missing: noGroup, id: func(g *model.Group) uuid.UUID { return g.ID },
		find: a.Store.ListGroups, show: each(oneOf(detail, c.view().ConsistencyGroup, c.view().GroupSummary)),
	}.send(a, c, w)
}

func (a *API) sendNewConsistencyGroup(c *call, g model.Group) error {
	return c.json(http.StatusAccepted, view.Object{"consistencygroup": c.view().GroupSummary(&g)})
}

func (a *API) createConsistencyGroup(c *call) error {
	in, err := c.required("consistencygroup")
	if err != nil {
		return err
	}
	g := model.Group{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if g.Name, g.Description, err = groupNames(in); err != nil {
		return err
	}
	kinds, err := in.String("volume_types", 0, 1<<20)
	if err != nil {
		return err
	}
	zone, err := in.String("availability_zone", 0, 255)
	if err != nil {
		return err
	}
	if err := c.allow("group:create"); err != nil {
		return err
	}
	if kinds == nil || *kinds == "" {
		return fault.BadRequest("volume_types must be provided to create consistency group %s.", schema.Str(in.Raw("name")))
	}
	y, err := a.Store.GroupTypeByName(c.ctx(), model.LegacyGroupType, true)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return fault.BadRequest("Group type %s not found. Rerun migration script to create the default cgsnapshot type.", model.LegacyGroupType)
	case err != nil:
		return err
	}
	made, err := a.newGroup(c, g, y, strings.Split(strings.TrimRight(*kinds, ","), ","), zone)
	if err != nil {
		return err
	}
	return a.sendNewConsistencyGroup(c, made)
}

func (a *API) copyConsistencyGroup(c *call) error {
	in, err := c.required("consistencygroup-from-src")
	if err != nil {
		return err
	}
	g := model.Group{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if g.Name, g.Description, err = groupNames(in); err != nil {
		return err
	}
	snapshot, err := in.String("cgsnapshot_id", 1, 255)
	if err != nil {
		return err
	}
	source, err := in.String("source_cgid", 1, 255)
	if err != nil {
		return err
	}
	switch name := schema.Str(in.Raw("name")); {
	case snapshot == nil && source == nil:
		return fault.BadRequest("Either 'cgsnapshot_id' or 'source_cgid' must be provided to create consistency group %s from source.", name)
	case snapshot != nil && source != nil:
		return fault.BadRequest("Cannot provide both 'cgsnapshot_id' and 'source_cgid' to create consistency group %s from source.", name)
	}
	made, err := a.copyGroup(c, g, snapshot, source, true)
	if err != nil {
		return err
	}
	return a.sendNewConsistencyGroup(c, made)
}

func (a *API) showConsistencyGroup(c *call) error {
	g, err := a.groupByID(c, c.vars["id"], "group:get")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"consistencygroup": c.view().ConsistencyGroup(&g)})
}

// updateConsistencyGroup takes an empty name or description from 3.6 on.
func (a *API) updateConsistencyGroup(c *call) error {
	in, err := c.required("consistencygroup")
	if err != nil {
		return err
	}
	p, err := groupPatch(in)
	if err != nil {
		return err
	}
	g, err := a.groupByID(c, c.vars["id"], "group:get", "group:update")
	if err != nil {
		return err
	}
	set := func(s *string) bool { return s != nil && (*s != "" || c.mv >= 6) }
	if !set(p.Name) && !set(p.Description) && len(p.Add)+len(p.Remove) == 0 {
		if c.mv >= 6 {
			return fault.BadRequest("Must specify one or more of the following keys to update: name, description, add_volumes, remove_volumes.")
		}
		return fault.BadRequest("Name, description, add_volumes, and remove_volumes can not be all empty in the request body.")
	}
	return a.saveGroup(c, g, p)
}

func (a *API) deleteConsistencyGroup(c *call) error {
	var force *bool
	if len(c.body) > 0 {
		in, err := c.required("consistencygroup")
		if err != nil {
			return err
		}
		if force, err = in.Bool("force"); err != nil {
			return fault.BadRequest("Invalid value '%s' for force.", schema.Str(in.Raw("force")))
		}
	}
	g, err := a.groupByID(c, c.vars["id"], "group:get", "group:delete")
	if err != nil {
		return err
	}
	return a.endGroup(c, g, force != nil && *force)
}

// cgSnapshotList has pages, but no markers, filters or order.
func (a *API) cgSnapshotList(c *call, detail bool) error {
	if err := c.allow("group:get_all_group_snapshots"); err != nil {
		return err
	}
	given, params := c.r.URL.Query(), url.Values{}
	for _, key := range []string{"limit", "offset"} {
		if given.Has(key) {
			params[key] = given[key]
		}
	}
	w, err := a.asked(params, noGroupSnapshot, nil)
	if err != nil {
		return err
	}
	w.query.ProjectID = c.id.ProjectID
	rows := []model.GroupSnapshot{}
	if w.limit != 0 {
		if rows, err = a.Store.ListGroupSnapshots(c.ctx(), w.query); err != nil {
			return err
		}
	}
	shown, err := each(oneOf(detail, c.view().CGSnapshot, c.view().GroupSnapshotSummary))(rows)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"cgsnapshots": shown})
}

func (a *API) createCGSnapshot(c *call) error {
	in, err := c.required("cgsnapshot")
	if err != nil {
		return err
	}
	p := model.GroupSnapshot{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if p.Name, p.Description, err = groupNames(in); err != nil {
		return err
	}
	if !in.Given("consistencygroup_id") {
		return fault.BadRequest("'consistencygroup_id' must be specified")
	}
	group, err := in.String("consistencygroup_id", 0, 255)
	if err != nil {
		return err
	}
	if group == nil {
		return fault.NotFound(noGroup, "None")
	}
	g, err := a.groupByID(c, *group, "group:get", "group:create_group_snapshot")
	if err != nil {
		return err
	}
	made, err := a.snapshotGroup(c, g, p)
	if err != nil {
		return err
	}
	return c.json(http.StatusAccepted, view.Object{"cgsnapshot": c.view().GroupSnapshotSummary(&made)})
}

func (a *API) showCGSnapshot(c *call) error {
	p, err := a.groupSnapshotByID(c, c.vars["id"], "group:get_group_snapshot")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"cgsnapshot": c.view().CGSnapshot(&p)})
}

func (a *API) deleteCGSnapshot(c *call) error {
	p, err := a.groupSnapshotByID(c, c.vars["id"], "group:get_group_snapshot", "group:delete_group_snapshot")
	if err != nil {
		return err
	}
	return a.endGroupSnapshot(c, p)
}
