package v3

import (
	"context"
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

// uploadImage makes an image of what a volume holds (os-volume_upload_image). The image is made
// here, with the caller's token, so that it is the caller's; a node sends the data.
func (a *API) uploadImage(c *call, in *schema.Object) error {
	img, force, err := c.imageToUpload(in)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume_extension:volume_actions:upload_image")
	if err != nil {
		return err
	}
	if img.Visibility == "public" {
		if err := c.allow("volume_extension:volume_actions:upload_public"); err != nil {
			return err
		}
	}
	switch {
	case img.ContainerFormat == "compressed": // Cinder's answer with allow_compression_on_image_upload = false
		return fault.BadRequest("Image compression upload disallowed, but container_format is compressed")
	case a.Glance == nil:
		return fault.BadRequest("There is no image service here.")
	}
	from, words := []model.VolumeStatus{model.VolumeAvailable}, "available"
	if force && a.ForceUpload {
		from, words = append(from, model.VolumeInUse), "available or in-use"
	}
	img.ID = uuid.New() // known before it is made, so that it can be found whatever happens
	img.Properties = uploadProperties(v.ImageMetadata)
	k := model.Task{ProjectID: c.id.ProjectID, UserID: c.id.UserID, RequestID: c.info.ID}
	k, err = a.Scheduler.BeginUpload(c.ctx(), v.ID, model.UploadArgs{ImageID: img.ID.String(), DiskFormat: img.DiskFormat}, k, from)
	if isState(err) {
		return fault.BadRequest("Invalid volume: Volume %s status must be %s", v.ID, words)
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	made, err := a.Glance.Create(c.ctx(), c.id, img)
	if err == nil {
		err = a.Scheduler.StartUpload(c.ctx(), k.ID)
	}
	if err != nil {
		// Also when the caller is gone: the volume must not wait until somebody notices.
		if e := a.Scheduler.CancelUpload(context.WithoutCancel(c.ctx()), k.ID, "the image could not be made: "+err.Error()); e != nil {
			a.Log.WithError(e).WithField("volume", v.ID.String()).Warn("an upload that can't begin is taken back later")
		}
		if errors.Is(err, model.ErrInvalid) || errors.Is(err, model.ErrUnavailable) {
			return fault.BadRequest("%s", plain(err)) // Cinder answers so whatever the reason is
		}
		return err
	}
	if v, err = a.Store.Volume(c.ctx(), v.ID, ""); err != nil {
		return notFound(err, noVolume, v.ID)
	}
	out := view.Object{
		"id": v.ID, "updated_at": view.TimeOrNil(v.UpdatedAt), "status": model.VolumeUploading, "display_description": v.Description,
		"size": v.SizeGiB, "volume_type": nil, "image_id": made.ID, "container_format": made.ContainerFormat,
		"disk_format": made.DiskFormat, "image_name": made.Name, "visibility": made.Visibility,
	}
	if made.Protected != nil {
		out["protected"] = *made.Protected
	}
	if v.VolumeTypeID != nil {
		t, err := a.Store.Type(c.ctx(), *v.VolumeTypeID, "")
		if err != nil && !errors.Is(err, model.ErrNotFound) {
			return err
		}
		if err == nil {
			out["volume_type"] = view.VolumeTypeRow(&t)
		}
	}
	return c.json(http.StatusAccepted, view.Object{"os-volume_upload_image": out})
}

// imageToUpload reads the body. visibility and protected came with 3.1.
func (c *call) imageToUpload(in *schema.Object) (img NewImage, force bool, err error) {
	keys := []string{"image_name", "force", "disk_format", "container_format"}
	if c.mv >= 1 {
		keys = append(keys, "visibility", "protected")
	}
	if err := in.Require("image_name"); err != nil {
		return img, false, err
	}
	if err := in.Only(keys...); err != nil {
		return img, false, err
	}
	if img.Name, err = in.Text("image_name", 1, 255); err != nil {
		return img, false, err
	}
	flag := func(key string) (value bool) {
		if err != nil {
			return false
		}
		var b *bool
		if b, err = in.Bool(key); b != nil {
			value = *b
		}
		return value
	}
	word := func(key, otherwise string, values ...string) string {
		if err != nil {
			return ""
		}
		var s *string
		if s, err = in.Enum(key, values...); s != nil {
			return *s
		}
		return otherwise
	}
	force = flag("force")
	img.DiskFormat = word("disk_format", "raw", "raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop")
	if err == nil {
		var s *string
		if s, err = in.String("container_format", 0, 255); s != nil {
			img.ContainerFormat = *s
		} else {
			img.ContainerFormat = "bare"
		}
	}
	if c.mv >= 1 {
		img.Visibility = word("visibility", "private", "community", "public", "private", "shared")
		protected := flag("protected")
		img.Protected = &protected
	}
	return img, force, err
}

// Properties of the image that a volume was made from that its own image does not get: Cinder's
// glance_core_properties, what Glance keeps for itself (GLANCE_RESERVED_NAMESPACES of
// cinder/image/image_utils.py), and attributes that are no properties.
func uploadProperties(of model.StringMap) model.StringMap {
	core := []string{
		"checksum", "container_format", "disk_format", "image_name", "image_id", "min_disk", "min_ram", "name", "size",
		"os_hidden", "os_hash_algo", "os_hash_value", "virtual_size", "owner", "visibility", "protected", "status", "signature_verified",
	}
	out := model.StringMap{}
	for k, v := range of {
		if !slices.Contains(core, k) && !strings.HasPrefix(k, "os_glance") && !strings.HasPrefix(k, "img_signature") {
			out[k] = v
		}
	}
	return out
}

// taskShown adds to a volume's metadata how far the work is that it waits for.
func (a *API) taskShown(c *call, v *model.Volume, o *view.Volume) error {
	if !slices.Contains([]model.VolumeStatus{model.VolumeUploading, model.VolumeBackingUp, model.VolumeRestoringBackup, model.VolumeCreating}, v.Status) && !v.Migrating() {
		return nil
	}
	tasks, err := a.Store.TasksOf(c.ctx(), v.ID)
	if err != nil {
		return err
	}
	for i := range tasks {
		if !tasks[i].Ended() && tasks[i].Kind != model.TaskServe && tasks[i].Access != model.TaskNone {
			m := make(model.StringMap, len(o.Metadata)+1)
			for k, x := range o.Metadata {
				m[k] = x
			}
			m[view.TaskKey] = view.TaskProgress(&tasks[i])
			o.Metadata = m
		}
	}
	return nil
}
