// Package policy decides who may do what. For now the rules are Cinder's defaults;
// an engine that reads policy.yaml is to take the place of [Check], nothing else.
package policy

import (
	"github.com/vmthunder/vmthunder/api/keystone"
)

// Target is what a rule is checked against.
type Target struct {
	ProjectID string // owner of the resource; of a new resource the caller's project
	UserID    string
}

// Denied is the error of [Check].
type Denied struct{ Rule string }

// Error is the message that Cinder shows.
func (d *Denied) Error() string {
	return "Policy doesn't allow " + d.Rule + " to be performed."
}

// Check returns nil or a *[Denied]. Rules have the names of Cinder's. Unknown ones are denied.
//
// Cinder's new defaults ask for role member or reader in the project; its deprecated rule
// admin_or_owner, which any role in the project satisfies, is OR-ed to them
// (enforce_new_defaults = false, the default of Zed). So only the project counts here.
func Check(id keystone.Identity, rule string, target Target) error {
	switch defaultRule(rule) {
	case member, reader:
		if id.Admin || id.ProjectID != "" && id.ProjectID == target.ProjectID {
			return nil
		}
	case admin:
		if id.Admin {
			return nil
		}
	case unknown:
	}
	return &Denied{Rule: rule}
}

// Allowed is Check as a condition, for fields that are shown to some.
func Allowed(id keystone.Identity, rule string, target Target) bool {
	return Check(id, rule, target) == nil
}
