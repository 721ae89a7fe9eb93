package v3

import (
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

const noGroup = "Group %s could not be found."

func (a *API) groupRoutes() []route {
	const since = 13
	return []route{
		{method: "GET", path: "/groups", min: since, h: func(c *call) error { return a.groupList(c, false) }},
		{method: "GET", path: "/groups/detail", min: since, h: func(c *call) error { return a.groupList(c, true) }},
		{method: "POST", path: "/groups", min: since, h: a.createGroup},
		{method: "POST", path: "/groups/action", min: 14, h: a.groupsAction},
		{method: "GET", path: "/groups/{id}", min: since, h: a.showGroup},
		{method: "PUT", path: "/groups/{id}", min: since, h: a.updateGroup},
		{method: "POST", path: "/groups/{id}/action", min: since, h: a.groupAction},
	}
}

// groupByID finds a group of whatever type, for whom the rules allow it.
func (a *API) groupByID(c *call, text string, rules ...string) (model.Group, error) {
	g, err := byID(c, text, noGroup, a.Store.Group)
	if err != nil {
		return g, err
	}
	for _, rule := range rules {
		if err := c.allowOwner(rule, g.ProjectID, g.UserID); err != nil {
			return g, err
		}
	}
	return g, nil
}

// group finds the one in the path, if it is not of the older API's type.
func (a *API) group(c *call, rules ...string) (model.Group, error) {
	g, err := a.groupByID(c, c.vars["id"], rules...)
	if err == nil && g.Legacy {
		err = reservedType(g.GroupTypeID)
	}
	return g, err
}

func reservedType(id uuid.UUID) error {
	return fault.BadRequest("Group_type %s is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs.", id)
}

// groupRefused is a 400 in the words of the rules of groups.
func groupRefused(err error) error {
	if errors.Is(err, model.ErrInvalid) || errors.Is(err, model.ErrConflict) {
		return fault.BadRequest("%s", plain(err))
	}
	return err
}

func (a *API) showGroup(c *call) error {
	g, err := a.group(c, "group:get")
	if err != nil {
		return err
	}
	volumes := false
	if c.mv >= 25 {
		if volumes, err = flag(c.r.URL.Query(), "list_volume"); err != nil {
			return err
		}
	}
	return c.json(http.StatusOK, view.Object{"group": c.view().Group(&g, volumes)})
}

func groupColumns() map[string]string {
	return map[string]string{
		"id": "id", "name": "name", "description": "description", "status": "status", "availability_zone": "availability_zone",
		"group_type_id": "group_type_id", "group_snapshot_id": "group_snapshot_id", "source_group_id": "source_group_id",
		"project_id": "project_id", "user_id": "user_id", "created_at": "created_at", "updated_at": "updated_at",
	}
}

// askedGroups is what a list of groups asks for. To the older API, and up to 3.30, all columns
// are filters for everybody, and an unknown one matches nothing.
func (a *API) askedGroups(c *call, older bool) (w asked, volumes bool, err error) {
	params := c.r.URL.Query()
	w, err = a.askedOwn(c, params, noGroup, []string{"id", "name", "status", "group_type_id", "project_id", "user_id", "description",
		"availability_zone", "created_at", "updated_at"})
	if err != nil {
		return w, false, err
	}
	if volumes, err = flag(params, "list_volume"); err != nil {
		return w, false, err
	}
	params.Del("list_volume")
	rules := filterRules{allowed: a.filtersOf("group"), columns: groupColumns(), admin: c.id.Admin || older || c.mv < 31, mv: c.mv}
	return w, volumes, w.filter(rules, params, "id", "group_type_id", "group_snapshot_id", "source_group_id")
}

func (a *API) groupList(c *call, detail bool) error {
	if err := c.allow("group:get_all"); err != nil {
		return err
	}
	w, volumes, err := a.askedGroups(c, false)
	if err != nil {
		return err
	}
	w.query.Filters = append(w.query.Filters, model.Filter{Column: "legacy", Op: "=", Value: "false"})
	long := func(g *model.Group) view.Object { return c.view().Group(g, volumes) }
	return listing[model.Group]{
		key: "groups", links: "group_links", missing: noGroup, id: func(g *model.Group) uuid.UUID { return g.ID },
		find: a.Store.ListGroups, show: each(oneOf(detail, long, c.view().GroupSummary)),
	}.send(a, c, w)
}

func (a *API) sendNewGroup(c *call, g model.Group) error {
	return c.json(http.StatusAccepted, view.Object{"group": c.view().GroupSummary(&g)})
}

func (a *API) createGroup(c *call) error {
	body, in, err := c.wrapped("group")
	if err != nil {
		return err
	}
	g := model.Group{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if g.Name, g.Description, err = groupNames(in); err != nil {
		return err
	}
	kind, err := in.Plain("group_type", 1, 255)
	if err != nil {
		return err
	}
	var kinds []string
	if in.Given("volume_types") {
		if kinds, err = in.Texts("volume_types"); err != nil {
			return err
		}
		if len(kinds) == 0 {
			return in.Invalid("volume_types", "[] is too short")
		}
	}
	zone, err := in.String("availability_zone", 1, 255)
	if err != nil {
		return err
	}
	err = closed(body, in, []string{"group_type", "volume_types"}, "name", "description", "group_type", "volume_types", "availability_zone")
	if err != nil {
		return err
	}
	if err := c.allow("group:create"); err != nil {
		return err
	}
	y, err := a.groupTypeByRef(c, *kind)
	if err != nil {
		return err
	}
	if y.Name == model.LegacyGroupType {
		return reservedType(y.ID)
	}
	made, err := a.newGroup(c, g, y, kinds, zone)
	if err != nil {
		return err
	}
	return a.sendNewGroup(c, made)
}

// groupNames are a name and a description without the spaces around them, nil if not given.
func groupNames(in *schema.Object) (name, description *string, err error) {
	if name, err = nameOf(in, "name", "name"); err != nil {
		return nil, nil, err
	}
	if description, err = in.Description("description"); err != nil || description == nil {
		return name, nil, err
	}
	trimmed := strings.TrimSpace(*description)
	return name, &trimmed, nil
}

// newGroup makes a group of a type for volumes of types, which are ids or names.
func (a *API) newGroup(c *call, g model.Group, y model.GroupType, kinds []string, zone *string) (model.Group, error) {
	if c.id.ProjectID == "" {
		return g, fault.BadRequest("A token with a project is needed to create a group.")
	}
	g.GroupTypeID = y.ID
	for _, ref := range kinds {
		t, err := a.typeByRef(c, ref)
		if err != nil {
			return g, err
		}
		if !slices.Contains(g.VolumeTypes, t.ID) {
			g.VolumeTypes = append(g.VolumeTypes, t.ID)
		}
	}
	if zone == nil {
		zone = &a.DefaultZone
	}
	g.AvailabilityZone = zone
	known, err := a.hasZone(c, *zone)
	if err != nil {
		return g, err
	}
	if !known {
		return g, fault.InvalidInput("Availability zone '%s' is invalid.", *zone)
	}
	made, err := a.Store.CreateGroup(c.ctx(), g)
	return made, notFound(groupRefused(err), noGroupType, y.ID)
}

func (a *API) updateGroup(c *call) error {
	body, in, err := c.wrapped("group")
	if err != nil {
		return err
	}
	p, err := groupPatch(in)
	if err != nil {
		return err
	}
	if err := closed(body, in, nil, "name", "description", "add_volumes", "remove_volumes"); err != nil {
		return err
	}
	if len(in.Keys()) == 0 {
		return in.InvalidSelf("{} is not valid under any of the given schemas")
	}
	g, err := a.group(c, "group:get", "group:update")
	if err != nil {
		return err
	}
	return a.saveGroup(c, g, p)
}

func groupPatch(in *schema.Object) (p model.GroupPatch, err error) {
	if p.Name, p.Description, err = groupNames(in); err != nil {
		return p, err
	}
	for key, to := range map[string]*[]string{"add_volumes": &p.Add, "remove_volumes": &p.Remove} {
		list, err := in.Description(key)
		if err != nil {
			return p, err
		}
		if list != nil && *list != "" {
			*to = strings.Split(strings.Trim(*list, ","), ",")
		}
	}
	return p, nil
}

func (a *API) saveGroup(c *call, g model.Group, p model.GroupPatch) error {
	if _, err := a.Store.UpdateGroup(c.ctx(), g.ID, p); err != nil {
		return notFound(groupRefused(err), noGroup, g.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// groupsAction makes a group from a group snapshot or from another group.
func (a *API) groupsAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	if name != "create-from-src" {
		return noAction(name)
	}
	in, err := body.Object(name)
	if err != nil {
		return err
	}
	g := model.Group{ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID}
	if g.Name, g.Description, err = groupNames(in); err != nil {
		return err
	}
	snapshot, err := in.ID("group_snapshot_id")
	if err != nil {
		return err
	}
	source, err := in.ID("source_group_id")
	if err != nil {
		return err
	}
	switch {
	case snapshot == nil && source == nil:
		return in.InvalidSelf("%s is not valid under any of the given schemas", schema.Repr(in.Self()))
	case snapshot != nil && source != nil:
		return in.InvalidSelf("%s is valid under each of {'required': ['source_group_id']}, {'required': ['group_snapshot_id']}", schema.Repr(in.Self()))
	}
	if err := in.Only("name", "description", "group_snapshot_id", "source_group_id"); err != nil {
		return err
	}
	made, err := a.copyGroup(c, g, snapshot, source, false)
	if err != nil {
		return err
	}
	return a.sendNewGroup(c, made)
}

// copyGroup makes a group from one of two sources. Groups of the older API's type are not
// copied but by that.
func (a *API) copyGroup(c *call, g model.Group, snapshot, source *string, older bool) (model.Group, error) {
	if c.id.ProjectID == "" {
		return g, fault.BadRequest("A token with a project is needed to create a group.")
	}
	var legacy bool
	if snapshot != nil {
		p, err := a.groupSnapshotByID(c, *snapshot, "group:get_group_snapshot")
		if err != nil {
			return g, err
		}
		g.GroupSnapshotID, g.GroupTypeID, legacy = &p.ID, p.GroupTypeID, p.Legacy
	} else {
		from, err := a.groupByID(c, *source, "group:get")
		if err != nil {
			return g, err
		}
		g.SourceGroupID, g.GroupTypeID, legacy = &from.ID, from.GroupTypeID, from.Legacy
	}
	if err := c.allow("group:create"); err != nil {
		return g, err
	}
	if legacy && !older {
		return g, reservedType(g.GroupTypeID)
	}
	made, err := a.Scheduler.CopyGroup(c.ctx(), g)
	var quota *model.QuotaError
	switch {
	case errors.As(err, &quota): // which Cinder answers like all that it refuses here
		return made, fault.BadRequest("%s", quotaFault(quota).Message)
	case snapshot != nil:
		return made, notFound(groupRefused(err), noGroupSnapshot, *snapshot)
	}
	return made, notFound(groupRefused(err), noGroup, *source)
}
