package v3

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noVolume = "Volume %s could not be found."

func (a *API) volumeRoutes() []route {
	return []route{
		{method: "GET", path: "/volumes", h: a.listVolumes},
		{method: "GET", path: "/volumes/detail", h: a.listVolumesDetail},
		{method: "GET", path: "/volumes/summary", min: 12, h: a.volumeSummary},
		{method: "POST", path: "/volumes", h: a.createVolume},
		{method: "POST", path: "/volumes/batch", h: a.createBatch},
		{method: "GET", path: "/volumes/{id}", h: a.showVolume},
		{method: "PUT", path: "/volumes/{id}", h: a.updateVolume},
		{method: "DELETE", path: "/volumes/{id}", h: a.deleteVolume},
		{method: "POST", path: "/volumes/{id}/action", h: a.volumeAction},
		{method: "GET", path: "/volumes/{id}/encryption", h: a.volumeEncryption},
		{method: "GET", path: "/volumes/{id}/encryption/{key}", h: a.volumeEncryptionKey},
	}
}

// volume finds the volume in the path, if the caller may see it and the rule allows it.
func (a *API) volume(c *call, rule string) (model.Volume, error) {
	return a.volumeByID(c, c.vars["id"], rule)
}

func (a *API) volumeByID(c *call, text, rule string) (model.Volume, error) {
	v, err := byID(c, text, noVolume, a.Store.Volume)
	if err != nil {
		return v, err
	}
	return v, c.allowOwner(rule, v.ProjectID, v.UserID)
}

func (a *API) showVolume(c *call) error {
	v, err := a.volume(c, "volume:get")
	if err != nil {
		return err
	}
	images, err := a.imagesOf(c, []model.Volume{v})
	if err != nil {
		return err
	}
	o := c.view().VolumeDetail(&v, imageOf(images, &v))
	if err := a.taskShown(c, &v, o); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume": o})
}

// imagesOf fetches the images that volumes wait for, to show how far they are: one by
// itself, several in one look at all.
func (a *API) imagesOf(c *call, vols []model.Volume) (map[uuid.UUID]*model.Image, error) {
	images := map[uuid.UUID]*model.Image{}
	for i := range vols {
		if v := &vols[i]; v.Status == model.VolumeDownloading && v.ImageID != nil {
			images[*v.ImageID] = nil
		}
	}
	if len(images) > 1 {
		all, err := a.Store.Images(c.ctx())
		if err != nil {
			return nil, err
		}
		for i := range all {
			if _, waits := images[all[i].ID]; waits {
				images[all[i].ID] = &all[i]
			}
		}
		return images, nil
	}
	for id := range images {
		img, err := a.Store.Image(c.ctx(), id)
		switch {
		case err == nil:
			images[id] = &img
		case !errors.Is(err, model.ErrNotFound): // gone between the two reads
			return nil, err
		}
	}
	return images, nil
}

func imageOf(images map[uuid.UUID]*model.Image, v *model.Volume) *model.Image {
	if v.ImageID == nil {
		return nil
	}
	return images[*v.ImageID]
}

// volumeColumns are the API's names of what volumes can be filtered by, and the columns.
func volumeColumns() map[string]string {
	return map[string]string{
		"id": "id", "name": "name", "display_name": "name", "description": "description", "display_description": "description",
		"status": "status", "metadata": "metadata", "glance_metadata": "image_metadata", "bootable": "bootable",
		"migration_status": "migration_status", "attach_status": "attach_status", "availability_zone": "availability_zone",
		"group_id": "group_id", "size": "size", "created_at": "created_at", "updated_at": "updated_at",
		"consumes_quota": "consumes_quota", "multiattach": "multiattach", "volume_type_id": "volume_type_id",
		"user_id": "user_id", "project_id": "project_id", "tenant_id": "project_id", "host": "host",
		"snapshot_id": "snapshot_id", "source_volid": "source_volid",
	}
}

// volumeSorts are the keys that volumes can be ordered by.
func volumeSorts() []string {
	return []string{"id", "name", "display_name", "status", "size", "created_at", "updated_at", "launched_at", "availability_zone",
		"bootable", "attach_status", "volume_type_id", "project_id", "user_id", "description", "host", "snapshot_id", "source_volid"}
}

func (a *API) listVolumes(c *call) error       { return a.volumeList(c, false) }
func (a *API) listVolumesDetail(c *call) error { return a.volumeList(c, true) }

