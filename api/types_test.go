package api_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
)

// kind makes a volume type as administrator and returns its id.
func (w *world) kind(body string) string {
	w.t.Helper()
	id, _ := w.want(w.do("admin", "POST", "/types", `{"volume_type":`+body+`}`), 200)["id"].(string)
	return id
}

// names of the things in a list.
func (w *world) names(a answer, key string) string {
	w.t.Helper()
	w.want(a, 200)
	list, ok := a.body[key].([]any)
	if !ok {
		w.t.Fatalf("no list %s: %s", key, a.raw)
	}
	var out []string
	for _, x := range list {
		m, _ := x.(map[string]any)
		out = append(out, fmt.Sprint(m["name"]))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestTypeBodies: what Cinder 21.3.1's own schemas say of the same bodies.
func TestTypeBodies(t *testing.T) {
	w := newWorld(t)
	id := w.kind(`{"name":"gold"}`)
	long := strings.Repeat("a", 256)
	const flags = "[True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', 'y', 't', " +
		"False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no', 'n', 'f']"
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/types", `{}`, "'volume_type' is a required property"},
		{"POST", "/types", `{"volume_type":{}}`, "Invalid input for field/attribute volume_type. Value: {}. 'name' is a required property"},
		{"POST", "/types", `{"volume_type":null}`, "Invalid input for field/attribute volume_type. Value: None. None is not of type 'object'"},
		{"POST", "/types", `{"volume_type":{"name":""}}`, "Invalid input for field/attribute name. Value: . '' is too short"},
		{"POST", "/types", `{"volume_type":{"name":" "}}`, "An invalid 'name' value was provided. The 'name' can not be empty."},
		{"POST", "/types", `{"volume_type":{"name":null}}`, "Invalid input for field/attribute name. Value: None. None is not of type 'string'"},
		{"POST", "/types", `{"volume_type":{"name":1}}`, "Invalid input for field/attribute name. Value: 1. 1 is not of type 'string'"},
		{"POST", "/types", `{"volume_type":{"name":"` + long + `"}}`, "Invalid input for field/attribute name. Value: " + long + ". '" + long + "' is too long"},
		{"POST", "/types", `{"volume_type":{"name":"a","description":1}}`, "Invalid input for field/attribute description. Value: 1. 1 is not of type 'string', 'null'"},
		{"POST", "/types", `{"volume_type":{"name":"a","description":"\u0001"}}`, "Invalid input for field/attribute description. Value: \x01. '\\x01' has characters that can't be printed"},
		{"POST", "/types", `{"volume_type":{"name":"a","extra_specs":null}}`, "Invalid input for field/attribute extra_specs. Value: None. None is not of type 'object'"},
		{"POST", "/types", `{"volume_type":{"name":"a","extra_specs":{"a":1}}}`, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string', 'null'"},
		{
			"POST", "/types", `{"volume_type":{"name":"a","extra_specs":{"é":"1","ö":"2"}}}`,
			"Invalid input for field/attribute extra_specs. Value: {'é': '1', 'ö': '2'}. 'é', 'ö' do not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'",
		},
		{
			"POST", "/types", `{"volume_type":{"name":"a","os-volume-type-access:is_public":null}}`,
			"Invalid input for field/attribute os-volume-type-access:is_public. Value: None. None is not of type 'boolean', 'string'",
		},
		{
			"POST", "/types", `{"volume_type":{"name":"a","os-volume-type-access:is_public":"tRue"}}`,
			"Invalid input for field/attribute os-volume-type-access:is_public. Value: tRue. 'tRue' is not one of " + flags,
		},
		{
			"POST", "/types", `{"volume_type":{"name":"a","os-volume-type-access:is_public":1}}`,
			"Invalid input for field/attribute os-volume-type-access:is_public. Value: 1. 1 is not of type 'boolean', 'string'",
		},
		{"POST", "/types", `{"volume_type":{"name":"a","x":1}}`, "Invalid input for field/attribute volume_type. Value: {'name': 'a', 'x': 1}. Additional properties are not allowed ('x' was unexpected)"},
		{"POST", "/types", `{"volume_type":{"name":"a"},"y":1}`, "Additional properties are not allowed ('y' was unexpected)"},
		{"PUT", "/types/" + id, `{"volume_type":{}}`, "Specify volume type name, description, is_public or a combination thereof."},
		{"PUT", "/types/" + id, `{"volume_type":{"name":""}}`, "Invalid input for field/attribute name. Value: . '' is too short"},
		{"PUT", "/types/" + id, `{"volume_type":{"name":" "}}`, "Volume type name can not be empty."},
		{"PUT", "/types/" + id, `{"volume_type":{"is_public":"x"}}`, "Invalid input for field/attribute is_public. Value: x. 'x' is not one of " + flags},
		{"POST", "/types/" + id + "/extra_specs", `{}`, "'extra_specs' is a required property"},
		{"POST", "/types/" + id + "/extra_specs", `{"extra_specs":[]}`, "Invalid input for field/attribute extra_specs. Value: []. [] is not of type 'object'"},
		{
			"POST", "/types/" + id + "/extra_specs", `{"extra_specs":{"a b":"c"}}`,
			"Invalid input for field/attribute extra_specs. Value: {'a b': 'c'}. 'a b' does not match any of the regexes: '^[a-zA-Z0-9-_:.]{1,255}$'",
		},
		{"POST", "/types/" + id + "/extra_specs", `{"extra_specs":{"a":{}}}`, "Invalid input for field/attribute a. Value: {}. {} is not of type 'string', 'null'"},
		{"PUT", "/types/" + id + "/extra_specs/a", `{}`, "{} does not have enough properties"},
		{"PUT", "/types/" + id + "/extra_specs/a", `{"a":"b","c":"d"}`, "{'a': 'b', 'c': 'd'} has too many properties"},
		{"PUT", "/types/" + id + "/extra_specs/a", `{"a b":"c"}`, "'a b' does not match any of the regexes: '^[a-zA-Z0-9-_:.]{1,255}$'"},
		{"PUT", "/types/" + id + "/extra_specs/a", `{"a":1}`, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string', 'null'"},
		{"PUT", "/types/" + id + "/extra_specs/a", `{"b":"c"}`, "Request body and URI mismatch"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{}}`, "Invalid input for field/attribute encryption. Value: {}. 'provider' is a required property"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"middle"}}`, "Invalid input for field/attribute control_location. Value: middle. 'middle' is not one of ['front-end', 'back-end']"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":null}}`, "Invalid input for field/attribute control_location. Value: None. None is not one of ['front-end', 'back-end']"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":null,"control_location":"front-end"}}`, "Invalid input for field/attribute provider. Value: None. None is not of type 'string'"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","key_size":"x"}}`, "Invalid input received: key_size must be an integer."},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","key_size":"-1"}}`, "Invalid input for field/attribute key_size. Value: -1. -1 is less than the minimum of 0"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","key_size":99999999999}}`, "Invalid input for field/attribute key_size. Value: 99999999999. 99999999999 is greater than the maximum of 2147483647"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","key_size":1.5}}`, "Invalid input for field/attribute key_size. Value: 1.5. 1.5 is not of type 'string', 'integer', 'null'"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","cipher":1}}`, "Invalid input for field/attribute cipher. Value: 1. 1 is not of type 'string', 'null'"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":{}}`, "Invalid input for field/attribute addProjectAccess. Value: {}. 'project' is a required property"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":{"project":"x"}}`, "Invalid input for field/attribute project. Value: x. 'x' is not a 'uuid'"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":{"project":1}}`, "Invalid input for field/attribute project. Value: 1. 1 is not of type 'string'"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":null}`, "Invalid input for field/attribute addProjectAccess. Value: None. None is not of type 'object'"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":{"project":"` + projectB + `"}}`, "Invalid volume type: Type access modification is not applicable to public volume type."},
		{"POST", "/types/" + id + "/action", `{"giveAccess":{}}`, "There is no such action: giveAccess. Verify the request body and Content-Type header and try again."},
		{"PUT", "/default-types/" + projectB, `{"default_type":{}}`, "Invalid input for field/attribute default_type. Value: {}. 'volume_type' is a required property"},
		{"PUT", "/default-types/" + projectB, `{"default_type":{"volume_type":" "}}`, "An invalid 'name' value was provided. The 'name' can not be empty."},
		{"PUT", "/default-types/" + projectB, `{"default_type":{"volume_type":"nope"}}`, "Volume type with name nope could not be found."},
		{"PUT", "/default-types/" + projectB, `{"default_type":{"volume_type":"` + uuid.Nil.String() + `"}}`, "Volume type " + uuid.Nil.String() + " could not be found."},
	} {
		m := w.want(w.do("admin", c.method, c.path, c.body), 400)
		if m["message"] != c.want {
			t.Errorf("%s %s %s:\n got %s\nwant %s", c.method, c.path, c.body, m["message"], c.want)
		}
	}
	if got := w.names(w.do("admin", "GET", "/types", ""), "volume_types"); got != "__DEFAULT__ gold" {
		t.Errorf("a refused body made a type: %s", got)
	}
}

