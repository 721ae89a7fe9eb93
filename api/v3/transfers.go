package v3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noTransfer = "Transfer %s could not be found."

// transferRoutes: there are two collections of the same transfers. In the newer one a
// volume can be given away without its snapshots (3.55), and lists have pages (3.59).
func (a *API) transferRoutes() []route {
	var out []route
	for _, newer := range []bool{false, true} {
		base := map[bool]string{false: "/os-volume-transfer", true: "/volume-transfers"}[newer]
		list := func(detail bool) handler {
			return func(c *call) error { return a.listTransfers(c, newer && c.mv >= 59, detail) }
		}
		out = append(
			out,
			route{method: "GET", path: base, h: list(false)},
			route{method: "GET", path: base + "/detail", h: list(true)},
			route{method: "POST", path: base, h: func(c *call) error { return a.createTransfer(c, newer) }},
			route{method: "GET", path: base + "/{id}", h: a.showTransfer},
			route{method: "DELETE", path: base + "/{id}", h: a.deleteTransfer},
			route{method: "POST", path: base + "/{id}/accept", h: a.acceptTransfer},
		)
	}
	return out
}

// transferQuery: without pages every parameter but all_tenants is a filter, limit too, and
// one that is of no column matches nothing.
func (a *API) transferQuery(c *call, paged bool) (w asked, err error) {
	params := c.r.URL.Query()
	columns := []string{
		"id", "name", "volume_id", "no_snapshots", "source_project_id", "destination_project_id", "accepted", "created_at", "updated_at",
	}
	for _, key := range []string{"limit", "offset"} {
		if _, err := count(params, key, 0); err != nil {
			return w, err
		}
	}
	w.limit = -1
	w.query = model.ListQuery{Sort: []model.SortKey{{Column: "created_at"}, {Column: "id"}}, Limit: a.MaxLimit}
	if paged {
		sorts := slices.Clone(columns)
		sorts[slices.Index(sorts, "name")] = "display_name"
		if w, err = a.asked(params, noTransfer, sorts); err != nil {
			return w, err
		}
	}
	all, _ := schema.Truth(params.Get("all_tenants"))
	if w.query.ProjectID = c.id.ProjectID; all && c.id.Admin {
		w.query.ProjectID = params.Get("project_id")
	}
	for key := range params {
		switch column := strings.TrimPrefix(key, "display_"); {
		case key == "all_tenants" || key == "project_id" || paged && notFilter(key):
		case slices.Contains(columns, column):
			w.query.Filters = append(w.query.Filters, model.Filter{Column: column, Op: "=", Value: params.Get(key)})
		default:
			w.nothing = true
		}
	}
	return w, nil
}

func (a *API) listTransfers(c *call, paged, detail bool) error {
	if err := c.allow("volume:get_all_transfers"); err != nil {
		return err
	}
	w, err := a.transferQuery(c, paged)
	if err != nil {
		return err
	}
	return listing[model.Transfer]{
		key: "transfers", links: "transfers_links", missing: noTransfer,
		id:   func(t *model.Transfer) uuid.UUID { return t.ID },
		find: a.Store.ListTransfers,
		show: each(oneOf(detail, c.view().Transfer, c.view().TransferSummary)),
	}.send(a, c, w)
}

// transfer finds the one in the path, of a volume that the caller may see.
func (a *API) transfer(c *call, project string) (model.Transfer, error) {
	id, ok := c.uuid("id")
	if !ok {
		return model.Transfer{}, fault.NotFound(noTransfer, c.vars["id"])
	}
	t, err := a.Store.Transfer(c.ctx(), id, project)
	return t, notFound(err, noTransfer, id)
}

func (a *API) showTransfer(c *call) error {
	if err := c.allow("volume:get_transfer"); err != nil {
		return err
	}
	t, err := a.transfer(c, c.scope())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"transfer": c.view().Transfer(&t)})
}

