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

const noBackup = "Backup %s could not be found."

func (a *API) backupRoutes() []route {
	return []route{
		{method: "GET", path: "/backups", h: func(c *call) error { return a.backupList(c, false) }},
		{method: "GET", path: "/backups/detail", h: func(c *call) error { return a.backupList(c, true) }},
		{method: "POST", path: "/backups", h: a.createBackup},
		{method: "POST", path: "/backups/import_record", h: a.importBackup},
		{method: "GET", path: "/backups/{id}", h: a.showBackup},
		{method: "PUT", path: "/backups/{id}", min: 9, h: a.updateBackup},
		{method: "DELETE", path: "/backups/{id}", h: a.deleteBackup},
		{method: "POST", path: "/backups/{id}/restore", h: a.restoreBackup},
		{method: "GET", path: "/backups/{id}/export_record", h: a.exportBackup},
		{method: "POST", path: "/backups/{id}/action", h: a.backupAction},
	}
}

// backup finds the one in the path, if the caller may see it and the rules allow it.
func (a *API) backup(c *call, rules ...string) (model.Backup, error) {
	b, err := byID(c, c.vars["id"], noBackup, a.Store.Backup)
	if err != nil {
		return b, err
	}
	for _, rule := range append([]string{"backup:get"}, rules...) {
		if err := c.allowOwner(rule, b.ProjectID, b.UserID); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (a *API) showBackup(c *call) error {
	b, err := a.backup(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"backup": c.view().Backup(&b)})
}

func backupSorts() []string {
	return []string{"id", "name", "status", "volume_id", "size", "created_at", "updated_at", "project_id", "user_id", "description",
		"container", "availability_zone", "object_count", "snapshot_id", "parent_id", "data_timestamp", "restore_volume_id", "fail_reason"}
}

func backupColumns() map[string]string {
	columns := map[string]string{"display_name": "name", "display_description": "description", "tenant_id": "project_id"}
	for _, key := range backupSorts() {
		columns[key] = key
	}
	return columns
}

func (a *API) backupList(c *call, detail bool) error {
	if err := c.allow("backup:get_all"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	sorts := backupSorts()
	if c.mv < 37 {
		sorts = slices.DeleteFunc(sorts, func(key string) bool { return key == "name" })
	}
	sorts = append(sorts, "display_name")
	w, err := a.askedOwn(c, params, noBackup, sorts)
	if err != nil {
		return err
	}
	rules := filterRules{allowed: a.filtersOf("backup"), columns: backupColumns(), admin: c.id.Admin, counted: true, mv: c.mv}
	if err := w.filter(rules, params, "id", "volume_id", "snapshot_id", "parent_id", "restore_volume_id"); err != nil {
		return err
	}
	return listing[model.Backup]{
		key: "backups", links: "backups_links", missing: noBackup,
		id:   func(b *model.Backup) uuid.UUID { return b.ID },
		find: a.Store.ListBackups, count: a.Store.CountBackups,
		show: each(oneOf(detail, c.view().Backup, c.view().BackupSummary)),
	}.send(a, c, w)
}

// task says who asks for long work.
func (c *call) task() model.Task {
	return model.Task{ProjectID: c.id.ProjectID, UserID: c.id.UserID, RequestID: c.info.ID}
}

// backupFault words what the scheduler refuses.
func backupFault(err error) error {
	var r *model.Refused
	switch {
	case errors.As(err, &r):
		return fault.BadRequest("%s", r.Error())
	case errors.Is(err, model.ErrUnavailable):
		f := fault.NotFound("Service cinder-backup could not be found.")
		f.Cause = err
		return f
	}
	return err
}

func (a *API) createBackup(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	in, err := body.Object("backup")
	if err != nil {
		return err
	}
	b, o, volume, err := c.backupAsked(in)
	if err != nil {
		return err
	}
	if err := body.Only("backup"); err != nil {
		return err
	}
	v, err := a.volumeByID(c, volume, "volume:get")
	if err != nil {
		return err
	}
	if err := c.allowOwner("backup:create", v.ProjectID, v.UserID); err != nil {
		return err
	}
	if b.SnapshotID != nil {
		if _, err := a.snapshotByID(c, b.SnapshotID.String(), "volume:get_snapshot"); err != nil {
			return err
		}
	}
	b.ID, b.VolumeID, b.ProjectID, b.UserID = uuid.New(), v.ID, c.id.ProjectID, c.id.UserID
	made, err := a.Scheduler.CreateBackup(c.ctx(), b, o, c.task())
	if err != nil {
		return notFound(backupFault(err), noVolume, volume)
	}
	return c.json(http.StatusAccepted, view.Object{"backup": c.view().BackupSummary(&made)})
}

// backupAsked reads the body of a creation. metadata came with 3.43, availability_zone with 3.51.
func (c *call) backupAsked(in *schema.Object) (b model.Backup, o model.BackupOptions, volume string, err error) {
	fail := func(err error) (model.Backup, model.BackupOptions, string, error) { return b, o, "", err }
	keys := []string{"volume_id", "container", "description", "incremental", "force", "name", "snapshot_id"}
	if c.mv >= 43 {
		keys = append(keys, "metadata")
	}
	if c.mv >= 51 {
		keys = append(keys, "availability_zone")
	}
	id, err := in.ID("volume_id")
	if err != nil {
		return fail(err)
	}
	for _, s := range []struct {
		key string
		to  **string
	}{{"name", &b.Name}, {"description", &b.Description}, {"container", &b.Container}} {
		if *s.to, err = in.String(s.key, 0, 255); err != nil {
			return fail(err)
		}
		if *s.to != nil && s.key != "container" {
			*s.to = new(strings.TrimSpace(**s.to))
		}
	}
	for key, to := range map[string]*bool{"incremental": &o.Incremental, "force": &o.Force} {
		flag, err := in.Flag(key)
		if err != nil {
			return fail(err)
		}
		*to = flag != nil && *flag
	}
	if b.SnapshotID, err = idOrNull(in, "snapshot_id"); err != nil {
		return fail(err)
	}
	if c.mv >= 43 {
		if b.Metadata, err = in.Metadata("metadata"); err != nil {
			return fail(err)
		}
	}
	if c.mv >= 51 {
		if b.AvailabilityZone, err = in.String("availability_zone", 0, 255); err != nil {
			return fail(err)
		}
	}
	if err := in.Require("volume_id"); err != nil {
		return fail(err)
	}
	return b, o, *id, in.Only(keys...)
}

// idOrNull is a UUID, or nothing.
func idOrNull(in *schema.Object, key string) (*uuid.UUID, error) {
	if !in.Has(key) {
		return nil, nil //nolint:nilnil // it need not be there
	}
	id, err := uuid.Parse(schema.Str(in.Raw(key)))
	if err != nil || !strings.HasPrefix(strings.TrimSpace(string(in.Raw(key))), `"`) {
		return nil, in.Invalid(key, "%s is not valid under any of the given schemas", schema.Repr(in.Raw(key)))
	}
	return &id, nil
}

func (a *API) updateBackup(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	in, err := body.Object("backup")
	if err != nil {
		return err
	}
	var p model.BackupPatch
	if p.Name, err = in.String("name", 0, 255); err != nil {
		return err
	}
	if p.Description, err = in.Description("description"); err != nil {
		return err
	}
	for _, s := range []*string{p.Name, p.Description} {
		if s != nil {
			*s = strings.TrimSpace(*s)
		}
	}
	p.NoName, p.NoDescription = in.Given("name") && p.Name == nil, in.Given("description") && p.Description == nil
	keys := []string{"name", "description"}
	if c.mv >= 43 {
		keys = append(keys, "metadata")
		if p.Metadata, err = in.Metadata("metadata"); err != nil {
			return err
		}
	}
	if err := errors.Join(in.Only(keys...), body.Only("backup")); err != nil {
		return err
	}
	b, err := a.backup(c, "backup:update")
	if err != nil {
		return err
	}
	if b, err = a.Store.PatchBackup(c.ctx(), b.ID, p); err != nil {
		return notFound(err, noBackup, c.vars["id"])
	}
	return c.json(http.StatusOK, view.Object{"backup": c.view().BackupSummary(&b)})
}

func (a *API) deleteBackup(c *call) error {
	b, err := a.backup(c, "backup:delete")
	if err != nil {
		return err
	}
	if err := a.Scheduler.DeleteBackup(c.ctx(), b.ID, false, c.task()); err != nil {
		return notFound(backupFault(err), noBackup, b.ID)
	}
	return c.empty(http.StatusAccepted)
}

// restoreBackup to a volume that is there, or to a new one.
func (a *API) restoreBackup(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	if err := body.Require("restore"); err != nil {
		return err
	}
	in, err := body.Optional("restore")
	if err != nil {
		return err
	}
	if in == nil { // null and {} are the same
		in = schema.Empty()
	}
	name, err := in.String("name", 0, 255)
	if err != nil {
		return err
	}
	volume, err := idOrNull(in, "volume_id")
	if err != nil {
		return err
	}
	if err := errors.Join(in.Only("name", "volume_id"), body.Only("restore")); err != nil {
		return err
	}
	b, err := a.backup(c, "backup:restore")
	if err != nil {
		return err
	}
	v, err := a.restoreTo(c, &b, volume, name)
	if err != nil {
		return notFound(backupFault(err), noBackup, b.ID)
	}
	return c.json(http.StatusAccepted, view.Object{"restore": view.Object{"backup_id": b.ID, "volume_id": v.ID, "volume_name": v.Name}})
}

func (a *API) restoreTo(c *call, b *model.Backup, volume *uuid.UUID, name *string) (model.Volume, error) {
	if err := model.MayRestore(b); err != nil {
		return model.Volume{}, err
	}
	if volume != nil {
		v, err := a.volumeByID(c, volume.String(), "volume:get")
		if err != nil {
			return v, err
		}
		return v, a.Scheduler.Restore(c.ctx(), b.ID, v.ID, c.task())
	}
	if name == nil {
		name = new("restore_backup_" + b.ID.String())
	}
	w := wanted{name: name, description: new("auto-created_from_restore_from_backup"), size: b.SizeGiB}
	var err error
	if err = c.allow("volume:create"); err != nil {
		return model.Volume{}, err
	}
	if w.kind, err = a.wantedType(c, ""); err != nil {
		return model.Volume{}, err
	}
	if w.zone, err = a.typeZone(c, "", &w.kind); err != nil {
		return model.Volume{}, err
	}
	if err := a.obeyType(c, &w.kind, w.size); err != nil {
		return model.Volume{}, err
	}
	return a.Scheduler.RestoreNew(c.ctx(), b.ID, a.row(c, w, name), model.VolumeRestoringBackup, c.task())
}

func (a *API) exportBackup(c *call) error {
	b, err := a.backup(c, "backup:export-import")
	if err != nil {
		return err
	}
	if b.Status != model.BackupAvailable {
		return fault.BadRequest("Invalid backup: Backup status must be available and not %s.", b.Status)
	}
	record, err := view.BackupRecord(&b)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"backup-record": record})
}