func TestTypeLists(t *testing.T) {
	w := newWorld(t)
	w.kind(`{"name":"gold","extra_specs":{"k":"v","multiattach":"<is> True","RESKEY:availability_zones":"nova,far"}}`)
	priv := w.kind(`{"name":"priv","os-volume-type-access:is_public":false}`)
	mine := w.kind(`{"name":"mine","os-volume-type-access:is_public":"False"}`)
	for id, project := range map[string]string{priv: projectB, mine: projectA} {
		w.want(w.do("admin", "POST", "/types/"+id+"/action", `{"addProjectAccess":{"project":"`+project+`"}}`), 202)
	}
	for _, c := range []struct{ token, mv, query, want string }{
		{"admin", "3.70", "", "__DEFAULT__ gold mine"},
		{"admin", "3.70", "is_public=True", "__DEFAULT__ gold mine"},
		{"admin", "3.70", "is_public=nOnE", "__DEFAULT__ gold mine priv"},
		{"admin", "3.70", "is_public=0", "mine priv"},
		{"system", "3.70", "", "__DEFAULT__ gold"},
		{"alice", "3.70", "", "__DEFAULT__ gold mine"},
		{"alice", "3.70", "is_public=None", "__DEFAULT__ gold mine"},
		{"alice", "3.70", "is_public=False", "__DEFAULT__ gold mine"},
		{"bob", "3.70", "", "__DEFAULT__ gold priv"},
		{"admin", "3.0", "name=gold", "gold"},
		{"admin", "3.70", "nonsense=1", ""},
		{"alice", "3.51", "nonsense=1&name=gold", "__DEFAULT__ gold mine"},
		{"admin", "3.0", `extra_specs={"k":"v"}`, "gold"},
		{"admin", "3.70", `extra_specs={'k': 'w'}`, ""},
		{"alice", "3.51", `extra_specs={"multiattach":"no"}`, "__DEFAULT__ gold mine"},
		{"alice", "3.52", `extra_specs={"multiattach":"<is> True"}`, "gold"},
		{"alice", "3.52", `extra_specs={"RESKEY:availability_zones":"far"}`, "gold"},
		{"alice", "3.52", `extra_specs={"RESKEY:availability_zones":"near"}`, ""},
		{"alice", "3.52", `extra_specs={"k":"v"}`, ""}, // not for everybody to know
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		a := w.do(c.token, "GET", "/types?"+q.Encode(), "", "OpenStack-API-Version", "volume "+c.mv)
		if got := w.names(a, "volume_types"); got != c.want {
			t.Errorf("%s at %s, %s: %q, want %q", c.token, c.mv, c.query, got, c.want)
		}
	}
	w.refused(w.do("alice", "GET", "/types?name=gold", ""), 400, "Invalid filters name are found in query options.")
	w.refused(w.do("admin", "GET", "/types?is_public=perhaps", ""), 400, "Invalid is_public filter [perhaps]")
	if got := w.names(w.do("admin", "GET", "/types?extra_specs=x", ""), "volume_types"); got != "" { // Cinder fails
		t.Errorf("of no dictionary: %s", got)
	}
	w.refused(w.do("alice", "GET", "/types/"+priv, ""), 404, "Volume type "+priv+" could not be found.")
	w.refused(w.do("alice", "GET", "/types/gold", ""), 404, "Volume type gold could not be found.")
	a := w.do("admin", "GET", "/types?limit=2&sort=name:asc", "")
	if got := w.names(a, "volume_types"); got != "__DEFAULT__ gold" || !strings.Contains(string(a.raw), `"volume_type_links"`) {
		t.Errorf("a page: %s", a.raw)
	}
}

