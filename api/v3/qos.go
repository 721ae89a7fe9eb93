package v3

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noQoS = "No such QoS spec %s."

func (a *API) qosRoutes() []route {
	return []route{
		{method: "GET", path: "/qos-specs", h: a.listQoS},
		{method: "POST", path: "/qos-specs", h: a.createQoS},
		{method: "GET", path: "/qos-specs/{id}", h: a.showQoS},
		{method: "PUT", path: "/qos-specs/{id}", h: a.updateQoS},
		{method: "DELETE", path: "/qos-specs/{id}", h: a.deleteQoS},
		{method: "PUT", path: "/qos-specs/{id}/delete_keys", h: a.deleteQoSKeys},
		{method: "GET", path: "/qos-specs/{id}/associations", h: a.listQoSTypes},
		// These change what they GET.
		{method: "GET", path: "/qos-specs/{id}/associate", h: a.associateQoS},
		{method: "GET", path: "/qos-specs/{id}/disassociate", h: a.disassociateQoS},
		{method: "GET", path: "/qos-specs/{id}/disassociate_all", h: a.disassociateAllQoS},
	}
}

// qos finds the QoS specs in the path.
func (a *API) qos(c *call, rule string) (model.QoS, error) {
	if err := c.allow("volume_extension:qos_specs_manage:" + rule); err != nil {
		return model.QoS{}, err
	}
	id, ok := c.uuid("id")
	if !ok {
		return model.QoS{}, fault.NotFound(noQoS, c.vars["id"])
	}
	q, err := a.Store.QoS(c.ctx(), id)
	return q, notFound(err, noQoS, id)
}

// listQoS: what Cinder stores of QoS specs has the name in a column value, by which it
// can be filtered and sorted, and no others but id and times.
func (a *API) listQoS(c *call) error {
	if err := c.allow("volume_extension:qos_specs_manage:get_all"); err != nil {
		return err
	}
	params := c.r.URL.Query()
	w, err := a.asked(params, noQoS, []string{"id", "value", "created_at", "updated_at"})
	if err != nil {
		return err
	}
	for i := range w.query.Sort {
		if w.query.Sort[i].Column == "value" {
			w.query.Sort[i].Column = "name"
		}
	}
	rules := filterRules{admin: true, mv: c.mv, columns: map[string]string{
		"id": "id", "value": "name", "created_at": "created_at", "updated_at": "updated_at",
	}}
	if err := w.filter(rules, params); err != nil {
		return err
	}
	return listing[model.QoS]{
		key: "qos_specs", links: "qos_specs_links", missing: noQoS,
		id:   func(q *model.QoS) uuid.UUID { return q.ID },
		find: a.Store.ListQoS,
		show: each(c.view().QoS),
	}.send(a, c, w)
}

// sendQoS: the links stand beside the specs.
func (a *API) sendQoS(c *call, q *model.QoS) error {
	return c.json(http.StatusOK, view.Object{"qos_specs": c.view().QoS(q), "links": c.view().Links("qos-specs", q.ID.String())})
}

func (a *API) createQoS(c *call) error {
	body, in, err := c.wrapped("qos_specs")
	if err != nil {
		return err
	}
	name, err := in.TrimmedName("name")
	if err != nil {
		return err
	}
	if err := in.Require("name"); err != nil {
		return err
	}
	if err := body.Only("qos_specs"); err != nil {
		return err
	}
	if err := c.allow("volume_extension:qos_specs_manage:create"); err != nil {
		return err
	}
	specs, err := newSpecs(in)
	if err != nil {
		return err
	}
	q := model.QoS{ID: uuid.New(), Name: *name, Consumer: "back-end", Specs: specs, CreatedAt: a.Now().UTC()}
	if in.Has("consumer") {
		if q.Consumer, err = consumer(specs["consumer"]); err != nil {
			return err
		}
	}
	delete(specs, "consumer")
	made, err := a.Store.CreateQoS(c.ctx(), q)
	if err != nil {
		return err // ErrExists has Cinder's words
	}
	return a.sendQoS(c, &made)
}

// newSpecs are all keys of new QoS specs but their name. Unlike later on any character may be in
// a key (cinder/utils.py, validate_dictionary_string_length).
func newSpecs(in *schema.Object) (model.StringMap, error) {
	specs := model.StringMap{}
	for _, k := range in.Keys() {
		if k == "name" {
			continue
		}
		if n := utf8.RuneCountInString(k); n < 1 {
			return nil, fault.InvalidInput(`Key "" has 0 characters, less than 1.`)
		} else if n > 255 {
			return nil, fault.InvalidInput(`Key "%s" has %d characters, more than 255.`, k, n)
		}
		if !in.Has(k) {
			specs[k] = ""
			continue
		}
		var s string
		if json.Unmarshal(in.Raw(k), &s) != nil {
			return nil, fault.InvalidInput(`Value for key "%s" is not a string or unicode`, k)
		}
		if n := utf8.RuneCountInString(s); n > 255 {
			return nil, fault.InvalidInput(`Value for key "%s" has %d characters, more than 255.`, k, n)
		}
		if slices.Contains([]byte(k+s), 0) { // the database takes no NUL
			return nil, fault.InvalidInput(`Value for key "%s" has a character that can't be stored`, k)
		}
		specs[k] = s
	}
	return specs, nil
}

