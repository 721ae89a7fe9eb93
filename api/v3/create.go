package v3

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const hints = "OS-SCH-HNT:scheduler_hints"

func (a *API) createVolume(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	if c.mv >= 53 {
		if err := body.Only("volume", hints); err != nil {
			return err
		}
	}
	want, err := a.readCreate(c, body, false)
	if err != nil {
		return err
	}
	vols, err := a.create(c, want, []*string{want.name})
	if err != nil {
		return err
	}
	return c.json(http.StatusAccepted, view.Object{"volume": c.view().Volume(&vols[0])})
}

// wanted is what a create request asks for, checked.
type wanted struct {
	name, description *string
	size              int // GiB
	metadata          model.StringMap
	zone              string
	kind              model.VolumeType
	typed             bool // the request itself names the type
	image             *model.Image
	source            *source // of a copy
	group             *model.Group
}

// createKeys are the keys of "volume" in create (3.53).
func createKeys() []string {
	return []string{"name", "description", "display_name", "display_description", "size", "volume_type", "metadata",
		"availability_zone", "snapshot_id", "source_volid", "imageRef", "image_id", "consistencygroup_id", "group_id",
		"backup_id", "multiattach"}
}

// readCreate checks form first, then what is referred to, in Cinder's order. A size that
// is missing is the image's, if sized.
func (a *API) readCreate(c *call, body *schema.Object, sized bool) (wanted, error) {
	var w wanted
	if err := c.allow("volume:create"); err != nil {
		return w, err
	}
	if c.id.ProjectID == "" {
		return w, fault.BadRequest("A token with a project is needed to create a volume.")
	}
	in, err := body.Object("volume")
	if err != nil {
		return w, err
	}
	if err := checkHints(body); err != nil {
		return w, err
	}
	if c.mv >= 53 {
		if err := in.Only(createKeys()...); err != nil {
			return w, err
		}
	}
	if err := w.form(in); err != nil {
		return w, err
	}
	refs, err := refsOf(c, in)
	if err != nil {
		return w, err
	}
	w.typed = refs["volume_type"] != ""
	if w.source, err = a.sourceOf(c, refs); err != nil {
		return w, err
	}
	if w.group, err = a.groupOf(c, refs); err != nil {
		return w, err
	}
	if w.source != nil && refs["volume_type"] == "" && w.source.kind != nil {
		refs["volume_type"] = w.source.kind.String()
	}
	if w.kind, err = a.wantedType(c, refs["volume_type"]); err != nil {
		return w, err
	}
	if w.source != nil {
		if err := a.sameBackend(c, w.source, &w.kind); err != nil {
			return w, err
		}
	}
	if w.group != nil {
		if refs["availability_zone"], err = w.enter(refs); err != nil {
			return w, err
		}
	}
	if w.image, err = a.wantedImage(c, refs["image"]); isMissing(err) {
		return w, fault.BadRequest(badImage)
	} else if err != nil {
		return w, err
	}
	if refs["volume_type"] == "" && w.image != nil {
		if w.kind, err = a.imageType(c, w.image, w.kind); err != nil {
			return w, err
		}
	}
	if w.source != nil {
		if err := w.source.fit(&w.size); err != nil {
			return w, err
		}
		if refs["availability_zone"] == "" {
			refs["availability_zone"] = w.source.zone
		}
	}
	if w.size == 0 && sized && w.image != nil {
		if w.size, err = a.imageSize(c, w.image); err != nil {
			return w, err
		}
	}
	if w.size == 0 {
		// Cinder says no more than this.
		return w, fault.BadRequest("The server could not comply with the request since it is either malformed or otherwise incorrect.")
	}
	if w.image != nil {
		if err := fits(w.image, w.size); err != nil {
			return w, err
		}
	}
	if w.zone, err = a.typeZone(c, refs["availability_zone"], &w.kind); err != nil {
		return w, err
	}
	return w, a.obeyType(c, &w.kind, w.size)
}

// checkHints looks at the form of hints only: a volume that nobody has attached is nowhere,
// and goes to where it is attached.
func checkHints(body *schema.Object) error {
	in, err := body.Optional(hints)
	if err != nil || in == nil {
		return err
	}
	if id, err := in.String("local_to_instance", 0, 255); err != nil {
		return err
	} else if id != nil && !isUUID(*id) {
		return in.Invalid("local_to_instance", "'%s' is not valid under any of the given schemas", *id)
	}
	for _, key := range []string{"same_host", "different_host"} {
		var one string
		var ids []string
		switch raw := in.Raw(key); {
		case raw == nil:
			continue
		case json.Unmarshal(raw, &one) == nil && one != "":
			ids = []string{one}
		case one == "" && json.Unmarshal(raw, &ids) != nil || ids == nil:
			ids = []string{""}
		}
		if slices.ContainsFunc(ids, func(id string) bool { return !isUUID(id) }) {
			return in.Invalid(key, "%s is not valid under any of the given schemas", schema.Repr(in.Raw(key)))
		}
	}
	return nil
}