func TestSpecsAreForSome(t *testing.T) {
	w := newWorld(t)
	id := w.kind(`{"name":"gold","extra_specs":{"k":"v","multiattach":"<is> True"}}`)
	for token, want := range map[string]string{"admin": `{"k":"v","multiattach":"\u003cis\u003e True"}`, "alice": `{"multiattach":"\u003cis\u003e True"}`} {
		for _, path := range []string{"/types/" + id, "/types/" + id + "/extra_specs"} {
			if a := w.do(token, "GET", path, ""); a.status != 200 || !strings.Contains(string(a.raw), `"extra_specs":`+want) {
				t.Errorf("%s for %s: %s", path, token, a.raw)
			}
		}
	}
	w.want(w.do("admin", "GET", "/types/"+id+"/extra_specs/k", ""), 200)
	w.refused(w.do("alice", "GET", "/types/"+id+"/extra_specs/k", ""), 404, "has no extra specs with key k")
	if a := w.do("alice", "GET", "/types/"+id, ""); strings.Contains(string(a.raw), "qos_specs_id") || !strings.Contains(string(a.raw), `"os-volume-type-access:is_public":true`) {
		t.Errorf("fields for alice: %s", a.raw)
	}
	w.refused(w.do("admin", "POST", "/types/"+id+"/extra_specs", `{"extra_specs":{"cacheable":"<is> True"}}`), 400, "cacheable cannot be set with multiattach.")
	w.refused(w.do("admin", "PUT", "/types/"+id+"/extra_specs/cacheable", `{"cacheable":"<is> True"}`), 400, "cacheable cannot be set with multiattach.")
	w.want(w.do("admin", "POST", "/types/"+id+"/extra_specs", `{"extra_specs":{"x":null}}`), 200)
}

