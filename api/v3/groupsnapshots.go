package v3

import (
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noGroupSnapshot = "GroupSnapshot %s could not be found."

func (a *API) groupSnapshotRoutes() []route {
	const since = 14
	return []route{
		{method: "GET", path: "/group_snapshots", min: since, h: func(c *call) error { return a.groupSnapshotList(c, false) }},
		{method: "GET", path: "/group_snapshots/detail", min: since, h: func(c *call) error { return a.groupSnapshotList(c, true) }},
		{method: "POST", path: "/group_snapshots", min: since, h: a.createGroupSnapshot},
		{method: "GET", path: "/group_snapshots/{id}", min: since, h: a.showGroupSnapshot},
		{method: "DELETE", path: "/group_snapshots/{id}", min: since, h: a.deleteGroupSnapshot},
		{method: "POST", path: "/group_snapshots/{id}/action", min: 19, h: a.groupSnapshotAction},
	}
}

// groupSnapshotByID finds one of a group of whatever type, for whom the rules allow it.
func (a *API) groupSnapshotByID(c *call, text string, rules ...string) (model.GroupSnapshot, error) {
	p, err := byID(c, text, noGroupSnapshot, a.Store.GroupSnapshot)
	if err != nil {
		return p, err
	}
	for _, rule := range rules {
		if err := c.allowOwner(rule, p.ProjectID, p.UserID); err != nil {
			return p, err
		}
	}
	return p, nil
}

// groupSnapshot finds the one in the path, if its group is not of the older API's type.
func (a *API) groupSnapshot(c *call, rules ...string) (model.GroupSnapshot, error) {
	p, err := a.groupSnapshotByID(c, c.vars["id"], rules...)
	if err == nil && p.Legacy {
		err = reservedSnapshot(p.GroupTypeID)
	}
	return p, err
}

func reservedSnapshot(kind uuid.UUID) error {
	return fault.BadRequest("Group_type %s is reserved for migrating CGs to groups. Migrated group snapshots can only be operated by CG snapshot APIs.", kind)
}

func (a *API) showGroupSnapshot(c *call) error {
	p, err := a.groupSnapshot(c, "group:get_group_snapshot")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"group_snapshot": c.view().GroupSnapshot(&p)})
}

// groupSnapshotList has pages and filters from 3.29 on.
func (a *API) groupSnapshotList(c *call, detail bool) error {
	if err := c.allow("group:get_all_group_snapshots"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	if c.mv < 29 {
		params = url.Values{}
	}
	w, err := a.asked(params, noGroupSnapshot, []string{"id", "name", "status", "group_id", "group_type_id", "project_id", "user_id", "description", "created_at", "updated_at"})
	if err != nil {
		return err
	}
	w.query.ProjectID = c.id.ProjectID
	if c.mv >= 29 {
		if w.query.ProjectID, err = c.listScope(); err != nil {
			return err
		}
	}
	rules := filterRules{allowed: a.filtersOf("group_snapshot"), admin: c.id.Admin, mv: c.mv, columns: map[string]string{
		"id": "id", "name": "name", "description": "description", "status": "status", "group_id": "group_id", "group_type_id": "group_type_id",
		"project_id": "project_id", "user_id": "user_id", "created_at": "created_at", "updated_at": "updated_at",
	}}
	if err := w.filter(rules, params, "id", "group_id", "group_type_id"); err != nil {
		return err
	}
	w.query.Filters = append(w.query.Filters, model.Filter{Column: "legacy", Op: "=", Value: "false"})
	return listing[model.GroupSnapshot]{
		key: "group_snapshots", links: "group_snapshot_links", missing: noGroupSnapshot, id: func(p *model.GroupSnapshot) uuid.UUID { return p.ID },
		find: a.Store.ListGroupSnapshots, show: each(oneOf(detail, c.view().GroupSnapshot, c.view().GroupSnapshotSummary)),
	}.send(a, c, w)
}

func (a *API) createGroupSnapshot(c *call) error {
	body, in, err := c.wrapped("group_snapshot")
	if err != nil {
		return err
	}
	group, err := in.ID("group_id")
	if err != nil {
		return err
	}
	p := model.GroupSnapshot{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if p.Name, err = in.String("name", 0, 255); err != nil {
		return err
	}
	if p.Description, err = in.Description("description"); err != nil {
		return err
	}
	if err := closed(body, in, []string{"group_id"}, "group_id", "name", "description"); err != nil {
		return err
	}
	g, err := a.groupByID(c, *group, "group:get", "group:create_group_snapshot")
	if err != nil {
		return err
	}
	if g.Legacy {
		return reservedSnapshot(g.GroupTypeID)
	}
	made, err := a.snapshotGroup(c, g, p)
	if err != nil {
		return err
	}
	o := c.view().GroupSnapshotSummary(&made)
	o["group_type_id"] = made.GroupTypeID
	return c.json(http.StatusAccepted, view.Object{"group_snapshot": o})
}

func (a *API) snapshotGroup(c *call, g model.Group, p model.GroupSnapshot) (model.GroupSnapshot, error) {
	if c.id.ProjectID == "" {
		return p, fault.BadRequest("A token with a project is needed to create a group snapshot.")
	}
	p.GroupID, p.GroupTypeID = g.ID, g.GroupTypeID
	made, err := a.Scheduler.SnapshotGroup(c.ctx(), p)
	return made, notFound(groupRefused(err), noGroup, g.ID)
}

func (a *API) deleteGroupSnapshot(c *call) error {
	p, err := a.groupSnapshot(c, "group:get_group_snapshot", "group:delete_group_snapshot")
	if err != nil {
		return err
	}
	return a.endGroupSnapshot(c, p)
}

func (a *API) endGroupSnapshot(c *call, p model.GroupSnapshot) error {
	if err := a.Scheduler.DeleteGroupSnapshot(c.ctx(), p.ID); err != nil {
		return notFound(groupRefused(err), noGroupSnapshot, p.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) groupSnapshotAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	if name != "reset_status" {
		return noAction(name)
	}
	in, err := body.Object(name)
	if err != nil {
		return err
	}
	return a.resetGroupSnapshot(c, in)
}

func (a *API) resetGroupSnapshot(c *call, in *schema.Object) error {
	to, err := wantedStatus(in, "Invalid GroupSnapshot Status", "Group snapshot", "valid statuses are", groupSnapshotStatuses())
	if err != nil {
		return err
	}
	p, err := a.groupSnapshotByID(c, c.vars["id"], "group:get_group_snapshot", "group:reset_group_snapshot_status")
	if err != nil {
		return err
	}
	if err := a.Store.ResetGroupSnapshot(c.ctx(), p.ID, to); err != nil {
		return notFound(err, noGroupSnapshot, p.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}
