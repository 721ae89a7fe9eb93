package v3

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// action is one action of POST /volumes/{id}/action.
type action struct {
	min microversion.Version
	do  func(c *call, args *schema.Object) error
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
	const x = "volume_extension:volume_actions:"
	return map[string]action{
		"os-set_bootable":          {do: a.setBootable},
		"os-update_readonly_flag":  {do: a.setReadOnly},
		"os-reset_status":          {do: a.resetStatus},
		"os-force_delete":          {do: a.forceDelete},
		"os-set_image_metadata":    {do: a.setImageMetadata},
		"os-show_image_metadata":   {do: a.showImageMetadata},
		"os-unset_image_metadata":  {do: a.unsetImageMetadata},
		"os-reserve":               {do: a.legacyReserve},
		"os-unreserve":             {do: a.legacyUnreserve},
		"os-begin_detaching":       {do: a.beginDetaching},
		"os-roll_detaching":        {do: a.rollDetaching},
		"os-attach":                {do: a.legacyAttach},
		"os-detach":                {do: a.legacyDetach},
		"os-force_detach":          {do: a.forceDetach},
		"os-initialize_connection": {do: a.initializeConnection},
		"os-terminate_connection":  {do: a.terminateConnection},
		"os-extend":                {do: a.extend},
		"os-retype":                {do: a.refuse("Changing the type of a volume", "volume:retype")},
		"os-migrate_volume":        {do: a.refuse("Migrating a volume", "volume_extension:volume_admin_actions:migrate_volume")},
		"os-migrate_volume_completion": {do: a.refuse("Migrating a volume",
			"volume_extension:volume_admin_actions:migrate_volume_completion")},
		"os-volume_upload_image": {do: a.refuse("Uploading a volume as an image", x+"upload_image")},
		"os-unmanage":            {do: a.refuse("Unmanaging a volume", "volume_extension:volume_unmanage")},
		"os-reimage":             {min: 68, do: a.refuse("Putting another image on a volume", "volume:reimage")},
		"revert":                 {min: 40, do: a.refuse("Reverting to a snapshot", "volume:revert_to_snapshot")},
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
	args, err := body.Optional(name)
	if err != nil {
		return err
	}
	if args == nil { // null and {} are the same
		if args, err = schema.Parse([]byte("{}")); err != nil {
			return err
		}
	}
	return act.do(c, args)
}

// refuse answers what can't be done yet, after the checks that tell more.
func (a *API) refuse(what, rule string) func(c *call, _ *schema.Object) error {
	return func(c *call, _ *schema.Object) error {
		if _, err := a.volume(c, rule); err != nil {
			return err
		}
		return unsupported(what)
	}
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
	return unsupported("Extending a volume")
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
		{"attach_status", attach, []string{"attached", "detached"}},
		{"migration_status", migration, []string{"migrating", "error", "success", "completing", "none", "starting"}},
	} {
		if check.value == nil {
			continue
		}
		*check.value = strings.ToLower(*check.value)
		if !slices.Contains(check.valid, *check.value) {
			return fault.BadRequest("Volume %s: %s is invalid, valid statuses are: ('%s').",
				check.name, *check.value, strings.Join(check.valid, "', '"))
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
		return fault.BadRequest("Cannot reset-state to deleting; delete the volume instead.")
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
	if err := a.delete(c, v, true); err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) setImageMetadata(c *call, in *schema.Object) error {
	if err := in.Require("metadata"); err != nil {
		return err
	}
	m, err := in.Strings("metadata")
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume_extension:volume_image_metadata:set")
	if err != nil {
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
	return c.json(http.StatusOK, view.Object{"metadata": notNil(v.ImageMetadata)})
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
			return fault.NotFound("Glance metadata for volume/snapshot %s cannot be found.", v.ID)
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
