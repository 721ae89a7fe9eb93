// Package view makes the JSON of the Block Storage API out of the model's rows: which
// fields there are at which microversion, for whom, and in which form.
package view

import (
	"time"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/db/model"
)

// Object is a JSON object.
type Object = map[string]any

// Context is what the form of an answer depends on, beside the rows.
type Context struct {
	Base     string // http://host:8776, for links
	Project  string // in the URL of the request, "" if there was none
	Version  microversion.Version
	Identity keystone.Identity
	Backend  model.Backend    // whose nodes volumes are shown on
	Rules    *policy.Enforcer // which fields are shown; nil: Cinder's defaults
}

// allowed tells whether a field under a rule is shown.
func (c Context) allowed(rule, project string) bool {
	return c.Rules.Allowed(c.Identity, rule, policy.Target{ProjectID: project})
}

// Link is one of a resource's links.
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// Links of a resource: self and, without the version, bookmark. They have a project if
// the request had one.
func (c Context) Links(collection, id string) []Link {
	project, slash := c.Project, "/"
	if project == "" {
		slash = ""
	}
	// In one piece each: a list has thousands of them.
	return []Link{
		{"self", c.Base + "/v3" + slash + project + "/" + collection + "/" + id},
		{"bookmark", c.Base + slash + project + "/" + collection + "/" + id},
	}
}

// timeLayout: UTC, microseconds, no zone. gophercloud fails on a zone.
const timeLayout = "2006-01-02T15:04:05.000000"

// Time in the form of the API.
func Time(t time.Time) string { return t.UTC().Format(timeLayout) }

// TimeOrNil is null for no time.
func TimeOrNil(t *time.Time) any {
	if t == nil || t.IsZero() {
		return nil
	}
	return Time(*t)
}

// timeOrNull is TimeOrNil for a field that is never anything else.
func timeOrNull(t *time.Time) *string {
	if t == nil || t.IsZero() {
		return nil
	}
	s := Time(*t)
	return &s
}

// timeOrEmpty is "" for no time, as attachments have it.
func timeOrEmpty(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return Time(*t)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orNil is null for nil, else the value.
func orNil[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}