func TestTypeInUse(t *testing.T) {
	w := newWorld(t)
	id := w.kind(`{"name":"gold","extra_specs":{"k":"v"}}`)
	w.volume("alice", `{"volume":{"size":1,"volume_type":"gold"}}`)
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/extra_specs", `{"extra_specs":{"a":"b"}}`, "Volume Type is currently in use."},
		{"PUT", "/extra_specs/k", `{"k":"w"}`, "Volume Type is currently in use."},
		{"DELETE", "/extra_specs/k", "", "Volume Type is currently in use."},
		{"DELETE", "", "", "Target volume type is still in use."},
		{"POST", "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end"}}`, "Cannot create encryption specs. Volume type in use."},
		{"PUT", "/encryption/x", `{"encryption":{}}`, "Cannot update encryption specs. Volume type in use."},
		{"DELETE", "/encryption/x", "", "Cannot delete encryption specs. Volume type in use."},
	} {
		w.refused(w.do("admin", c.method, "/types/"+id+c.path, c.body), 400, c.want)
	}
	// What does not change what its volumes are can be changed.
	w.want(w.do("admin", "PUT", "/types/"+id, `{"volume_type":{"name":"silver","is_public":false}}`), 200)
}

func TestTypeRights(t *testing.T) {
	w := newWorld(t)
	id := w.kind(`{"name":"gold","extra_specs":{"k":"v"}}`)
	for _, c := range []struct{ method, path, body, rule string }{
		{"POST", "/types", `{"volume_type":{"name":"a"}}`, "volume_extension:type_create"},
		{"PUT", "/types/" + id, `{"volume_type":{"name":"a"}}`, "volume_extension:type_update"},
		{"DELETE", "/types/" + id, "", "volume_extension:type_delete"},
		{"POST", "/types/" + id + "/extra_specs", `{"extra_specs":{}}`, "volume_extension:types_extra_specs:create"},
		{"PUT", "/types/" + id + "/extra_specs/k", `{"k":"w"}`, "volume_extension:types_extra_specs:update"},
		{"DELETE", "/types/" + id + "/extra_specs/k", "", "volume_extension:types_extra_specs:delete"},
		{"GET", "/types/" + id + "/os-volume-type-access", "", "volume_extension:volume_type_access:get_all_for_type"},
		{"POST", "/types/" + id + "/action", `{"addProjectAccess":{"project":"` + projectA + `"}}`, "volume_extension:volume_type_access:addProjectAccess"},
		{"POST", "/types/" + id + "/action", `{"removeProjectAccess":{"project":"` + projectA + `"}}`, "volume_extension:volume_type_access:removeProjectAccess"},
		{"GET", "/types/" + id + "/encryption", "", "volume_extension:volume_type_encryption:get"},
		{"GET", "/types/" + id + "/encryption/cipher", "", "volume_extension:volume_type_encryption:get"},
		{"POST", "/types/" + id + "/encryption", `{"encryption":{"provider":"luks","control_location":"front-end"}}`, "volume_extension:volume_type_encryption:create"},
		{"PUT", "/types/" + id + "/encryption/x", `{"encryption":{}}`, "volume_extension:volume_type_encryption:update"},
		{"DELETE", "/types/" + id + "/encryption/x", "", "volume_extension:volume_type_encryption:delete"},
		{"GET", "/qos-specs", "", "volume_extension:qos_specs_manage:get_all"},
		{"POST", "/qos-specs", `{"qos_specs":{"name":"a"}}`, "volume_extension:qos_specs_manage:create"},
		{"GET", "/qos-specs/" + id, "", "volume_extension:qos_specs_manage:get"},
		{"PUT", "/qos-specs/" + id, `{"qos_specs":{}}`, "volume_extension:qos_specs_manage:update"},
		{"DELETE", "/qos-specs/" + id, "", "volume_extension:qos_specs_manage:delete"},
		{"PUT", "/qos-specs/" + id + "/delete_keys", `{"keys":[]}`, "volume_extension:qos_specs_manage:delete"},
		{"GET", "/qos-specs/" + id + "/associations", "", "volume_extension:qos_specs_manage:get_all"},
		{"GET", "/qos-specs/" + id + "/associate", "", "volume_extension:qos_specs_manage:update"},
		{"GET", "/qos-specs/" + id + "/disassociate", "", "volume_extension:qos_specs_manage:update"},
		{"GET", "/qos-specs/" + id + "/disassociate_all", "", "volume_extension:qos_specs_manage:update"},
	} {
		w.refused(w.do("alice", c.method, c.path, c.body), 403, "Policy doesn't allow "+c.rule+" to be performed.")
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/default-types", ""},
		{"GET", "/default-types/" + projectA, ""},
		{"PUT", "/default-types/" + projectA, `{"default_type":{"volume_type":"gold"}}`},
		{"DELETE", "/default-types/" + projectA, ""},
	} {
		w.refused(w.do("alice", c.method, c.path, c.body), 403, "You are not authorized to perform this operation.")
	}
}

func TestDefaultTypes(t *testing.T) {
	w := newWorld(t)
	gold := w.kind(`{"name":"gold","os-volume-type-access:is_public":false}`)
	is := func(token, want string) {
		t.Helper()
		if got := w.want(w.do(token, "GET", "/types/default", ""), 200)["name"]; got != want {
			t.Errorf("default type of %s is %v, want %s", token, got, want)
		}
		v := w.want(w.do(token, "POST", "/volumes", `{"volume":{"size":1}}`), 202)
		if v["volume_type"] != want {
			t.Errorf("a volume of %s has type %v, want %s", token, v["volume_type"], want)
		}
	}
	is("bob", "__DEFAULT__")
	w.refused(w.do("admin", "GET", "/default-types/"+projectB, ""), 404, "Default type for project "+projectB+" not found.")
	w.want(w.do("admin", "PUT", "/default-types/"+projectB, `{"default_type":{"volume_type":"gold"}}`), 200)
	// A type that the project may not see is no default for it.
	w.refused(w.do("bob", "GET", "/types/default", ""), 404, "Volume type "+gold+" could not be found.")
	w.refused(w.do("bob", "POST", "/volumes", `{"volume":{"size":1}}`), 404, "Volume type "+gold+" could not be found.")
	w.want(w.do("admin", "POST", "/types/"+gold+"/action", `{"addProjectAccess":{"project":"`+projectB+`"}}`), 202)
	is("bob", "gold")
	is("alice", "__DEFAULT__")
	if d := w.want(w.do("admin", "GET", "/default-types/"+projectB, ""), 200); d["volume_type_id"] != gold || d["project_id"] != projectB {
		t.Errorf("%v", d)
	}
	a := w.do("admin", "GET", "/default-types", "")
	if list, _ := w.want(a, 200)["default_types"].([]any); len(list) != 1 {
		t.Errorf("%s", a.raw)
	}
	w.store.Do(func(s *v3test.Store) { s.VolumeRows = nil })
	w.refused(w.do("admin", "DELETE", "/types/"+gold, ""), 400, "The volume type "+gold+" is a default volume type and cannot be deleted.")
	for range 2 { // nothing to unset is fine as well
		if a := w.do("admin", "DELETE", "/default-types/"+projectB, ""); a.status != 204 || len(a.raw) != 0 {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}
	is("bob", "__DEFAULT__")
	for _, mv := range []string{"3.61", "3.0"} {
		w.refused(w.do("admin", "GET", "/default-types", "", "OpenStack-API-Version", "volume "+mv), 404, "The resource could not be found.")
	}
	w.store.Do(func(s *v3test.Store) { s.VolumeRows = nil })
	id, _ := w.want(w.do("alice", "GET", "/types/default", ""), 200)["id"].(string)
	w.refused(w.do("admin", "DELETE", "/types/"+id, ""), 400, "The volume type "+id+" is a default volume type and cannot be deleted.")
	w.want(w.do("admin", "DELETE", "/types/"+gold, ""), 202)
	// The configured type is gone: it can be renamed.
	w.want(w.do("admin", "PUT", "/types/"+id, `{"volume_type":{"name":"other"}}`), 200)
	for _, a := range []answer{
		w.do("alice", "GET", "/types/default", ""), w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`),
	} {
		w.refused(a, 500, "The request cannot be fulfilled as the default volume type __DEFAULT__ cannot be found.")
	}
}

