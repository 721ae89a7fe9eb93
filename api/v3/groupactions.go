package v3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) groupActions() map[string]action {
	replicate := func(rule string) action {
		return action{min: 38, do: func(c *call, in *schema.Object) error { return a.replicateGroup(c, in, rule) }}
	}
	return map[string]action{
		"delete":                   {do: a.deleteGroup},
		"reset_status":             {min: 20, do: a.resetGroup},
		"enable_replication":       replicate("group:enable_replication"),
		"disable_replication":      replicate("group:disable_replication"),
		"failover_replication":     {min: 38, do: a.failOverGroup},
		"list_replication_targets": {min: 38, do: a.listReplicationTargets},
	}
}

func (a *API) groupAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	act, ok := a.groupActions()[name]
	switch {
	case !ok:
		return noAction(name)
	case c.mv < act.min:
		return fault.NotFound("The resource could not be found.")
	}
	in, err := body.Object(name)
	if err != nil {
		return err
	}
	return act.do(c, in)
}

func (a *API) deleteGroup(c *call, in *schema.Object) error {
	volumes, err := in.Flag("delete-volumes")
	if err != nil {
		return err
	}
	if err := in.Only("delete-volumes"); err != nil {
		return err
	}
	g, err := a.group(c, "group:get", "group:delete")
	if err != nil {
		return err
	}
	return a.endGroup(c, g, volumes != nil && *volumes)
}

func (a *API) endGroup(c *call, g model.Group, volumes bool) error {
	if err := a.Scheduler.DeleteGroup(c.ctx(), g.ID, volumes); err != nil {
		return notFound(groupRefused(err), noGroup, g.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// Statuses as Cinder lists them (cinder/objects/fields.py). A group can't be told to be in-use.
func groupSnapshotStatuses() []string {
	return []string{"error", "available", "creating", "deleting", "deleted", "updating", "error_deleting"}
}

// wantedStatus reads what reset_status asks for. Noun and tail are those of the message.
func wantedStatus(in *schema.Object, class, noun, tail string, listed []string) (model.GroupStatus, error) {
	status, err := in.Plain("status", 0, 255)
	if err != nil {
		return "", err
	}
	switch {
	case status == nil:
	case strings.TrimSpace(*status) == "":
		return "", fault.BadRequest("%s: The 'status' can not be empty.", class)
	case !slices.Contains(groupSnapshotStatuses(), strings.ToLower(*status)):
		return "", fault.BadRequest("%s: %s status: %s is invalid, %s: ('%s').", class, noun, *status, tail, strings.Join(listed, "', '"))
	}
	if err := in.Require("status"); err != nil {
		return "", err
	}
	return model.GroupStatus(strings.ToLower(*status)), in.Only("status")
}

func (a *API) resetGroup(c *call, in *schema.Object) error {
	all := slices.Insert(groupSnapshotStatuses(), 6, "in-use")
	to, err := wantedStatus(in, "Invalid Group Status", "Group", "valid status are", all)
	if err != nil {
		return err
	}
	g, err := a.groupByID(c, c.vars["id"], "group:get", "group:reset_status")
	if err != nil {
		return err
	}
	if err := a.Store.ResetGroup(c.ctx(), g.ID, to); err != nil {
		return notFound(err, noGroup, g.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// replicatedGroup refuses a group that could be replicated by no backend.
func (a *API) replicatedGroup(c *call, rule string) error {
	g, err := a.groupByID(c, c.vars["id"], "group:get", rule)
	if err != nil {
		return err
	}
	if !g.Replicated() {
		return fault.BadRequest("Invalid group type: Group %s is not a replication group type.", g.ID)
	}
	for _, id := range g.VolumeTypes {
		t, err := a.Store.Type(c.ctx(), id, "")
		if err != nil {
			return notFound(err, noType, id)
		}
		if !t.Is("replication_enabled") {
			return fault.BadRequest("Invalid volume type: Volume type %s does not have 'replication_enabled' spec key set to '<is> True'.", id)
		}
	}
	return nil
}

func (a *API) replicateGroup(c *call, _ *schema.Object, rule string) error {
	if err := a.replicatedGroup(c, rule); err != nil {
		return err
	}
	return unsupported("Replicating a group")
}

func (a *API) failOverGroup(c *call, in *schema.Object) error {
	if _, err := in.Flag("allow_attached_volume"); err != nil {
		return err
	}
	if _, err := in.String("secondary_backend_id", 0, 255); err != nil {
		return err
	}
	if err := in.Only("allow_attached_volume", "secondary_backend_id"); err != nil {
		return err
	}
	return a.replicateGroup(c, in, "group:failover_replication")
}

// listReplicationTargets has none to list.
func (a *API) listReplicationTargets(c *call, _ *schema.Object) error {
	if err := a.replicatedGroup(c, "group:list_replication_targets"); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"replication_targets": []any{}})
}
