package v3

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// action is one action of POST /volumes/{id}/action, and of snapshots.
type action struct {
	min  microversion.Version
	keys []string // that its object may have; nil: any, and null is {}
	do   func(c *call, args *schema.Object) error
}

// run does the action with what the body has under its name.
func (x action) run(c *call, name string, body *schema.Object) error {
	if x.keys != nil {
		args, err := body.Object(name)
		if err != nil {
			return err
		}
		if err := args.Only(x.keys...); err != nil {
			return err
		}
		return x.do(c, args)
	}
	args, err := body.Optional(name)
	if err != nil {
		return err
	}
	if args == nil {
		args = schema.Empty()
	}
	return x.do(c, args)
}

// action reads a body with exactly one key: the action's name. The object is the body.
func (c *call) action() (string, *schema.Object, error) {
	body, err := c.parse()
	if err != nil {
		return "", nil, fault.BadRequest("Malformed request body")
	}
	if len(body.Keys()) != 1 {
		return "", nil, fault.BadRequest("Malformed request body")
	}
	return body.Keys()[0], body, nil
}

func noAction(name string) error {
	return fault.BadRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", name)
}

func (a *API) volumeActions() map[string]action {
	return map[string]action{
		"os-set_bootable":          {do: a.setBootable, keys: []string{"bootable"}},
		"os-update_readonly_flag":  {do: a.setReadOnly, keys: []string{"readonly"}},
		"os-reset_status":          {do: a.resetStatus, keys: []string{"status", "attach_status", "migration_status"}},
		"os-force_delete":          {do: a.forceDelete},
		"os-set_image_metadata":    {do: a.setImageMetadata, keys: []string{"metadata"}},
		"os-show_image_metadata":   {do: a.showImageMetadata},
		"os-unset_image_metadata":  {do: a.unsetImageMetadata, keys: []string{"key"}},
		"os-reserve":               {do: a.legacyReserve},
		"os-unreserve":             {do: a.legacyUnreserve},
		"os-begin_detaching":       {do: a.beginDetaching},
		"os-roll_detaching":        {do: a.rollDetaching},
		"os-attach":                {do: a.legacyAttach, keys: []string{"instance_uuid", "mountpoint", "host_name", "mode"}},
		"os-detach":                {do: a.legacyDetach},
		"os-force_detach":          {do: a.forceDetach, keys: []string{"connector", "attachment_id"}},
		"os-initialize_connection": {do: a.initializeConnection, keys: []string{"connector"}},
		"os-terminate_connection":  {do: a.terminateConnection, keys: []string{"connector"}},
		"os-extend":                {do: a.extend, keys: []string{"new_size"}},
		"os-retype":                {do: a.retype, keys: []string{"new_type", "migration_policy"}},
		"os-migrate_volume":        {do: a.migrateVolume},
		"os-volume_upload_image":   {do: a.uploadImage},
		"os-unmanage":              {do: a.unmanageVolume},
		"os-reimage":               {min: 68, do: a.reimage, keys: []string{"image_id", "reimage_reserved"}},
		"revert":                   {min: 40, do: a.revert},

		"os-migrate_volume_completion": {do: a.migrateCompletion, keys: []string{"new_volume", "error"}},
	}
}

func (a *API) volumeAction(c *call) error {
	name, body, err := c.action()
	if err != nil {
		return err
	}
	act, ok := a.volumeActions()[name]
	switch {
	case !ok:
		return noAction(name)
	case c.mv < act.min:
		return fault.NotFound("The resource could not be found.")
	}
	return act.run(c, name, body)
}