// projects is a Keystone.
type projects map[string]bool

func (p projects) Project(_ context.Context, id keystone.Identity, project string) (bool, error) {
	if len(p) == 0 {
		return false, keystone.ErrUnreachable
	}
	return p[project] && id.Token == "admin", nil
}

func TestDefaultTypeOfWhichProject(t *testing.T) {
	known := projects{projectB: true}
	w := newWorld(t, func(c *v3.Config) { c.Projects = known })
	const body = `{"default_type":{"volume_type":"__DEFAULT__"}}`
	w.want(w.do("admin", "PUT", "/default-types/"+projectB, body), 200)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		w.refused(w.do("admin", method, "/default-types/nobody", body), 404, "Project with id nobody not found.")
	}
	delete(known, projectB)
	w.refused(w.do("admin", "GET", "/default-types/"+projectB, ""), 503, "identity service")
}

func TestEncryptedTypes(t *testing.T) {
	w := newWorld(t)
	id := w.kind(`{"name":"vault"}`)
	path := "/types/" + id + "/encryption"
	if a := w.do("admin", "GET", path, ""); a.status != 200 || string(a.raw) != "{}" {
		t.Errorf("none: %d %s", a.status, a.raw)
	}
	w.refused(w.do("admin", "GET", path+"/cipher", ""), 404, "Volume type encryption for type "+id+" does not exist.")
	w.refused(w.do("admin", "PUT", path+"/x", `{"encryption":{}}`), 404, "does not exist.")
	w.refused(w.do("admin", "DELETE", path+"/x", ""), 404, "does not exist.")
	w.refused(w.do("admin", "DELETE", "/types/"+uuid.NewString()+"/encryption/x", ""), 404, "Volume type encryption for type")
	w.refused(w.do("admin", "GET", "/types/"+uuid.NewString()+"/encryption", ""), 404, "Volume type ")
	e := w.want(w.do("admin", "POST", path, `{"encryption":{"provider":"luks","control_location":"front-end","key_size":"256","other":[1]}}`), 200)
	if e["key_size"] != 256.0 || e["other"] == nil || e["volume_type_id"] != id || e["encryption_id"] == nil {
		t.Errorf("%v", e)
	}
	w.refused(w.do("admin", "POST", path, `{"encryption":{"provider":"luks","control_location":"front-end"}}`), 400, "Volume type encryption for type "+id+" already exists.")
	// Nothing is made that is not encrypted although it should be.
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"vault"}}`), 400, "Invalid encryption spec")
	w.want(w.do("admin", "PUT", path+"/provider", `{"encryption":{"cipher":"aes-xts-plain64"}}`), 200)
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"vault"}}`), 400, "Key manager error")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1,"volume_type":"`+id+`"},"count":3}`), 400, "Key manager error")
	if n := len(w.store.VolumeRows); n != 0 {
		t.Errorf("%d volumes were made", n)
	}
	if a := w.do("admin", "GET", path+"/cipher", ""); string(a.raw) != `{"cipher":"aes-xts-plain64"}` {
		t.Errorf("%s", a.raw)
	}
	// Of a volume the keys of its type are shown.
	v := w.volume("alice", `{"volume":{"size":1}}`)
	if a := w.do("alice", "GET", "/volumes/"+v+"/encryption", ""); string(a.raw) != `{"encryption_key_id":null}` {
		t.Errorf("%s", a.raw)
	}
	if a := w.do("alice", "GET", "/volumes/"+v+"/encryption/encryption_key_id", ""); a.status != 200 || len(a.raw) != 0 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	w.refused(w.do("alice", "GET", "/volumes/"+v+"/encryption/cipher", ""), 404, "")
	w.refused(w.do("bob", "GET", "/volumes/"+v+"/encryption", ""), 404, "Volume "+v+" could not be found.")
	w.store.Do(func(s *v3test.Store) {
		key := uuid.MustParse("11111111-2222-4333-8444-555555555555")
		kind := uuid.MustParse(id)
		s.VolumeRows[0].EncryptionKeyID, s.VolumeRows[0].VolumeTypeID = &key, &kind
	})
	if a := w.do("alice", "GET", "/volumes/"+v+"/encryption", ""); string(a.raw) !=
		`{"cipher":"aes-xts-plain64","control_location":"front-end","encryption_key_id":"11111111-2222-4333-8444-555555555555","key_size":256,"provider":"luks"}` {
		t.Errorf("%s", a.raw)
	}
	for key, want := range map[string]string{"cipher": "aes-xts-plain64", "key_size": "256", "encryption_key_id": "11111111-2222-4333-8444-555555555555"} {
		a := w.do("alice", "GET", "/volumes/"+v+"/encryption/"+key, "")
		if a.status != 200 || string(a.raw) != want || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %s", key, a.status, a.raw)
		}
	}
	w.store.Do(func(s *v3test.Store) { s.VolumeRows = nil })
	w.want(w.do("admin", "DELETE", path+"/x", ""), 202)
	w.volume("alice", `{"volume":{"size":1,"volume_type":"vault"}}`)
}

func TestTypesBindVolumes(t *testing.T) {
	w := newWorld(t)
	w.kind(`{"name":"sized","extra_specs":{"provisioning:min_vol_size":"2","provisioning:max_vol_size":"4"}}`)
	w.kind(`{"name":"zoned","extra_specs":{"RESKEY:availability_zones":"far, moon"}}`)
	w.kind(`{"name":"lost","extra_specs":{"RESKEY:availability_zones":"moon,mars"}}`)
	w.kind(`{"name":"shared","extra_specs":{"multiattach":"<is> True"}}`)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"size":1,"volume_type":"sized"}`, 400, "Invalid input received: Specified volume size of '1' is less than the minimum required size of '2' for volume type 'sized'."},
		{`{"size":5,"volume_type":"sized"}`, 400, "Invalid input received: Specified volume size of '5' is greater than the maximum allowable size of '4' for volume type 'sized'."},
		{`{"size":4,"volume_type":"sized"}`, 202, "nova"},
		{`{"size":1,"volume_type":"zoned"}`, 202, "far"},
		{`{"size":1,"volume_type":"zoned","availability_zone":"far"}`, 202, "far"},
		{`{"size":1,"volume_type":"zoned","availability_zone":"nova"}`, 400, "Availability zone 'nova' is invalid."},
		{`{"size":1,"volume_type":"lost"}`, 400, "Volume type is only supported in these availability zones: ['moon', 'mars']"},
		{`{"size":1,"volume_type":"nope"}`, 404, "Volume type with name nope could not be found."},
		{`{"size":1,"volume_type":"` + uuid.Nil.String() + `"}`, 404, "Volume type " + uuid.Nil.String() + " could not be found."},
	} {
		a := w.do("alice", "POST", "/volumes", `{"volume":`+c.body+`}`)
		if c.status != 202 {
			w.refused(a, c.status, c.want)
		} else if zone := w.want(a, 202)["availability_zone"]; zone != c.want {
			t.Errorf("%s: zone %v, want %s", c.body, zone, c.want)
		}
	}
	if v := w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"shared"}}`), 202); v["multiattach"] != true {
		t.Errorf("%v", v)
	}
	// A name may look like an id.
	odd := uuid.NewString()
	w.kind(`{"name":"` + odd + `"}`)
	if v := w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"`+odd+`"}}`), 202); v["volume_type"] != odd {
		t.Errorf("%v", v)
	}
	if id := w.store.VolumeRows[0].RequestID; !strings.HasPrefix(id, "req-") {
		t.Errorf("the volume does not know its request: %q", id)
	}
}