// importedVolume stands for the volume of a backup that was imported, in Cinder too.
const importedVolume = "00000000-0000-0000-0000-000000000000"

// importBackup takes what exportBackup gave, here or elsewhere: what the store holds is found
// again by it. Whether it is there is seen when it is restored.
func (a *API) importBackup(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	in, err := body.Object("backup-record")
	if err != nil {
		return err
	}
	service, err := in.Text("backup_service", 0, 255)
	if err != nil {
		return err
	}
	url, err := in.Text("backup_url", 1, 1<<20)
	if err != nil {
		return err
	}
	if err := errors.Join(in.Only("backup_service", "backup_url"), body.Only("backup-record")); err != nil {
		return err
	}
	if err := c.allow("backup:backup-import"); err != nil {
		return err
	}
	if c.id.ProjectID == "" {
		return fault.BadRequest("A token with a project is needed to import a backup.")
	}
	b, missing, ok := view.ReadBackupRecord(url)
	switch {
	case !ok:
		return fault.InvalidInput("Can't parse backup record.")
	case missing != "":
		return fault.InvalidInput("Provided backup record is missing %s", missing)
	case service != view.BackupService:
		return fault.NotFound("Service %s could not be found.", service)
	}
	b.ProjectID, b.UserID, b.Status, b.VolumeID = c.id.ProjectID, c.id.UserID, model.BackupAvailable, uuid.MustParse(importedVolume)
	made, err := a.Store.ImportBackup(c.ctx(), b)
	if errors.Is(err, model.ErrExists) {
		return fault.BadRequest("Invalid backup: Backup already exists in database.")
	}
	if err != nil {
		return err
	}
	made.Name = nil // Cinder knows it only after its answer
	return c.json(http.StatusCreated, view.Object{"backup": c.view().BackupSummary(&made)})
}

