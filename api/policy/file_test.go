package policy_test

import (
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
)

func enforcer(t *testing.T, file string) *policy.Enforcer {
	t.Helper()
	o, err := policy.Read([]byte(file), "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.New(policy.Options{Overrides: o})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOverrides(t *testing.T) {
	const a = "aaaa"
	admin := keystone.Identity{UserID: "root", ProjectID: a, Roles: []string{"admin"}, Admin: true}
	boss := keystone.Identity{UserID: "boss", ProjectID: a, Roles: []string{"Boss", "member"}}
	maker := keystone.Identity{UserID: "maker", ProjectID: a, Roles: []string{"member"}}
	other := keystone.Identity{UserID: "other", ProjectID: a, Roles: []string{"member"}, UserDomainID: "d1"}
	for _, c := range []struct {
		name, file, rule          string
		admin, boss, maker, other bool
	}{
		{"default", "", "volume:delete", true, true, true, true},
		{"empty file", "# nothing\n", "volume:delete", true, true, true, true},
		{"null", "null", "volume:delete", true, true, true, true},
		{"nobody", `"volume:delete": "!"`, "volume:delete", false, false, false, false},
		{"everybody", `"volume:force_delete": ""`, "volume:force_delete", true, true, true, true},
		{"role, whatever its case", `"volume:delete": "role:boss"`, "volume:delete", false, true, false, false},
		{"who made it", `"volume:delete": "user_id:%(user_id)s or is_admin:True"`, "volume:delete", true, false, true, false},
		{"not", `"volume:delete": "not role:boss"`, "volume:delete", true, false, true, true},
		{"not not", `"volume:delete": "not not role:boss"`, "volume:delete", false, true, false, false},
		{"and binds more than or", `"volume:delete": "role:nobody and role:member or role:boss"`, "volume:delete", false, true, false, false},
		{"parentheses", `"volume:delete": "role:member and (role:boss or user_id:other)"`, "volume:delete", false, true, false, true},
		{"a rule of one's own", "bosses: role:boss\n\"volume:delete\": rule:bosses", "volume:delete", false, true, false, false},
		{"domain", `"volume:delete": "user_domain_id:d1"`, "volume:delete", false, false, false, true},
		{"literal", `"volume:delete": "'maker':%(user_id)s"`, "volume:delete", true, true, true, true},
		{"other rules stay", `"volume:delete": "!"`, "volume:get", true, true, true, true},
		{"alias changes what refers to it", `"admin_api": "role:boss"`, "volume:force_delete", false, true, false, false},
		{"older name", `"volume_extension:types_manage": "role:boss"`, "volume_extension:type_create", false, true, false, false},
		{"newer name wins", "\"volume_extension:types_manage\": role:boss\n\"volume_extension:type_create\": user_id:other",
			"volume_extension:type_create", false, false, false, true},
		{"older name that points to the newer", `"volume_extension:types_manage": "rule:volume_extension:type_create"`,
			"volume_extension:type_create", true, false, false, false},
		{"lists", `"volume:delete": [["role:member", "role:boss"], ["user_id:other"]]`, "volume:delete", false, true, false, true},
		{"empty list", `"volume:delete": []`, "volume:delete", true, true, true, true},
		{"JSON", `{"volume:delete": "role:boss"}`, "volume:delete", false, true, false, false},
		{"folded", "\"volume:delete\": >-\n  role:boss or\n  user_id:other\n", "volume:delete", false, true, false, true},
	} {
		e := enforcer(t, c.file)
		for _, who := range []struct {
			id   keystone.Identity
			want bool
		}{{admin, c.admin}, {boss, c.boss}, {maker, c.maker}, {other, c.other}} {
			if got := e.Allowed(who.id, c.rule, policy.Target{ProjectID: a, UserID: "maker"}); got != who.want {
				t.Errorf("%s: %s may %s: %v", c.name, who.id.UserID, c.rule, got)
			}
		}
	}
}

func TestContextIsAdmin(t *testing.T) {
	e := enforcer(t, "context_is_admin: role:cloud_admin or system_scope:all")
	for role, want := range map[string]bool{"admin": false, "cloud_admin": true} {
		if e.Admin(keystone.Identity{Roles: []string{role}}) != want {
			t.Errorf("%s: not %v", role, want)
		}
	}
	if !e.Admin(keystone.Identity{SystemScope: "all"}) {
		t.Error("a token of the system is no administrator's")
	}
}

// TestBadFiles: what is wrong is said with its line.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"\n\"volume:delete\": role:admin or", `policy.yaml:2: rule "volume:delete": it ends where a check is expected`},
		{`"volume:delete": "admin"`, `policy.yaml:1: rule "volume:delete": "admin" is no check`},
		{`"volume:delete": "(role:admin"`, `a parenthesis is not closed`},
		{`"volume:delete": "role:admin)"`, `")" is not expected there`},
		{`"volume:delete": "role:admin role:member"`, `"role:member" is not expected there`},
		{`"volume:delete": "or role:admin"`, `"or" stands where a check is expected`},
		{`"volume:delete": "not"`, `it ends where`},
		{`"volume:delete": "project:%(project_id)s"`, `nobody has an attribute project; there are role, rule, user_id, project_id`},
		{`"volume:delete": "project_id:%(project)s"`, `a target has no attribute project; there are project_id and user_id`},
		{`"volume:delete": "project_id:%(project_id"`, `is not of the form %(name)s`},
		{`"volume:delete": "http://policy.example/"`, `checks by HTTP are not supported`},
		{`"volume:delete": "rule:bosses"`, `refers to rule "bosses", which is not there`},
		{"# a\n\"volume:delte\": \"!\"", `policy.yaml:2: there is no rule "volume:delte", and no other rule refers to it`},
		{"a: rule:b\nb: rule:a\n\"volume:delete\": rule:a", `policy.yaml:1: rule "a" goes round in a circle: a → b → a`},
		{`"admin_or_owner": "rule:volume:delete"`, `goes round in a circle`},
		{`"volume_extension:types_manage": "not rule:volume_extension:type_create"`, `goes round in a circle`},
		{"\"volume:delete\": \"!\"\n\"volume:get\": \"!\"\n\"volume:delete\": \"@\"", `policy.yaml:3: rule "volume:delete" is there already, at policy.yaml:1`},
		{`"volume:delete": true`, `policy.yaml:1: rule "volume:delete": its value is neither a string nor a list`},
		{`"volume:delete": {a: b}`, `its value is neither`},
		{`"volume:delete": [[[x]]]`, `something else than strings`},
		{"- a\n", `policy.yaml:1: it is no map of rules`},
		{"a: b: c", `policy.yaml: yaml: `},
		{"\x00", `policy.yaml: yaml: `},
	} {
		o, err := policy.Read([]byte(c.file), "policy.yaml")
		if err == nil {
			_, err = policy.New(policy.Options{Overrides: o})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.file, err, c.want)
		}
	}
}

// FuzzFile: whatever a file holds, it is refused or it can be asked.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		`"volume:delete": "role:boss and (user_id:%(user_id)s or not rule:admin_api)"`, "a: rule:b\nb: rule:a",
		`"volume:delete": [["role:member"], []]`, `{"volume:delete": "@"}`, "&a a: *a", `"volume_extension:types_manage": "!"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := policy.Read(b, "f")
		if err != nil {
			return
		}
		e, err := policy.New(policy.Options{Overrides: o})
		if err != nil {
			return
		}
		for _, r := range policy.Rules() {
			_ = e.Check(keystone.Identity{ProjectID: "a"}, r.Name, policy.Target{ProjectID: "a"})
		}
	})
}