func TestQoSSpecs(t *testing.T) {
	w := newWorld(t)
	gold, iron := w.kind(`{"name":"gold"}`), w.kind(`{"name":"iron"}`)
	q := w.want(w.do("admin", "POST", "/qos-specs", `{"qos_specs":{"name":" fast ","consumer":"both","a b":"1","é":""}}`), 200)
	id, _ := q["id"].(string)
	if q["name"] != "fast" || q["consumer"] != "both" {
		t.Errorf("%v", q)
	}
	path := "/qos-specs/" + id
	plain := w.want(w.do("admin", "POST", "/qos-specs", `{"qos_specs":{"name":"plain"}}`), 200)
	other, _ := plain["id"].(string)
	if plain["consumer"] != "back-end" {
		t.Errorf("%v", plain)
	}
	const consumers = "Invalid qos specs: Valid consumer of QoS specs are: QoSConsumerValues(default=<class 'oslo_versionedobjects.fields.UnspecifiedDefault'>," +
		"nullable=False,valid_values=('back-end', 'front-end', 'both'))"
	missing := uuid.NewString()
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/qos-specs", `{"qos_specs":{"name":"fast"}}`, 409, "QoS Specs fast already exists."},
		{"POST", "/qos-specs", `{"qos_specs":{"name":"x","consumer":"me"}}`, 400, consumers},
		{"POST", "/qos-specs", `{"qos_specs":{"name":"x","consumer":""}}`, 400, consumers},
		{"POST", "/qos-specs", `{"qos_specs":{}}`, 400, "Invalid input for field/attribute qos_specs. Value: {}. 'name' is a required property"},
		{"POST", "/qos-specs", `{"qos_specs":{"name":""}}`, 400, "An invalid 'name' value was provided. The 'name' can not be None."},
		{"POST", "/qos-specs", `{"qos_specs":{"name":" "}}`, 400, "An invalid 'name' value was provided. The 'name' can not be empty."},
		{"POST", "/qos-specs", `{"qos_specs":{"name":null}}`, 400, "Invalid input for field/attribute name. Value: None. None is not of type 'string'"},
		{"POST", "/qos-specs", `{"qos_specs":{"name":"` + strings.Repeat("a", 256) + `"}}`, 400, "An invalid 'name' value was provided. The 'name' can not be greater than 255 characters."},
		{"POST", "/qos-specs", `{"qos_specs":{"name":"x","k":1}}`, 400, `Invalid input received: Value for key "k" is not a string or unicode`},
		{"PUT", path, `{"qos_specs":{"a":1}}`, 400, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string', 'null'"},
		{"PUT", path, `{"qos_specs":{"é":"1"}}`, 400, "Invalid input for field/attribute qos_specs. Value: {'é': '1'}. 'é' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'"},
		{"PUT", path, `{"qos_specs":{"consumer":"me"}}`, 400, consumers},
		{"PUT", path, `{"qos_specs":{"a":"1"},"x":1}`, 400, "Additional properties are not allowed ('x' was unexpected)"},
		{"PUT", "/qos-specs/" + missing, `{"qos_specs":{}}`, 404, "No such QoS spec " + missing + "."},
		{"GET", "/qos-specs/nope", "", 404, "No such QoS spec nope."},
		{"PUT", path + "/delete_keys", `{"keys":"a"}`, 400, "Invalid input for field/attribute keys. Value: a. 'a' is not of type 'array'"},
		{"PUT", path + "/delete_keys", `{"keys":[1]}`, 400, "Invalid input for field/attribute 0. Value: 1. 1 is not of type 'string'"},
		{"PUT", path + "/delete_keys", `{"keys":["a",""]}`, 400, "Invalid input for field/attribute 1. Value: . '' is too short"},
		{"PUT", path + "/delete_keys", `{"keys":["a","a"]}`, 400, "Invalid input for field/attribute keys. Value: ['a', 'a']. ['a', 'a'] has non-unique elements"},
		{"GET", path + "/associate", "", 400, "Volume Type id must not be None."},
		{"GET", path + "/disassociate", "", 400, "Volume Type id must not be None."},
		{"GET", path + "/associate?vol_type_id=" + missing, "", 404, "Volume type " + missing + " could not be found."},
		{"GET", path + "/disassociate?vol_type_id=gold", "", 404, "Volume type gold could not be found."},
		{"GET", "/qos-specs/" + missing + "/disassociate_all", "", 404, "No such QoS spec " + missing + "."},
		{"GET", "/qos-specs/" + missing + "/associations", "", 404, "No such QoS spec " + missing + "."},
		{"DELETE", path + "?force=perhaps", "", 400, "Value 'perhaps' for 'force' is not a boolean."},
		{"GET", "/qos-specs?marker=" + missing, "", 404, "No such QoS spec " + missing + "."},
		{"GET", "/qos-specs?sort=name", "", 400, "Invalid input received: Invalid sort key"},
	} {
		m := w.want(w.do("admin", c.method, c.path, c.body), c.status)
		if m["message"] != c.want {
			t.Errorf("%s %s %s:\n got %s\nwant %s", c.method, c.path, c.body, m["message"], c.want)
		}
	}
	specs := func() string {
		t.Helper()
		return fmt.Sprint(w.want(w.do("admin", "GET", path, ""), 200)["specs"])
	}
	if a := w.do("admin", "PUT", path, `{"qos_specs":{"x":"y","consumer":"front-end","z":"1"}}`); string(a.raw) != `{"qos_specs":{"x":"y","consumer":"front-end","z":"1"}}` {
		t.Errorf("%s", a.raw)
	}
	if got := specs(); got != "map[a b:1 x:y z:1 é:]" {
		t.Errorf("specs %s", got)
	}
	// Keys go up to the first that is not there.
	w.refused(w.do("admin", "PUT", path+"/delete_keys", `{"keys":["x","nope","z"]}`), 404, "QoS spec "+id+" has no spec with key nope.")
	if got := specs(); got != "map[a b:1 z:1 é:]" {
		t.Errorf("specs %s", got)
	}
	w.want(w.do("admin", "GET", path+"/associate?vol_type_id="+gold, ""), 202)
	w.want(w.do("admin", "GET", path+"/associate?vol_type_id="+gold, ""), 202)
	w.want(w.do("admin", "GET", path+"/associate?vol_type_id="+iron, ""), 202)
	w.refused(w.do("admin", "GET", "/qos-specs/"+other+"/associate?vol_type_id="+gold, ""), 400,
		"Invalid volume type: Type "+gold+" is already associated with another qos specs: "+id)
	if got := w.names(w.do("admin", "GET", path+"/associations", ""), "qos_associations"); got != "gold iron" {
		t.Errorf("associated: %s", got)
	}
	if got := w.want(w.do("admin", "GET", "/types/"+gold, ""), 200)["qos_specs_id"]; got != id {
		t.Errorf("qos_specs_id %v", got)
	}
	w.want(w.do("admin", "GET", "/qos-specs/"+other+"/disassociate?vol_type_id="+gold, ""), 202) // not its own
	w.want(w.do("admin", "GET", path+"/disassociate?vol_type_id="+gold, ""), 202)
	w.refused(w.do("admin", "DELETE", path+"?force=false", ""), 400, "Qos specs still in use.")
	if got := w.names(w.do("admin", "GET", "/qos-specs?sort=value:asc", ""), "qos_specs"); got != "fast plain" {
		t.Errorf("list: %s", got)
	}
	for query, want := range map[string]string{"id=" + id: "fast", "value=plain": "plain", "name=fast": "", "consumer=both": "", "limit=1": "plain"} {
		if got := w.names(w.do("admin", "GET", "/qos-specs?"+query, ""), "qos_specs"); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	w.want(w.do("admin", "DELETE", path+"?force=True", ""), 202)
	if got := w.want(w.do("admin", "GET", "/types/"+iron, ""), 200)["qos_specs_id"]; got != nil {
		t.Errorf("qos_specs_id %v", got)
	}
}