func consumer(s string) (string, error) {
	if !slices.Contains(model.QoSConsumers(), s) {
		return "", fault.BadRequest("Invalid qos specs: Valid consumer of QoS specs are: " +
			"QoSConsumerValues(default=<class 'oslo_versionedobjects.fields.UnspecifiedDefault'>,nullable=False," +
			"valid_values=('back-end', 'front-end', 'both'))")
	}
	return s, nil
}

func (a *API) showQoS(c *call) error {
	q, err := a.qos(c, "get")
	if err != nil {
		return err
	}
	return a.sendQoS(c, &q)
}

func (a *API) updateQoS(c *call) error {
	body, in, err := c.wrapped("qos_specs")
	if err != nil {
		return err
	}
	specs, err := in.Specs(schema.SpecKeys)
	if err != nil {
		return err
	}
	if err := body.Only("qos_specs"); err != nil {
		return err
	}
	q, err := a.qos(c, "update")
	if err != nil {
		return err
	}
	to, given := specs["consumer"]
	if given {
		if _, err := consumer(to); err != nil {
			return err
		}
	}
	delete(specs, "consumer")
	_, err = a.Store.EditQoS(c.ctx(), q.ID, func(q *model.QoS) error {
		if given {
			q.Consumer = to
		}
		maps.Copy(q.Specs, specs)
		return nil
	})
	if err != nil {
		return notFound(err, noQoS, q.ID)
	}
	return c.json(http.StatusOK, json.RawMessage(body.Self()))
}

func (a *API) deleteQoS(c *call) error {
	if err := c.allow("volume_extension:qos_specs_manage:delete"); err != nil {
		return err
	}
	force := false
	if params := c.r.URL.Query(); params.Has("force") {
		var ok bool
		if force, ok = schema.Truth(params.Get("force")); !ok {
			return fault.BadRequest("Value '%s' for 'force' is not a boolean.", params.Get("force"))
		}
	}
	q, err := a.qos(c, "delete")
	if err != nil {
		return err
	}
	err = a.Store.DeleteQoS(c.ctx(), q.ID, force)
	switch {
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("Qos specs still in use.")
	case err != nil:
		return notFound(err, noQoS, q.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// deleteQoSKeys deletes up to the first key that is not there, as Cinder does.
func (a *API) deleteQoSKeys(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	keys, err := body.Texts("keys")
	if err != nil {
		return err
	}
	if err := body.Only("keys"); err != nil {
		return err
	}
	q, err := a.qos(c, "delete")
	if err != nil {
		return err
	}
	var missing error
	_, err = a.Store.EditQoS(c.ctx(), q.ID, func(q *model.QoS) error {
		missing = nil
		for _, k := range keys {
			if _, ok := q.Specs[k]; !ok {
				missing = fault.NotFound("QoS spec %s has no spec with key %s.", q.ID, k)
				break
			}
			delete(q.Specs, k)
		}
		return nil
	})
	if err != nil {
		return notFound(err, noQoS, q.ID)
	}
	if missing != nil {
		return missing
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) listQoSTypes(c *call) error {
	q, err := a.qos(c, "get_all")
	if err != nil {
		return err
	}
	types, err := a.Store.QoSTypes(c.ctx(), q.ID)
	if err != nil {
		return err
	}
	rows := make([]view.Object, 0, len(types))
	for _, t := range types {
		rows = append(rows, view.Object{"association_type": "volume_type", "name": t.Name, "id": t.ID})
	}
	return c.json(http.StatusOK, view.Object{"qos_associations": rows})
}

// qosAndType are the QoS specs in the path and the type in the query.
func (a *API) qosAndType(c *call) (model.QoS, model.VolumeType, error) {
	if err := c.allow("volume_extension:qos_specs_manage:update"); err != nil {
		return model.QoS{}, model.VolumeType{}, err
	}
	ref := c.r.URL.Query().Get("vol_type_id")
	if ref == "" {
		return model.QoS{}, model.VolumeType{}, fault.BadRequest("Volume Type id must not be None.")
	}
	q, err := a.qos(c, "update")
	if err != nil {
		return q, model.VolumeType{}, err
	}
	t, err := a.typeByID(c, ref)
	return q, t, err
}

func (a *API) associateQoS(c *call) error {
	q, t, err := a.qosAndType(c)
	if err != nil {
		return err
	}
	err = a.Store.AssociateQoS(c.ctx(), q.ID, t.ID)
	switch {
	case errors.Is(err, model.ErrConflict):
		return fault.BadRequest("Invalid volume type: %s", plain(err))
	case err != nil:
		return notFound(err, noQoS, q.ID)
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) disassociateQoS(c *call) error {
	q, t, err := a.qosAndType(c)
	if err != nil {
		return err
	}
	if err := a.Store.DisassociateQoS(c.ctx(), q.ID, &t.ID); err != nil {
		return err
	}
	return c.emptyHTML(http.StatusAccepted)
}

func (a *API) disassociateAllQoS(c *call) error {
	q, err := a.qos(c, "update")
	if err != nil {
		return err
	}
	if err := a.Store.DisassociateQoS(c.ctx(), q.ID, nil); err != nil {
		return err
	}
	return c.emptyHTML(http.StatusAccepted)
}
