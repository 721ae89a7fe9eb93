package v3

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noSnapshot = "Snapshot %s could not be found."

func (a *API) snapshotRoutes() []route {
	return []route{
		{method: "GET", path: "/snapshots", h: a.listSnapshots},
		{method: "GET", path: "/snapshots/detail", h: a.listSnapshotsDetail},
		{method: "POST", path: "/snapshots", h: a.createSnapshot},
		{method: "GET", path: "/snapshots/{id}", h: a.showSnapshot},
		{method: "PUT", path: "/snapshots/{id}", h: a.updateSnapshot},
		{method: "DELETE", path: "/snapshots/{id}", h: a.deleteSnapshot},
		{method: "POST", path: "/snapshots/{id}/action", h: a.snapshotAction},
	}
}

func (a *API) snapshot(c *call, rule string) (model.Snapshot, error) {
	return a.snapshotByID(c, c.vars["id"], rule)
}

func (a *API) snapshotByID(c *call, text, rule string) (model.Snapshot, error) {
	s, err := byID(c, text, noSnapshot, a.Store.Snapshot)
	if err != nil {
		return s, err
	}
	return s, c.allowOwner(rule, s.ProjectID, s.UserID)
}

func (a *API) showSnapshot(c *call) error {
	s, err := a.snapshot(c, "volume:get_snapshot")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"snapshot": c.view().SnapshotDetail(&s)})
}

func (a *API) listSnapshots(c *call) error       { return a.snapshotList(c, false) }
func (a *API) listSnapshotsDetail(c *call) error { return a.snapshotList(c, true) }

func snapshotSorts() []string {
	return []string{"id", "name", "display_name", "status", "volume_id", "volume_size", "created_at", "updated_at", "project_id", "user_id",
		"description", "progress", "volume_type_id"}
}

func snapshotColumns() map[string]string {
	return map[string]string{
		"id": "id", "name": "name", "display_name": "name", "description": "description", "status": "status", "volume_id": "volume_id",
		"metadata": "metadata", "availability_zone": "availability_zone", "consumes_quota": "consumes_quota", "size": "size",
		"volume_size": "size", "project_id": "project_id", "tenant_id": "project_id", "user_id": "user_id", "host": "host",
		"created_at": "created_at", "updated_at": "updated_at", "group_snapshot_id": "group_snapshot_id", "progress": "progress",
		"volume_type_id": "volume_type_id",
	}
}

