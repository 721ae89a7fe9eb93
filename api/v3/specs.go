package v3

import (
	"encoding/json"
	"maps"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// specced is a type that has specs: how they are read and written.
type specced struct {
	path    string // of one type
	key     string // of all specs in a body
	min     microversion.Version
	created int // status of the answer to POST
	// Rules of the policy.
	list, show, create, update, remove string
	// 404 for a key, to who looks for it and to who deletes it.
	missing, missingDeleted string
	removed                 func(c *call) error // answers DELETE

	read func(c *call, rule string) (model.StringMap, error)
	// edit has a change made, which must be pure: it may run again.
	edit func(c *call, rule string, change func(model.StringMap) error) error
	// check refuses what all specs would be after some were given; nil: anything goes.
	check func(all, given model.StringMap) error
}

func (n specced) routes() []route {
	all, one := n.path+"/"+n.key, n.path+"/"+n.key+"/{key}"
	return []route{
		{method: "GET", path: all, min: n.min, h: n.index},
		{method: "POST", path: all, min: n.min, h: n.add},
		{method: "GET", path: one, min: n.min, h: n.showKey},
		{method: "PUT", path: one, min: n.min, h: n.putKey},
		{method: "DELETE", path: one, min: n.min, h: n.deleteKey},
	}
}

func (n specced) index(c *call) error {
	specs, err := n.read(c, n.list)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{n.key: specs})
}

func (n specced) showKey(c *call) error {
	specs, err := n.read(c, n.show)
	if err != nil {
		return err
	}
	v, ok := specs[c.vars["key"]]
	if !ok {
		return fault.NotFound(n.missing, c.vars["id"], c.vars["key"])
	}
	return c.json(http.StatusOK, view.Object{c.vars["key"]: v})
}

func (n specced) add(c *call) error {
	body, in, err := c.wrapped(n.key)
	if err != nil {
		return err
	}
	specs, err := in.Specs(schema.SpecKeysNoSpace)
	if err != nil {
		return err
	}
	if err := body.Only(n.key); err != nil {
		return err
	}
	if err := n.save(c, n.create, specs); err != nil {
		return err
	}
	return c.json(n.created, view.Object{n.key: json.RawMessage(in.Self())})
}

func (n specced) putKey(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	specs, err := body.Specs(schema.SpecKeysNoSpace)
	if err != nil {
		return err
	}
	switch len(specs) {
	case 0:
		return fault.BadRequest("{} does not have enough properties")
	case 1:
	default:
		return fault.BadRequest("%s has too many properties", schema.Repr(body.Self()))
	}
	if err := c.allow(n.update); err != nil {
		return err
	}
	if _, ok := specs[c.vars["key"]]; !ok {
		return fault.BadRequest("Request body and URI mismatch")
	}
	if err := n.save(c, n.update, specs); err != nil {
		return err
	}
	return c.json(http.StatusOK, json.RawMessage(body.Self()))
}

// save merges specs into those that there are.
func (n specced) save(c *call, rule string, specs model.StringMap) error {
	return n.edit(c, rule, func(all model.StringMap) error {
		maps.Copy(all, specs)
		if n.check == nil {
			return nil
		}
		return n.check(all, specs)
	})
}

func (n specced) deleteKey(c *call) error {
	err := n.edit(c, n.remove, func(specs model.StringMap) error {
		if _, ok := specs[c.vars["key"]]; !ok {
			return fault.NotFound(n.missingDeleted, c.vars["id"], c.vars["key"])
		}
		delete(specs, c.vars["key"])
		return nil
	})
	if err != nil {
		return err
	}
	return n.removed(c)
}
