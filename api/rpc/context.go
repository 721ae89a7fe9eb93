package rpc

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Context is oslo.context's request context as it travels: whose request it is.
// It keeps keys it does not know, in their order. The zero value is an empty context.
// It may hold a token, so it prints and marshals without its content.
type Context struct{ fields object }

// Identity is what a method wants to know of a [Context].
type Identity struct {
	UserID          string
	ProjectID       string
	DomainID        string
	UserDomainID    string
	ProjectDomainID string
	SystemScope     string // "all" or empty
	Roles           []string
	IsAdmin         bool
	RequestID       string // req-<uuid>
	GlobalRequestID string
	ResourceUUID    string
}

const keyToken = "auth_token"

// NewContext returns the context of an identity with the keys of oslo.context's
// to_dict, without a token.
func NewContext(id Identity) Context {
	var o object
	o.addText("user", id.UserID)
	o.addText("project_id", id.ProjectID)
	o.addText("system_scope", id.SystemScope)
	o.addText("project", id.ProjectID)
	o.addText("domain", id.DomainID)
	o.addText("user_domain", id.UserDomainID)
	o.addText("project_domain", id.ProjectDomainID)
	c := Context{o}
	roles := id.Roles
	if roles == nil {
		roles = []string{}
	}
	for _, f := range []struct {
		key   string
		value any
	}{
		{"is_admin", id.IsAdmin},
		{"read_only", false},
		{"show_deleted", false},
		{keyToken, nil},
		{"request_id", orNil(id.RequestID)},
		{"global_request_id", orNil(id.GlobalRequestID)},
		{"resource_uuid", orNil(id.ResourceUUID)},
		{"roles", roles},
		{"user_identity", userIdentity(id)},
		{"is_admin_project", true},
	} {
		// bool, string and []string always encode
		c, _ = c.With(f.key, f.value)
	}
	return c
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func userIdentity(id Identity) string {
	parts := []string{id.UserID, id.ProjectID, id.DomainID, id.UserDomainID, id.ProjectDomainID}
	for i, p := range parts {
		if p == "" {
			parts[i] = "-"
		}
	}
	return strings.Join(parts, " ")
}

// Identity reads the known keys; one that is missing, null or of another type
// gives its zero value.
func (c Context) Identity() Identity {
	first := func(keys ...string) string {
		for _, k := range keys {
			if s := c.fields.text(k); s != "" {
				return s
			}
		}
		return ""
	}
	id := Identity{
		UserID:          first("user_id", "user"),
		ProjectID:       first("project_id", "project", "tenant"),
		DomainID:        first("domain_id", "domain"),
		UserDomainID:    first("user_domain_id", "user_domain"),
		ProjectDomainID: first("project_domain_id", "project_domain"),
		SystemScope:     first("system_scope"),
		RequestID:       first("request_id"),
		GlobalRequestID: first("global_request_id"),
		ResourceUUID:    first("resource_uuid"),
	}
	c.get("roles", &id.Roles)
	c.get("is_admin", &id.IsAdmin)
	return id
}

func (c Context) get(key string, v any) bool {
	raw := c.fields.get(key)
	return !isNull(raw) && json.Unmarshal(raw, v) == nil
}

// Get returns one key's JSON, without oslo's prefix _context_; nil if missing.
func (c Context) Get(key string) json.RawMessage { return c.fields.get(key) }

// With returns a copy with key set to the JSON of v.
func (c Context) With(key string, v any) (Context, error) {
	raw, err := marshal(v)
	if err != nil {
		return c, fmt.Errorf("context key %s: %w", key, err)
	}
	return Context{c.fields.put(key, raw)}, nil
}

// WithoutToken returns a copy whose token is null.
func (c Context) WithoutToken() Context {
	if isNull(c.fields.get(keyToken)) {
		return c
	}
	return Context{c.fields.put(keyToken, json.RawMessage("null"))}
}

// String tells whose context it is; never its token.
func (c Context) String() string {
	id := c.Identity()
	return fmt.Sprintf("%s user=%s project=%s", id.RequestID, id.UserID, id.ProjectID)
}

// GoString is [Context.String], so that %#v shows no token either.
func (c Context) GoString() string { return "rpc.Context{" + c.String() + "}" }

// MarshalJSON gives the string of [Context.String], for logs.
func (c Context) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// split takes the context's keys out of a message.
func (o object) split() (Context, object) {
	var c Context
	var rest object
	for _, m := range o {
		if k, ok := strings.CutPrefix(m.key, contextPrefix); ok {
			c.fields = append(c.fields, member{k, m.value})
		} else {
			rest = append(rest, m)
		}
	}
	return c, rest
}

func (o *object) addContext(c Context) {
	for _, m := range c.fields {
		*o = append(*o, member{contextPrefix + m.key, m.value})
	}
}