// form reads the values that refer to nothing.
func (w *wanted) form(in *schema.Object) error {
	size, err := in.Int("size", 1, schema.MaxInt)
	if err != nil {
		return err
	}
	if size != nil {
		w.size = int(*size)
	}
	if w.name, err = nameOf(in, "name", "display_name"); err != nil {
		return err
	}
	if w.description, err = nameOf(in, "description", "display_description"); err != nil {
		return err
	}
	m, err := in.Metadata("metadata")
	if err != nil {
		return err
	}
	w.metadata = writable(m)
	multiattach, err := in.Bool("multiattach")
	if err != nil {
		return err
	}
	if in.Given("multiattach") && multiattach == nil {
		return notBoolean("multiattach", "None")
	}
	if multiattach != nil && *multiattach {
		return fault.BadRequest("multiattach parameter has been removed. The default behavior is to use multiattach enabled " +
			"volume types. Contact your administrator to create a multiattach enabled volume type and use it to create " +
			"multiattach volumes.")
	}
	return nil
}

// nameOf reads a name or description under one of two keys; null does not count.
func nameOf(in *schema.Object, key, old string) (*string, error) {
	s, err := in.String(key, 0, 255)
	if err != nil {
		return nil, err
	}
	alias, err := in.String(old, 0, 255)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = alias
	}
	if s != nil {
		t := strings.TrimSpace(*s)
		s = &t
	}
	return s, nil
}

// writable drops the virtual keys, which clients send back that copy what they were shown.
func writable(m map[string]string) model.StringMap {
	maps.DeleteFunc(m, func(k, _ string) bool { return view.Virtual(k) })
	return m
}

// refsOf reads the references to other things; absent ones are "".
func refsOf(c *call, in *schema.Object) (map[string]string, error) {
	refs := map[string]string{}
	ids := map[string]bool{"snapshot_id": true, "source_volid": true, "consistencygroup_id": true, "backup_id": c.mv >= 47}
	for _, k := range []string{"volume_type", "availability_zone", "snapshot_id", "source_volid", "imageRef", "image_id",
		"consistencygroup_id", "group_id", "backup_id"} {
		s, err := in.String(k, 0, 255)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		switch {
		case ids[k] && !isUUID(*s):
			return nil, in.Invalid(k, "'%s' is not valid under any of the given schemas", *s)
		case k == "availability_zone" && *s == "":
			return nil, in.Invalid(k, "'' is too short")
		case (k == "imageRef" || k == "image_id") && *s == "":
			return nil, fault.BadRequest(badImage)
		}
		refs[k] = *s
	}
	refs["image"] = refs["imageRef"]
	if refs["image"] == "" {
		refs["image"] = refs["image_id"]
	}
	return refs, nil
}

// wantedZone: the requested one must have a node, or be the default.
func (a *API) wantedZone(c *call, zone string) (string, error) {
	if zone == "" {
		return a.DefaultZone, nil
	}
	known, err := a.hasZone(c, zone)
	if err == nil && !known {
		err = fault.BadRequest("Availability zone '%s' is invalid.", zone)
	}
	return zone, err
}

// hasZone tells whether a zone has a node, or is the default.
func (a *API) hasZone(c *call, zone string) (bool, error) {
	if zone == a.DefaultZone {
		return true, nil
	}
	nodes, err := a.Store.Nodes(c.ctx())
	return slices.ContainsFunc(nodes, func(n model.Node) bool { return n.AvailabilityZone == zone }), err
}

const badImage = "Invalid image identifier or unable to access requested image."

// wantedImage asks Glance with the caller's token. The reference is an id, a name, or a
// URL that ends with an id.
func (a *API) wantedImage(c *call, ref string) (*model.Image, error) {
	if ref == "" {
		return nil, nil //nolint:nilnil // a blank volume
	}
	if err := c.allow("volume:create_from_image"); err != nil {
		return nil, err
	}
	if last := ref[strings.LastIndexByte(ref, '/')+1:]; isUUID(last) {
		ref = last
	}
	if a.Glance == nil {
		return nil, fault.BadRequest(badImage)
	}
	img, err := a.Glance.Image(c.ctx(), c.id, ref)
	switch {
	case err == nil:
		return &img, nil
	case errors.Is(err, ErrAmbiguous):
		return nil, fault.Conflict("Multiple matches found for '%s', use an ID to be more specific.", ref)
	case errors.Is(err, model.ErrNotFound) && isUUID(ref):
		return nil, fault.NotFound("Image %s could not be found.", ref)
	case errors.Is(err, model.ErrNotFound):
		return nil, fault.BadRequest(badImage)
	case errors.Is(err, model.ErrUnavailable):
		return nil, fault.Unavailable(err, "The image service is unavailable at the moment; please try again.")
	}
	return nil, err
}