func (a *API) backupAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	do, ok := a.backupActions()[name]
	if !ok {
		return noAction(name)
	}
	return do(c, body)
}

// backupActions take the body around their name.
func (a *API) backupActions() map[string]func(*call, *schema.Object) error {
	return map[string]func(*call, *schema.Object) error{"os-reset_status": a.resetBackup, "os-force_delete": a.forceDeleteBackup}
}

func (a *API) forceDeleteBackup(c *call, _ *schema.Object) error {
	b, err := a.backup(c, "volume_extension:backup_admin_actions:force_delete", "backup:delete")
	if err != nil {
		return err
	}
	if err := a.Scheduler.DeleteBackup(c.ctx(), b.ID, true, c.task()); err != nil {
		return notFound(backupFault(err), noBackup, b.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) resetBackup(c *call, body *schema.Object) error {
	in, err := body.Object("os-reset_status")
	if err != nil {
		return err
	}
	if err := in.Require("status"); err != nil {
		return err
	}
	status, err := in.Plain("status", 0, 255)
	if err != nil {
		return err
	}
	to := model.BackupStatus(strings.ToLower(*status))
	if to != model.BackupAvailable && to != model.BackupError {
		return fault.BadRequest("Backup status: %s is invalid, valid statuses are: ['available', 'error'].", *status)
	}
	if err := in.Only("status"); err != nil {
		return err
	}
	b, err := a.backup(c, "volume_extension:backup_admin_actions:reset_status")
	if err != nil {
		return err
	}
	move := model.BackupMove{To: to}
	if to == model.BackupError {
		move.FailReason = b.FailReason // it is still why
	}
	if _, err := a.Store.MoveBackup(c.ctx(), b.ID, move); err != nil {
		return notFound(err, noBackup, b.ID)
	}
	return c.empty(http.StatusAccepted)
}
