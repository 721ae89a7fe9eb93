package v3

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noType = "Volume type %s could not be found."

func (a *API) typeRoutes() []route {
	return []route{
		{method: "GET", path: "/types", h: a.listTypes},
		{method: "POST", path: "/types", h: a.createType},
		{method: "GET", path: "/types/default", h: a.showDefaultType},
		{method: "GET", path: "/types/{id}", h: a.showType},
		{method: "PUT", path: "/types/{id}", h: a.updateType},
		{method: "DELETE", path: "/types/{id}", h: a.deleteType},
		{method: "POST", path: "/types/{id}/action", h: a.typeAction},
		{method: "GET", path: "/types/{id}/os-volume-type-access", h: a.listTypeAccess},
		{method: "GET", path: "/types/{id}/extra_specs", h: a.listSpecs},
		{method: "POST", path: "/types/{id}/extra_specs", h: a.addSpecs},
		{method: "GET", path: "/types/{id}/extra_specs/{key}", h: a.showSpec},
		{method: "PUT", path: "/types/{id}/extra_specs/{key}", h: a.putSpec},
		{method: "DELETE", path: "/types/{id}/extra_specs/{key}", h: a.deleteSpec},
		{method: "GET", path: "/types/{id}/encryption", h: a.showTypeEncryption},
		{method: "POST", path: "/types/{id}/encryption", h: a.refuseTypeEncryption("volume_extension:volume_type_encryption:create")},
		{method: "GET", path: "/types/{id}/encryption/{key}", h: a.showTypeEncryptionKey},
		{method: "PUT", path: "/types/{id}/encryption/{key}", h: a.refuseTypeEncryption("volume_extension:volume_type_encryption:update")},
		{method: "DELETE", path: "/types/{id}/encryption/{key}", h: a.refuseTypeEncryption("volume_extension:volume_type_encryption:delete")},
	}
}

// allTypes that the caller may use.
func (a *API) allTypes(c *call) ([]model.VolumeType, error) {
	return a.Store.Types(c.ctx(), model.ListQuery{ProjectID: c.scope()}, nil)
}

// volumeType finds the type in the path. A private type is there for administrators and
// for projects with access.
func (a *API) volumeType(c *call, rule string) (model.VolumeType, error) {
	id, ok := c.uuid("id")
	if !ok {
		return model.VolumeType{}, fault.NotFound(noType, c.vars["id"])
	}
	t, err := a.typeByID(c, id)
	if err != nil {
		return t, err
	}
	return t, c.allow(rule)
}

func (a *API) typeByID(c *call, id uuid.UUID) (model.VolumeType, error) {
	t, err := a.Store.Type(c.ctx(), id)
	if err != nil {
		return t, notFound(err, noType, id)
	}
	if t.IsPublic || c.id.Admin {
		return t, nil
	}
	// By name the store checks access.
	t, err = a.Store.TypeByName(c.ctx(), t.Name, c.id.ProjectID)
	return t, notFound(err, noType, id)
}

// defaultType is made on the spot if it is not there, as on start.
func (a *API) defaultType(c *call) (model.VolumeType, error) {
	t, err := a.Store.TypeByName(c.ctx(), a.DefaultType, "")
	if errors.Is(err, model.ErrNotFound) {
		return a.Store.EnsureType(c.ctx(), a.DefaultType)
	}
	return t, err
}

// wantedType of a new volume: by id, by name, or the default.
func (a *API) wantedType(c *call, ref string) (model.VolumeType, error) {
	if ref == "" {
		return a.defaultType(c)
	}
	if id, err := uuid.Parse(ref); err == nil {
		return a.typeByID(c, id)
	}
	t, err := a.Store.TypeByName(c.ctx(), ref, c.scope())
	return t, notFound(err, "Volume type with name %s could not be found.", ref)
}

