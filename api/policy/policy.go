// Package policy decides who may do what, by oslo.policy's rules: Cinder's defaults, and
// what an operator's policy.yaml says instead.
package policy

import (
	"sync"

	"github.com/vmthunder/vmthunder/api/keystone"
)

// Target is what a rule is checked against.
type Target struct {
	ProjectID string // owner of the resource; of a new resource the caller's project
	UserID    string // who made it; "" where that is not kept
}

// Denied is the error of [Enforcer.Check].
type Denied struct{ Rule string }

// Error is the message that Cinder shows.
func (d *Denied) Error() string {
	return "Policy doesn't allow " + d.Rule + " to be performed."
}

// Enforcer holds the rules that are in force. It does not change, so it is safe for
// concurrent use. A nil one has Cinder's defaults.
type Enforcer struct{ rules map[string]check }

// Options of [New].
type Options struct {
	// NewDefaults: role member or reader is needed, as Cinder's newer rules say; off, any
	// role in the project will do, as before (enforce_new_defaults).
	NewDefaults bool
	// Overrides take the place of defaults; see [Load].
	Overrides []Override
}

// Override is a rule of an operator's file.
type Override struct {
	Name  string
	Check string
	Where string // file and line, for errors
}

// defaults are compiled once; they never change.
var defaults = sync.OnceValue(func() *Enforcer {
	e, err := New(Options{})
	if err != nil {
		panic(err) // a test compiles them
	}
	return e
})

// Check returns nil or a *[Denied]. Rules have the names of Cinder's. Unknown ones are denied.
func (e *Enforcer) Check(id keystone.Identity, rule string, target Target) error {
	if e.Allowed(id, rule, target) {
		return nil
	}
	return &Denied{Rule: rule}
}

// Allowed is Check as a condition, for fields that are shown to some.
func (e *Enforcer) Allowed(id keystone.Identity, rule string, target Target) bool {
	if e == nil {
		e = defaults()
	}
	c, ok := e.rules[rule]
	return ok && c(&subject{who: id, target: target, rules: e.rules})
}

// Admin tells whether somebody is an administrator, who sees all projects (rule
// context_is_admin).
func (e *Enforcer) Admin(id keystone.Identity) bool {
	return e.Allowed(id, "context_is_admin", Target{ProjectID: id.ProjectID, UserID: id.UserID})
}