func (a *API) snapshotList(c *call, detail bool) error {
	if err := c.allow("volume:get_all_snapshots"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	sorts := snapshotSorts()
	if c.mv < 30 {
		sorts = slices.DeleteFunc(sorts, func(key string) bool { return key == "name" })
	}
	w, err := a.askedOwn(c, params, noSnapshot, sorts)
	if err != nil {
		return err
	}
	if c.mv < 22 {
		params.Del("metadata")
	}
	rules := filterRules{allowed: a.filtersOf("snapshot"), columns: snapshotColumns(), admin: c.id.Admin, counted: true, mv: c.mv, node: a.nodeNamed(c)}
	if err := w.filter(rules, params, "id", "volume_id", "group_snapshot_id", "volume_type_id"); err != nil {
		return err
	}
	return listing[model.Snapshot]{
		key: "snapshots", links: "snapshots_links", missing: noSnapshot,
		id:   func(s *model.Snapshot) uuid.UUID { return s.ID },
		find: a.Store.ListSnapshots, count: a.Store.CountSnapshots,
		show: each(oneOf(detail, c.view().SnapshotDetail, c.view().SnapshotSummary)),
	}.send(a, c, w)
}

const inUseFlag = "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, " +
	"when the 'force' flag is passed with a value evaluating to True, it is silently ignored."

// createSnapshot needs force for a volume in use, before 3.66.
func (a *API) createSnapshot(c *call) error {
	in, err := c.inner("snapshot")
	if err != nil {
		return err
	}
	if err := in.Only("name", "display_name", "description", "volume_id", "force", "metadata"); err != nil {
		return err
	}
	if err := in.Require("volume_id"); err != nil {
		return err
	}
	volume, err := in.String("volume_id", 1, 255)
	if err != nil {
		return err
	}
	if volume == nil { // which Cinder looks for
		return fault.NotFound(noVolume, "None")
	}
	if !isUUID(*volume) {
		return in.Invalid("volume_id", "'%s' is not valid under any of the given schemas", *volume)
	}
	if in.Given("force") && !in.Has("force") {
		return in.Invalid("force", "None is not of type 'boolean', 'string'")
	}
	force, err := in.Bool("force")
	if err != nil {
		return err
	}
	if c.mv >= 66 && force != nil && !*force {
		return fault.BadRequest("%s", inUseFlag)
	}
	s := model.Snapshot{ID: uuid.New(), ConsumesQuota: true}
	if s.Name, err = nameOf(in, "name", "display_name"); err != nil {
		return err
	}
	if s.Description, err = nameOf(in, "description", "display_description"); err != nil {
		return err
	}
	m, err := in.Strings("metadata")
	if err != nil {
		return err
	}
	s.Metadata = writable(m)
	v, err := a.volumeByID(c, *volume, "volume:create_snapshot")
	if err != nil {
		return err
	}
	s.VolumeID, s.ProjectID, s.UserID = v.ID, c.id.ProjectID, c.id.UserID
	from := []model.VolumeStatus{model.VolumeAvailable}
	if force != nil && *force || c.mv >= 66 {
		from = append(from, model.VolumeInUse)
	}
	made, err := a.Scheduler.Snapshot(c.ctx(), []model.Snapshot{s}, from)
	if isState(err) {
		return fault.InvalidVolume("Volume %s status must be %s, but current status is: %s.", v.ID, joined(from), v.Status)
	}
	if err != nil {
		return notFound(err, noVolume, *volume)
	}
	made[0].Status, made[0].Progress, made[0].UpdatedAt = model.SnapshotCreating, "0%", nil
	return c.json(http.StatusAccepted, view.Object{"snapshot": c.view().Snapshot(&made[0])})
}

func joined[T ~string](of []T) string {
	words := make([]string, len(of))
	for i, s := range of {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

func (a *API) updateSnapshot(c *call) error {
	in, err := c.inner("snapshot")
	if err != nil {
		return err
	}
	known := []string{"name", "description", "display_name", "display_description"}
	if err := in.Only(known...); err != nil {
		return err
	}
	if len(in.Keys()) == 0 {
		return in.InvalidSelf("{} does not have enough properties")
	}
	var p model.SnapshotPatch
	if p.Name, err = nameOf(in, "name", "display_name"); err != nil {
		return err
	}
	if p.Description, err = nameOf(in, "description", "display_description"); err != nil {
		return err
	}
	p.NoName = p.Name == nil && (in.Given("name") || in.Given("display_name"))
	p.NoDescription = p.Description == nil && (in.Given("description") || in.Given("display_description"))
	s, err := a.snapshot(c, "volume:update_snapshot")
	if err != nil {
		return err
	}
	if s, err = a.Store.PatchSnapshot(c.ctx(), s.ID, p); err != nil {
		return notFound(err, noSnapshot, c.vars["id"])
	}
	return c.json(http.StatusOK, view.Object{"snapshot": c.view().Snapshot(&s)})
}

func (a *API) deleteSnapshot(c *call) error {
	s, err := a.snapshot(c, "volume:delete_snapshot")
	if err != nil {
		return err
	}
	return a.endSnapshot(c, s, []model.SnapshotStatus{model.SnapshotAvailable, model.SnapshotError})
}

// endSnapshot deletes a snapshot whose status is one of from; nil is any.
func (a *API) endSnapshot(c *call, s model.Snapshot, from []model.SnapshotStatus) error {
	const refused = "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
	if s.GroupSnapshotID != nil {
		return fault.BadRequest(refused)
	}
	err := a.Scheduler.DeleteSnapshot(c.ctx(), s.ID, from)
	if errors.Is(err, model.ErrConflict) {
		return fault.BadRequest(refused)
	}
	if err != nil {
		return notFound(err, noSnapshot, s.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) snapshotActions() map[string]action {
	return map[string]action{
		"os-reset_status":           {do: a.resetSnapshot, keys: []string{"status"}},
		"os-force_delete":           {do: a.forceDeleteSnapshot},
		"os-update_snapshot_status": {do: a.reportSnapshot, keys: []string{"status", "progress"}},
		"os-unmanage":               {do: a.unmanageSnapshot},
	}
}

func (a *API) snapshotAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	act, ok := a.snapshotActions()[name]
	if !ok {
		return noAction(name)
	}
	return act.run(c, name, body)
}

func snapshotStatuses() []string {
	return []string{"error", "available", "creating", "deleting", "deleted", "updating", "error_deleting", "unmanaging", "backing-up", "restoring"}
}

func (a *API) resetSnapshot(c *call, in *schema.Object) error {
	status, err := in.Text("status", 1, 255)
	if err != nil {
		return err
	}
	s, err := a.snapshot(c, "volume_extension:snapshot_admin_actions:reset_status")
	if err != nil {
		return err
	}
	to := strings.ToLower(status)
	if !slices.Contains(snapshotStatuses(), to) || to == "deleted" || to == "updating" { // the row of a deleted one is gone, none is ever updating
		return fault.BadRequest("Snapshot status: %s is invalid, valid statuses are: ('%s').", to, strings.Join(snapshotStatuses(), "', '"))
	}
	if _, err := a.Store.MoveSnapshot(c.ctx(), s.ID, model.SnapshotMove{To: model.SnapshotStatus(to)}); err != nil {
		return notFound(err, noSnapshot, s.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) forceDeleteSnapshot(c *call, _ *schema.Object) error {
	s, err := a.snapshot(c, "volume_extension:snapshot_admin_actions:force_delete")
	if err != nil {
		return err
	}
	return a.endSnapshot(c, s, nil)
}

// percentage is a progress as Nova reports it.
var percentage = regexp.MustCompile(`^\d+%$`)

// reportSnapshot is how Nova reports on snapshots that it takes itself.
func (a *API) reportSnapshot(c *call, in *schema.Object) error {
	status, err := in.Text("status", 1, 255)
	if err != nil {
		return err
	}
	progress, err := in.String("progress", 0, 255)
	if err != nil {
		return err
	}
	if progress != nil && *progress != "" && !percentage.MatchString(*progress) {
		return fault.InvalidInput("progress must be an integer percentage")
	}
	s, err := a.snapshot(c, "snapshot_extension:snapshot_actions:update_snapshot_status")
	if err != nil {
		return err
	}
	may := map[model.SnapshotStatus][]model.SnapshotStatus{
		model.SnapshotCreating: {model.SnapshotCreating, model.SnapshotAvailable, model.SnapshotError},
		model.SnapshotDeleting: {model.SnapshotDeleting, model.SnapshotErrorDeleting},
	}[s.Status]
	to := model.SnapshotStatus(status)
	switch {
	case may == nil:
		return fault.BadRequest("Snapshot status %s not allowed for update_snapshot_status", s.Status)
	case !slices.Contains(may, to):
		return fault.BadRequest("Provided snapshot status %s not allowed for snapshot with status %s.", to, s.Status)
	}
	if progress != nil && *progress == "" {
		progress = nil
	}
	_, err = a.Store.MoveSnapshot(c.ctx(), s.ID, model.SnapshotMove{From: []model.SnapshotStatus{s.Status}, To: to, Progress: progress})
	if err != nil {
		return notFound(err, noSnapshot, s.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}