// revert takes the latest snapshot only, as Cinder does.
func (a *API) revert(c *call, in *schema.Object) error {
	want, err := in.String("snapshot_id", 0, 255)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume:revert_to_snapshot")
	if err != nil {
		return err
	}
	snaps, err := a.Store.SnapshotsOf(c.ctx(), v.ID)
	if err != nil {
		return err
	}
	if len(snaps) == 0 {
		return fault.BadRequest("Volume %s doesn't have any snapshots.", v.ID)
	}
	last := snaps[len(snaps)-1]
	switch {
	case want == nil || *want != last.ID.String():
		return fault.BadRequest("Specified snapshot %s is None or not the latest one of volume %s.", schema.Str(in.Raw("snapshot_id")), v.ID)
	case last.SizeGiB != v.SizeGiB:
		return fault.BadRequest("Can't revert volume %s to its latest snapshot %s. The volume size must be equal to the snapshot size.", v.ID, last.ID)
	}
	err = a.Scheduler.Revert(c.ctx(), v.ID, last.ID)
	switch {
	case isState(err) && v.Status != model.VolumeAvailable:
		return fault.Conflict("Invalid volume: Can't revert volume %s to its latest snapshot %s. Volume's status must be 'available'.", v.ID, last.ID)
	case isState(err):
		return fault.Conflict("Invalid snapshot: Can't revert volume %s to its latest snapshot %s. Snapshot's status must be 'available'.", v.ID, last.ID)
	case err != nil:
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) extend(c *call, in *schema.Object) error {
	if err := in.Require("new_size"); err != nil {
		return err
	}
	size, err := in.Int("new_size", 1, schema.MaxInt)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume:extend")
	if err != nil {
		return err
	}
	if size == nil || int(*size) <= v.SizeGiB {
		return fault.InvalidInput("New size for extend must be greater than current size. (current: %d, extended: %s).",
			v.SizeGiB, schema.Str(in.Raw("new_size")))
	}
	from := []model.VolumeStatus{model.VolumeAvailable}
	if c.mv >= 42 && v.Status == model.VolumeInUse {
		if err := c.allowOwner("volume:extend_attached_volume", v.ProjectID, v.UserID); err != nil {
			return err
		}
		from = []model.VolumeStatus{model.VolumeInUse}
	}
	err = a.Scheduler.Extend(c.ctx(), v.ID, int(*size), from)
	if isState(err) {
		return fault.InvalidVolume("Volume %s status must be '{'status': '%s'}' to extend, currently %s.", v.ID, from[0], v.Status)
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) setBootable(c *call, in *schema.Object) error {
	if err := in.Require("bootable"); err != nil {
		return err
	}
	b, err := in.Bool("bootable")
	if err != nil {
		return err
	}
	if b == nil {
		return in.Invalid("bootable", "None is not of type 'boolean'")
	}
	v, err := a.volume(c, "volume:update")
	if err != nil {
		return err
	}
	if v.Status == model.VolumeMaintenance {
		return fault.InvalidVolume(maintained)
	}
	if _, err := a.Store.PatchVolume(c.ctx(), v.ID, model.VolumePatch{Bootable: b}); err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusOK)
}

func (a *API) setReadOnly(c *call, in *schema.Object) error {
	if err := in.Require("readonly"); err != nil {
		return err
	}
	b, err := in.Bool("readonly")
	if err != nil {
		return err
	}
	if b == nil {
		return in.Invalid("readonly", "None is not of type 'boolean'")
	}
	v, err := a.volume(c, "volume:update_readonly_flag")
	if err != nil {
		return err
	}
	if v.Status != model.VolumeAvailable {
		return fault.InvalidVolume("Volume %s status must be available to update readonly flag, but current status is: %s.", v.ID, v.Status)
	}
	if _, err := a.Store.PatchVolume(c.ctx(), v.ID, model.VolumePatch{ReadOnly: b}); err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

// Values that os-reset_status takes, as Cinder's message lists them.
func resetStatuses() []string {
	return []string{"creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching",
		"in-use", "detaching", "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer",
		"backing-up", "error_backing-up", "error_extending", "downloading", "uploading", "retyping", "extending"}
}

func (a *API) resetStatus(c *call, in *schema.Object) error {
	status, err := in.String("status", 0, 255)
	if err != nil {
		return err
	}
	attach, err := in.String("attach_status", 0, 255)
	if err != nil {
		return err
	}
	migration, err := in.String("migration_status", 0, 255)
	if err != nil {
		return err
	}
	if status == nil && attach == nil && migration == nil {
		return fault.BadRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	if err := c.allow("volume_extension:volume_admin_actions:reset_status"); err != nil {
		return err
	}
	for _, check := range []struct {
		name  string
		value *string
		valid []string
	}{
		{"status", status, resetStatuses()},
		{"attach status", attach, []string{"attached", "detached"}},
		{"migration status", migration, []string{"migrating", "error", "success", "completing", "none", "starting"}},
	} {
		if check.value == nil {
			continue
		}
		*check.value = strings.ToLower(*check.value)
		if !slices.Contains(check.valid, *check.value) {
			list := "('" + strings.Join(check.valid, "', '") + "')"
			if check.value == attach { // a list to Cinder, where the others are tuples
				list = "['" + strings.Join(check.valid, "', '") + "']"
			}
			return fault.BadRequest("Volume %s: %s is invalid, valid statuses are: %s.", check.name, *check.value, list)
		}
	}
	v, err := a.volume(c, "volume_extension:volume_admin_actions:reset_status")
	if err != nil {
		return err
	}
	if status != nil && *status == "in-use" && len(v.Attachments) == 0 {
		return fault.BadRequest("Cannot reset-state to in-use because volume does not have any attachments.")
	}
	if status != nil && *status == "deleting" {
		return fault.BadRequest("Cannot reset-state to deleting")
	}
	if migration != nil && *migration == "none" {
		*migration = "" // no status at all
	}
	err = a.Store.ResetVolume(c.ctx(), v.ID, (*model.VolumeStatus)(status), (*model.AttachStatus)(attach), migration)
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) forceDelete(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_admin_actions:force_delete")
	if err != nil {
		return err
	}
	if err := a.delete(c, v, model.DeleteOptions{Force: true}); err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) setImageMetadata(c *call, in *schema.Object) error {
	if err := in.Require("metadata"); err != nil {
		return err
	}
	if !in.Has("metadata") {
		return in.Invalid("metadata", "None is not of type 'object'")
	}
	m, err := in.Metadata("metadata")
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume_extension:volume_image_metadata:set")
	if err != nil {
		return err
	}
	if err := annotatable(v); err != nil {
		return err
	}
	v, err = a.Store.EditVolumeMaps(c.ctx(), v.ID, func(_, image model.StringMap) error {
		maps.Copy(image, m)
		return nil
	})
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.json(http.StatusOK, view.Object{"metadata": notNil(v.ImageMetadata)})
}

func (a *API) showImageMetadata(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume:get_volume_metadata")
	if err != nil {
		return err
	}
	if len(v.ImageMetadata) == 0 {
		return noImageMetadata(v.ID)
	}
	return c.json(http.StatusOK, view.Object{"metadata": v.ImageMetadata})
}

func noImageMetadata(id uuid.UUID) error {
	return fault.NotFound("Glance metadata for volume/snapshot %s cannot be found.", id)
}

func (a *API) unsetImageMetadata(c *call, in *schema.Object) error {
	key, err := in.Text("key", 1, 255)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume_extension:volume_image_metadata:remove")
	if err != nil {
		return err
	}
	_, err = a.Store.EditVolumeMaps(c.ctx(), v.ID, func(_, image model.StringMap) error {
		if _, ok := image[key]; !ok {
			return noImageMetadata(v.ID)
		}
		delete(image, key)
		return nil
	})
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.emptyHTML(http.StatusOK)
}

func notNil(m model.StringMap) model.StringMap {
	if m == nil {
		return model.StringMap{}
	}
	return m
}

// move is a guarded change of status; the message is for the case that the guard fails.
func (a *API) move(c *call, v model.Volume, to model.VolumeStatus, message string, from ...model.VolumeStatus) error {
	if !slices.Contains(from, v.Status) {
		return fault.InvalidVolume("%s", message)
	}
	_, err := a.Store.MoveVolume(c.ctx(), v.ID, model.VolumeMove{From: from, To: to})
	if isState(err) {
		return fault.InvalidVolume("%s", message)
	}
	return notFound(err, noVolume, v.ID)
}

func (a *API) beginDetaching(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_actions:begin_detaching")
	if err != nil {
		return err
	}
	const refused = "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach."
	if err := a.move(c, v, model.VolumeDetaching, refused, model.VolumeInUse); err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) rollDetaching(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_actions:roll_detaching")
	if err != nil {
		return err
	}
	if v.Status == model.VolumeDetaching {
		_, err = a.Store.MoveVolume(c.ctx(), v.ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeDetaching}, To: model.VolumeInUse})
		if err != nil && !isState(err) {
			return notFound(err, noVolume, v.ID)
		}
	}
	return c.empty(http.StatusAccepted)
}

// current is a status in the words of a message.
func current(v model.Volume, wanted, what string) string {
	return fmt.Sprintf("Volume %s status must be %s to %s, but the current status is %s.", v.ID, wanted, what, v.Status)
}
