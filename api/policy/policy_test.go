package policy_test

import (
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
)

func TestCheck(t *testing.T) {
	admin := keystone.Identity{ProjectID: "p0", Admin: true}
	owner := keystone.Identity{ProjectID: "p1", Roles: []string{"member"}}
	nobody := keystone.Identity{}
	for _, c := range []struct {
		who  keystone.Identity
		rule string
		of   string
		ok   bool
	}{
		{admin, "volume:get", "p1", true}, {owner, "volume:get", "p1", true}, {owner, "volume:get", "p2", false},
		{owner, "volume:delete", "p1", true}, {owner, "volume:delete", "p2", false}, {nobody, "volume:get", "", false},
		{admin, "volume:force_delete", "p1", true}, {owner, "volume:force_delete", "p1", false},
		{owner, "vmthunder:images", "p1", false}, {admin, "vmthunder:images", "", true},
		{admin, "volume:no_such_rule", "p0", false}, {owner, "", "p1", false},
	} {
		err := (*policy.Enforcer)(nil).Check(c.who, c.rule, policy.Target{ProjectID: c.of})
		var denied *policy.Denied
		if (err == nil) != c.ok || err != nil && (!errors.As(err, &denied) || err.Error() != "Policy doesn't allow "+c.rule+" to be performed.") {
			t.Errorf("%v %s on %s: %v", c.who, c.rule, c.of, err)
		}
	}
}