func (a *API) listTypes(c *call) error {
	if err := c.allow("volume_extension:type_get_all"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	p, err := a.paging(params, []string{"id", "name", "description", "created_at", "updated_at", "is_public"})
	if err != nil {
		return err
	}
	q, err := p.query(a.MaxLimit, noType)
	if err != nil {
		return err
	}
	public := true
	isPublic := &public
	if s := params.Get("is_public"); c.id.Admin && s != "" {
		switch v, ok := schema.Truth(s); {
		case s == "None" || s == "none":
			isPublic = nil
		case !ok:
			return fault.BadRequest("Invalid is_public filter [%s]", s)
		default:
			isPublic = &v
		}
	}
	if !c.id.Admin {
		isPublic, q.ProjectID = nil, c.id.ProjectID // public ones, and private ones with access
	}
	if s := params.Get("extra_specs"); s != "" && c.mv >= 52 {
		m, ok := parseDict(s)
		if !ok {
			return fault.InvalidInput("Could not parse extra_specs as a dictionary")
		}
		q.Filters = []model.Filter{{Column: "extra_specs", Op: "=", Map: m}}
	}
	types := []model.VolumeType{}
	if p.limit != 0 {
		if types, err = a.Store.Types(c.ctx(), q, isPublic); err != nil {
			return notFound(err, noType, p.marker)
		}
	}
	rows := make([]view.Object, 0, len(types))
	for i := range types {
		rows = append(rows, c.view().VolumeType(&types[i]))
	}
	body := view.Object{"volume_types": rows}
	if len(types) > 0 {
		c.next(body, "volume_type_links", p, a.MaxLimit, len(types), types[len(types)-1].ID.String())
	}
	return c.json(http.StatusOK, body)
}

func (a *API) showType(c *call) error {
	t, err := a.volumeType(c, "volume_extension:type_get")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeType(&t)})
}

func (a *API) showDefaultType(c *call) error {
	if err := c.allow("volume_extension:type_get"); err != nil {
		return err
	}
	t, err := a.defaultType(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeDefault(&t)})
}

func (a *API) createType(c *call) error {
	in, err := c.inner("volume_type")
	if err != nil {
		return err
	}
	if err := in.Require("name"); err != nil {
		return err
	}
	t := model.VolumeType{ID: uuid.New(), IsPublic: true, CreatedAt: a.Now().UTC()}
	if t.Name, err = in.Text("name", 1, 255); err != nil {
		return err
	}
	if t.Description, err = in.String("description", 0, 255); err != nil {
		return err
	}
	specs, err := in.Strings("extra_specs")
	if err != nil {
		return err
	}
	if t.ExtraSpecs = specs; specs == nil {
		t.ExtraSpecs = model.StringMap{}
	}
	public, err := in.Bool(view.IsPublicKey)
	if err != nil {
		return err
	}
	if public != nil {
		t.IsPublic = *public
	}
	if err := c.allow("volume_extension:type_create"); err != nil {
		return err
	}
	made, err := a.Store.PutType(c.ctx(), t, true)
	if err != nil {
		return typeExists(err, t.Name)
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeCreated(&made)})
}

func typeExists(err error, name string) error {
	if errors.Is(err, model.ErrExists) {
		return fault.Conflict("Volume Type %s already exists.", name)
	}
	return err
}

func (a *API) updateType(c *call) error {
	in, err := c.inner("volume_type")
	if err != nil {
		return err
	}
	if err := in.Only("name", "description", "is_public"); err != nil {
		return err
	}
	name, err := in.String("name", 0, 255)
	if err != nil {
		return err
	}
	description, err := in.String("description", 0, 255)
	if err != nil {
		return err
	}
	public, err := in.Bool("is_public")
	if err != nil {
		return err
	}
	t, err := a.volumeType(c, "volume_extension:type_update")
	if err != nil {
		return err
	}
	if name == nil && description == nil && public == nil {
		return fault.BadRequest("Specify volume type name, description, is_public or a combination thereof.")
	}
	if name != nil {
		if *name == "" {
			return fault.BadRequest("Volume type name can not be empty.")
		}
		t.Name = *name
	}
	if description != nil {
		t.Description = description
	}
	if public != nil {
		t.IsPublic = *public
	}
	saved, err := a.Store.PutType(c.ctx(), t, false)
	if err != nil {
		return notFound(typeExists(err, t.Name), noType, t.ID)
	}
	return c.json(http.StatusOK, view.Object{"volume_type": c.view().VolumeTypeUpdated(&saved)})
}

func (a *API) deleteType(c *call) error {
	t, err := a.volumeType(c, "volume_extension:type_delete")
	if err != nil {
		return err
	}
	if t.Name == a.DefaultType {
		return fault.BadRequest("The volume type %s is a default volume type and cannot be deleted.", t.ID)
	}
	err = a.Store.DeleteType(c.ctx(), t.ID)
	if errors.Is(err, model.ErrInUse) {
		return fault.BadRequest("Target volume type is still in use.")
	}
	if err != nil {
		return notFound(err, noType, t.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}