func (a *API) volumeList(c *call, detail bool) error {
	if err := c.allow("volume:get_all"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	w, err := a.askedOwn(c, params, noVolume, volumeSorts())
	if err != nil {
		return err
	}
	if c.id.Admin { // a filter of nobody's else
		params.Del("no_migration_targets")
	}
	rules := filterRules{allowed: a.filtersOf("volume"), columns: volumeColumns(), admin: c.id.Admin, counted: true, mv: c.mv, node: a.nodeNamed(c)}
	if err := w.filter(rules, params, "id", "group_id", "volume_type_id", "snapshot_id", "source_volid"); err != nil {
		return err
	}
	w.query.Detail = detail
	return listing[model.Volume]{
		key: "volumes", links: "volumes_links", missing: noVolume,
		id:   func(v *model.Volume) uuid.UUID { return v.ID },
		find: a.Store.ListVolumes, count: a.Store.CountVolumes,
		show: func(vols []model.Volume) (any, error) { return a.volumeRows(c, vols, detail) },
	}.send(a, c, w)
}

// volumeRows are the rows of a list.
func (a *API) volumeRows(c *call, vols []model.Volume, detail bool) (any, error) {
	cv := c.view()
	if !detail {
		return each(cv.VolumeSummary)(vols)
	}
	images, err := a.imagesOf(c, vols)
	if err != nil {
		return nil, err
	}
	return cv.VolumeDetails(vols, images), nil
}

func (a *API) volumeSummary(c *call) error {
	if err := c.allow("volume:get_all"); err != nil {
		return err
	}
	project, err := c.listScope()
	if err != nil {
		return err
	}
	n, gib, metadata, err := a.Store.Summary(c.ctx(), project)
	if err != nil {
		return err
	}
	summary := view.Object{"total_count": n, "total_size": gib}
	if c.mv >= 36 {
		if metadata == nil {
			metadata = map[string][]string{}
		}
		summary["metadata"] = metadata
	}
	return c.json(http.StatusOK, view.Object{"volume-summary": summary})
}

func (a *API) updateVolume(c *call) error {
	in, err := c.inner("volume")
	if err != nil {
		return err
	}
	known := []string{"name", "description", "display_name", "display_description", "metadata"}
	if err := in.Only(known...); err != nil {
		return err
	}
	if c.mv >= 53 && len(in.Keys()) == 0 {
		return in.InvalidSelf("{} is not valid under any of the given schemas")
	}
	p, err := volumePatch(in)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume:update")
	if err != nil {
		return err
	}
	if v.Status == model.VolumeMaintenance {
		return fault.InvalidVolume(maintained)
	}
	if len(in.Keys()) > 0 {
		attachments := v.Attachments
		if v, err = a.Store.PatchVolume(c.ctx(), v.ID, p); err != nil {
			return notFound(err, noVolume, c.vars["id"])
		}
		if v.Attachments == nil {
			v.Attachments = attachments
		}
	}
	return c.json(http.StatusOK, view.Object{"volume": c.view().VolumeUpdated(&v)})
}

const maintained = "The volume cannot be updated during maintenance."

func volumePatch(in *schema.Object) (model.VolumePatch, error) {
	var p model.VolumePatch
	var err error
	if p.Name, err = nameOf(in, "name", "display_name"); err != nil {
		return p, err
	}
	if p.Description, err = nameOf(in, "description", "display_description"); err != nil {
		return p, err
	}
	p.NoName = p.Name == nil && (in.Given("name") || in.Given("display_name"))
	p.NoDescription = p.Description == nil && (in.Given("description") || in.Given("display_description"))
	if in.Given("metadata") && !in.Has("metadata") {
		return p, in.Invalid("metadata", "None is not of type 'object'")
	}
	m, err := in.Metadata("metadata")
	if err != nil {
		return p, err
	}
	p.Metadata = writable(m)
	return p, nil
}

func (a *API) deleteVolume(c *call) error {
	params := c.r.URL.Query()
	force := false
	if c.mv >= 23 {
		var err error
		if force, err = flag(params, "force"); err != nil {
			return err
		}
	}
	cascade, err := flag(params, "cascade")
	if err != nil {
		return err
	}
	rule := "volume:delete"
	if force {
		rule = "volume:force_delete"
	}
	v, err := a.volume(c, rule)
	if err != nil {
		return err
	}
	if err := a.delete(c, v, model.DeleteOptions{Force: force, Cascade: cascade, Foreign: c.id.Admin}); err != nil {
		return err
	}
	return c.emptyHTML(http.StatusAccepted)
}

// flag is a boolean parameter, false if absent.
func flag(q url.Values, key string) (bool, error) {
	if !q.Has(key) {
		return false, nil
	}
	v, ok := schema.Truth(q.Get(key))
	if !ok {
		return false, notBoolean(key, q.Get(key))
	}
	return v, nil
}

func notBoolean(key, value string) error {
	return fault.BadRequest("Value '%s' for '%s' is not a boolean.", value, key)
}

const (
	notDeletable = "Volume status must be available or error or error_restoring or error_extending or error_managing and" + notFree
	notForced    = "Volume " + notFree // two spaces, as in Cinder
	notFree      = " must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, " +
		"or be disassociated from snapshots after volume transfer."
)

func (a *API) delete(c *call, v model.Volume, o model.DeleteOptions) error {
	refused := fault.InvalidVolume(notDeletable)
	if o.Force {
		refused = fault.InvalidVolume(notForced)
	}
	if len(v.Attachments) > 0 || !o.Force && !v.Deletable() {
		return refused
	}
	err := a.Scheduler.Delete(c.ctx(), v.ID, o)
	if isState(err) {
		return refused
	}
	return notFound(err, noVolume, v.ID.String())
}