func (a *API) createTransfer(c *call, newer bool) error {
	body, in, err := c.wrapped("transfer")
	if err != nil {
		return err
	}
	volume, err := in.ID("volume_id")
	if err != nil {
		return err
	}
	t := model.Transfer{ID: uuid.New()}
	if in.Has("name") {
		if t.Name, err = in.TrimmedName("name"); err != nil {
			return in.Invalid("name", "%s is not valid under any of the given schemas", schema.Repr(in.Raw("name")))
		}
	}
	known := []string{"volume_id", "name"}
	if newer && c.mv >= 55 {
		known = append(known, "no_snapshots")
		without, err := in.Flag("no_snapshots")
		if err != nil {
			return err
		}
		t.NoSnapshots = without != nil && *without
	}
	if err := closed(body, in, []string{"volume_id"}, known...); err != nil {
		return err
	}
	v, err := a.volumeByID(c, *volume, "volume:create_transfer")
	if err != nil {
		return err
	}
	if err := transferable(c, &v, t.NoSnapshots, newer); err != nil {
		return err
	}
	key, salt := model.NewTransferKey()
	t.VolumeID, t.SourceProjectID, t.Salt, t.KeyHash = v.ID, v.ProjectID, salt, model.HashTransferKey(salt, key)
	made, err := a.Store.CreateTransfer(c.ctx(), t)
	if isState(err) {
		return fault.BadRequest("%s", plain(err))
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.json(http.StatusAccepted, view.Object{"transfer": c.view().TransferCreated(&made, key)})
}

// transferable tells whether a volume can be offered, as far as its status allows it.
func transferable(c *call, v *model.Volume, noSnapshots, newer bool) error {
	switch {
	case v.Status != model.VolumeAvailable:
		return fault.InvalidVolume("status must be available")
	case v.EncryptionKeyID == nil:
		return nil
	case !newer || c.mv < 70:
		return fault.InvalidVolume("transferring encrypted volume is not supported")
	case noSnapshots:
		return fault.InvalidVolume("transferring an encrypted volume without its snapshots is not supported")
	}
	return nil
}

func (a *API) deleteTransfer(c *call) error {
	t, err := a.transfer(c, c.scope())
	if err != nil {
		return err
	}
	if _, err := a.volumeByID(c, t.VolumeID.String(), "volume:delete_transfer"); err != nil {
		return err
	}
	if err := a.Store.DeleteTransfer(c.ctx(), t.ID); err != nil {
		return notFound(err, noTransfer, t.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// acceptTransfer is for whoever has the key, and a project to take the volume to.
func (a *API) acceptTransfer(c *call) error {
	body, in, err := c.wrapped("accept")
	if err != nil {
		return err
	}
	key, err := authKey(in)
	if err != nil {
		return err
	}
	if err := closed(body, in, []string{"auth_key"}, "auth_key"); err != nil {
		return err
	}
	if err := c.allow("volume:accept_transfer"); err != nil {
		return err
	}
	if c.id.ProjectID == "" {
		return fault.BadRequest("A token with a project is needed to accept a volume.")
	}
	t, err := a.transfer(c, "")
	if err != nil {
		return err
	}
	if !t.Opens(key) {
		return fault.BadRequest("Invalid auth key: Attempt to transfer %s with invalid auth key.", t.ID)
	}
	t, err = a.Store.AcceptTransfer(c.ctx(), t.ID, c.id.ProjectID, c.id.UserID)
	if isState(err) {
		return fault.BadRequest("%s", plain(err))
	}
	if err != nil {
		return notFound(err, noTransfer, c.vars["id"])
	}
	return c.json(http.StatusAccepted, view.Object{"transfer": c.view().TransferSummary(&t)})
}

// authKey as text, or as a number if it looks like one.
func authKey(in *schema.Object) (string, error) {
	raw := in.Raw("auth_key")
	switch text := strings.TrimSpace(string(raw)); {
	case raw == nil:
		return "", nil
	case strings.HasPrefix(text, `"`), strings.Trim(text, "-0123456789") == "":
		return schema.Str(raw), nil
	}
	return "", in.Invalid("auth_key", "%s is not of type 'string', 'integer'", schema.Repr(raw))
}
