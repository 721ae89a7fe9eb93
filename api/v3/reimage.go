package v3

import (
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/db/model"
)

// reimage has a volume begin anew from an image (os-reimage, 3.68): how Nova rebuilds a
// server that boots from it.
func (a *API) reimage(c *call, in *schema.Object) error {
	if err := in.Require("image_id"); err != nil {
		return err
	}
	ref, err := in.Text("image_id", 1, 255)
	if err != nil {
		return err
	}
	if !isUUID(ref) {
		return in.Invalid("image_id", "'%s' is not a 'uuid'", ref)
	}
	reserved, err := in.Bool("reimage_reserved")
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume:get")
	if err != nil {
		return err
	}
	rule := "volume:reimage"
	if v.Status == model.VolumeReserved {
		rule = "volume:reimage_reserved"
	}
	if err := c.allowOwner(rule, v.ProjectID, v.UserID); err != nil {
		return err
	}
	if len(v.Attachments) > 1 {
		return fault.Conflict("Cannot re-image a volume which is attached to more than one server.")
	}
	from := []model.VolumeStatus{model.VolumeAvailable, model.VolumeError}
	words := "available or error"
	if reserved != nil && *reserved {
		from = append(from, model.VolumeReserved)
		words = "available, error or reserved"
	}
	img, err := a.wantedImage(c, ref)
	if err != nil {
		return err
	}
	if err := fits(img, v.SizeGiB); err != nil {
		return err
	}
	err = a.Scheduler.Reimage(c.ctx(), v.ID, *img, imageMetadata(img), from)
	if isState(err) {
		return fault.BadRequest("Invalid volume: Volume %s status must be %s, but current status is %s.", v.ID, words, v.Status)
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}