// imageType is the type that the image's property cinder_img_volume_type names, by id or
// name, for volumes that ask for none; other if there is no such type.
func (a *API) imageType(c *call, img *model.Image, other model.VolumeType) (model.VolumeType, error) {
	ref := img.Properties["cinder_img_volume_type"]
	if ref == "" {
		return other, nil
	}
	t, err := a.wantedType(c, ref)
	if isMissing(err) {
		return other, nil
	}
	return t, err
}

func isUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil
}

// fits refuses a volume that is too small for its image.
func fits(img *model.Image, gib int) error {
	need := (img.SizeBytes + 1<<30 - 1) >> 30
	switch {
	case need > int64(gib):
		return fault.InvalidInput("Size of specified image %dGB is larger than volume size %dGB.", need, gib)
	case img.MinDiskGiB > gib:
		return fault.InvalidInput("Volume size %dGB cannot be smaller than the image minDisk size %dGB.", gib, img.MinDiskGiB)
	case img.VirtualBytes > int64(gib)<<30:
		return fault.BadRequest("Image %s is unacceptable: Image virtual size is %dGB and doesn't fit in a volume of size %dGB.",
			img.ID, (img.VirtualBytes+1<<30-1)>>30, gib)
	}
	return nil
}

// create writes the volumes, one per name. What is answered is "creating" even for
// a row that is available at once: clients of Cinder expect it.
func (a *API) create(c *call, w wanted, names []*string) ([]model.Volume, error) {
	vols := make([]model.Volume, 0, len(names))
	for _, name := range names {
		vols = append(vols, a.row(c, w, name))
	}
	var made []model.Volume
	var err error
	switch {
	case w.source != nil && w.source.backup != nil:
		if len(vols) > 1 {
			return nil, fault.BadRequest("Volumes of a backup are made one at a time.")
		}
		made = make([]model.Volume, 1)
		made[0], err = a.Scheduler.RestoreNew(c.ctx(), *w.source.backup, vols[0], model.VolumeCreating, c.task())
		err = w.source.refused(err)
	case w.source != nil:
		made, err = a.Scheduler.Copy(c.ctx(), vols, w.kind.ExtraSpecs)
		err = w.source.refused(err)
	default:
		made, err = a.Scheduler.Create(c.ctx(), vols, w.kind.ExtraSpecs, w.image)
	}
	if err != nil && w.group != nil {
		err = groupRefused(err)
	}
	if err != nil {
		return nil, err
	}
	if len(made) != len(names) {
		return nil, fault.Server(fmt.Errorf("asked for %d volumes, got %d", len(names), len(made)))
	}
	for i := range made {
		made[i].Status, made[i].UpdatedAt, made[i].Bootable = model.VolumeCreating, nil, false
		if made[i].VolumeType == nil {
			made[i].VolumeType = &w.kind.Name
		}
	}
	return made, nil
}

func (a *API) row(c *call, w wanted, name *string) model.Volume {
	v := model.Volume{
		ID: uuid.New(), ProjectID: c.id.ProjectID, UserID: c.id.UserID, Name: name, Description: w.description,
		SizeGiB: w.size, Status: model.VolumeCreating, AttachStatus: model.AttachDetached, AvailabilityZone: w.zone,
		VolumeTypeID: &w.kind.ID, VolumeType: &w.kind.Name, Multiattach: w.kind.Is("multiattach"),
		ConsumesQuota: true, Metadata: maps.Clone(w.metadata), RequestID: c.info.ID, CreatedAt: a.Now().UTC(),
	}
	if w.source != nil {
		w.source.give(&v)
	}
	if w.group != nil {
		v.GroupID = &w.group.ID
	}
	if w.image != nil {
		id := w.image.ID
		v.ImageID, v.Bootable, v.ImageMetadata = &id, true, imageMetadata(w.image)
	}
	return v
}

// imageMetadata is volume_image_metadata: what Nova and Horizon read about the image.
func imageMetadata(i *model.Image) model.StringMap {
	m := model.StringMap{}
	maps.Copy(m, i.Properties)
	maps.Copy(m, model.StringMap{
		"image_id": i.ID.String(), "image_name": i.Name, "checksum": i.Checksum, "container_format": i.ContainerFormat,
		"disk_format": i.DiskFormat, "min_disk": strconv.Itoa(i.MinDiskGiB), "min_ram": strconv.Itoa(i.MinRAMMiB),
		"size": strconv.FormatInt(i.SizeBytes, 10), "signature_verified": "False",
	})
	return m
}
