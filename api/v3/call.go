package v3

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/api/request"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// call is one request to one handler.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	vars    map[string]string
	info    *request.Info
	id      keystone.Identity
	mv      microversion.Version
	rules   *policy.Enforcer
	backend model.Backend
	body    []byte // nil if there is none, or none of a type that is read
}

// handler serves a route. It answers, or returns an error before it has written anything.
type handler func(c *call) error

func (c *call) ctx() context.Context { return c.r.Context() }

// scope is the project whose resources the caller sees: "" (all) for administrators.
func (c *call) scope() string {
	if c.id.Admin {
		return ""
	}
	return c.id.ProjectID
}

// allow checks a rule against the caller's own project.
func (c *call) allow(rule string) error {
	return c.rules.Check(c.id, rule, policy.Target{ProjectID: c.id.ProjectID, UserID: c.id.UserID})
}

// allowOn checks a rule against the project of a resource.
func (c *call) allowOn(rule, project string) error {
	return c.rules.Check(c.id, rule, policy.Target{ProjectID: project})
}

// allowOwner checks a rule against the project of a resource and the user who made it.
func (c *call) allowOwner(rule, project, user string) error {
	return c.rules.Check(c.id, rule, policy.Target{ProjectID: project, UserID: user})
}

// parse reads the body as an object.
func (c *call) parse() (*schema.Object, error) { return schema.Parse(c.body) }

// inner reads a body that is an object around one object.
func (c *call) inner(key string) (*schema.Object, error) {
	o, err := c.parse()
	if err != nil {
		return nil, err
	}
	return o.Object(key)
}

// links of one thing in a collection.
func (c *call) view() view.Context {
	return view.Context{
		Base: c.info.BaseURL, Project: c.vars["project_id"], Version: c.mv, Identity: c.id, Rules: c.rules, Backend: c.backend,
	}
}

// bodies are used again: that of a list of a thousand volumes is a megabyte.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// json answers with a body.
func (c *call) json(status int, v any) error {
	again, _ := bodies.Get().(*[]byte)
	defer bodies.Put(again)
	b, err := encode((*again)[:0], v)
	if err != nil {
		return fault.Server(err)
	}
	*again = b
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b) // the client is gone if this fails
	return nil
}

// encode appends a body. Long lists in it append themselves.
func encode(b []byte, v any) (_ []byte, err error) {
	o, ok := v.(view.Object)
	if !ok {
		return encodeAny(b, v)
	}
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(o)) {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = encodeAny(b, key); err != nil {
			return nil, err
		}
		b = append(b, ':')
		if rows, ok := o[key].(view.VolumeRows); ok {
			b = rows.AppendJSON(b)
		} else if b, err = encodeAny(b, o[key]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func encodeAny(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	if err := json.NewEncoder(buf).Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes()[:buf.Len()-1], nil // without the line's end
}

// text answers with a bare text.
func (c *call) text(s string) error {
	c.w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(s)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(c.w, s) // the client is gone if this fails
	return nil
}

// empty answers without a body. Cinder calls most of its empty bodies JSON …
func (c *call) empty(status int) error {
	c.w.Header().Set("Content-Type", "application/json")
	return c.none(status)
}

// emptyHTML … and the rest HTML.
func (c *call) emptyHTML(status int) error {
	c.w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	return c.none(status)
}

func (c *call) none(status int) error {
	if status != http.StatusNoContent {
		c.w.Header().Set("Content-Length", "0")
	}
	c.w.WriteHeader(status)
	return nil
}

// uuid is the id in a variable of the path. Ids are not checked for their form: what is
// no id is not found.
func (c *call) uuid(name string) (uuid.UUID, bool) {
	id, err := uuid.Parse(c.vars[name])
	return id, err == nil
}

// readBody reads a request's body, if it has one of a type that is read.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body) // bounded by the outer middleware
	if err != nil {
		return nil, bodyError(err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	ok, given := contentType(r.Header.Get("Content-Type"))
	switch {
	case !given:
		return nil, nil
	case !ok:
		return nil, fault.New(http.StatusUnsupportedMediaType, "Unsupported Content-Type")
	}
	return b, nil
}

func pathVars(r *http.Request) map[string]string { return mux.Vars(r) }
