package v3_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// refusal is a request that is refused, and how.
type refusal struct {
	token, method, path, body string
	status                    int
	says                      string
}

func (c *cloud) refused(all []refusal) {
	c.t.Helper()
	for _, r := range all {
		before := c.rows()
		rec := c.ask(r.token, r.method, r.path, r.body)
		var f map[string]struct{ Message string }
		if err := json.Unmarshal(rec.Body.Bytes(), &f); err != nil {
			c.t.Errorf("%s %s %s: %d %s", r.method, r.path, r.body, rec.Code, rec.Body)
			continue
		}
		for _, one := range f {
			if want := c.fill(r.says); rec.Code != r.status || !strings.HasPrefix(one.Message, want) {
				c.t.Errorf("%s %s %s: %d %s\nwant %d %s", r.method, r.path, r.body, rec.Code, one.Message, r.status, want)
			}
		}
		if c.rows() != before {
			c.t.Errorf("%s %s %s was refused, and changed something", r.method, r.path, r.body)
		}
	}
}

// What the rules of groups refuse, in Cinder's words (cinder/group/api.py and its schemas).
func TestGroupRefusals(t *testing.T) {
	c := newCloud(t)
	for name, body := range map[string]string{"legacy": `{"consistencygroup":{"volume_types":"__DEFAULT__,"}}`} {
		c.make(name, m, "/consistencygroups", body, "consistencygroup")
	}
	c.make("empty_snapshot", m, "/group_snapshots", `{"group_snapshot":{"group_id":"{spare_group}"}}`, "group_snapshot")
	c.make("odd", m, "/volumes", `{"volume":{"size":1,"volume_type":"{type}"}}`, "volume")
	c.store.Do(func(s *v3test.Store) { c.names["legacy_type"] = s.GroupTypeRows[0].ID.String() })
	c.names["nobody"] = uuid.NewString()
	const reserved = "Group_type {legacy_type} is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs."
	c.refused([]refusal{
		{adm, "POST", "/group_types", `{"group_type":{"name":"group_type"}}`, 409, "Group Type group_type already exists."},
		{adm, "POST", "/group_types", `{"group_type":{"name":" "}}`, 400, "An invalid 'name' value was provided."},
		{adm, "PUT", "/group_types/{group_type}", `{"group_type":{}}`, 400, "Specify group type name, description or a combination thereof."},
		{adm, "PUT", "/group_types/{group_type}", `{"group_type":{"name":" "}}`, 400, "Group type name can not be empty."},
		{adm, "PUT", "/group_types/{group_type}", `{"group_type":{"name":"replicated"}}`, 409, "Group Type replicated already exists."},
		{adm, "DELETE", "/group_types/{group_type}", "", 400, "Target group type is still in use. Group Type {group_type} deletion is not allowed with groups present with the type."},
		{adm, "GET", "/group_types/{nobody}", "", 404, "Group type {nobody} could not be found."},
		{adm, "GET", "/group_types/{group_type}/group_specs/x", "", 404, "Group Type {group_type} has no extra spec with key x."},
		{adm, "DELETE", "/group_types/{group_type}/group_specs/x", "", 404, "Group Type {group_type} has no specs with key x."},
		{adm, "PUT", "/group_types/{group_type}/group_specs/x", `{"y":"z"}`, 400, "Request body and URI mismatch"},

		{m, "POST", "/groups", `{"group":{"group_type":"{group_type}","volume_types":[]}}`, 400, "Invalid input for field/attribute volume_types. Value: []. [] is too short"},
		{m, "POST", "/groups", `{"group":{"group_type":"{group_type}"}}`, 400, "Invalid input for field/attribute group."},
		{m, "POST", "/groups", `{"group":{"group_type":"none","volume_types":["{type}"]}}`, 404, "Group type with name none could not be found."},
		{m, "POST", "/groups", `{"group":{"group_type":"{nobody}","volume_types":["{type}"]}}`, 404, "Group type {nobody} could not be found."},
		{m, "POST", "/groups", `{"group":{"group_type":"default_cgsnapshot_type","volume_types":["{type}"]}}`, 400, reserved},
		{m, "POST", "/groups", `{"group":{"group_type":"{group_type}","volume_types":["none"]}}`, 404, "Volume type with name none could not be found."},
		{m, "POST", "/groups", `{"group":{"group_type":"{group_type}","volume_types":["{type}"],"availability_zone":"x"}}`, 400, "Invalid input received: Availability zone 'x' is invalid."},
		{m, "GET", "/groups/{legacy}", "", 400, reserved},
		{m, "GET", "/groups/{nobody}", "", 404, "Group {nobody} could not be found."},

		{m, "PUT", "/groups/{group}", `{"group":{}}`, 400, "Invalid input for field/attribute group."},
		{m, "PUT", "/groups/{group}", `{"group":{"name":"group"}}`, 400, "Invalid Group: Cannot update group {group} because no valid name, description, add_volumes, or remove_volumes were provided."},
		{m, "PUT", "/groups/{group}", `{"group":{"add_volumes":"{used}"}}`, 400, "Invalid Group: Cannot update group {group} because"},
		{m, "PUT", "/groups/{group}", `{"group":{"add_volumes":"{volume}","remove_volumes":"{volume}"}}`, 400, "Invalid volume: UUIDs ['{volume}'] are in both add and remove volume list."},
		{m, "PUT", "/groups/{group}", `{"group":{"add_volumes":"{nobody}"}}`, 400, "Invalid volume: Cannot add volume {nobody} to group {group} because volume cannot be found."},
		{m, "PUT", "/groups/{group}", `{"group":{"add_volumes":"{odd}"}}`, 400, "Invalid volume: Cannot add volume {odd} to group {group} because volume type {type} is not supported by the group."},
		{m, "PUT", "/groups/{spare_group}", `{"group":{"add_volumes":"{used}"}}`, 400, "Invalid volume: Cannot add volume {used} to group {spare_group} because it is already in group {group}."},
		{m, "PUT", "/groups/{group}", `{"group":{"remove_volumes":"{volume}"}}`, 400, "Invalid volume: Cannot remove volume {volume} from group {group} because it is not in the group."},

		{m, "POST", "/groups/{group}/action", `{"delete":{}}`, 400, "Invalid Group: Group has existing snapshots."},
		{m, "POST", "/groups/{group}/action", `{"delete":{"delete-volumes":"x"}}`, 400, "Invalid input for field/attribute delete-volumes."},
		{m, "POST", "/groups/{group}/action", `{"nothing":{}}`, 400, "There is no such action: nothing."},
		{m, "POST", "/groups/{group}/action", `{"enable_replication":{}}`, 400, "Invalid group type: Group {group} is not a replication group type."},
		{adm, "POST", "/groups/{group}/action", `{"reset_status":{"status":"odd"}}`, 400, "Invalid Group Status: Group status: odd is invalid, valid status are: ('error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'in-use', 'error_deleting')."},
		{adm, "POST", "/groups/{group}/action", `{"reset_status":{"status":" "}}`, 400, "Invalid Group Status: The 'status' can not be empty."},

		{m, "POST", "/groups/action", `{"create-from-src":{}}`, 400, "Invalid input for field/attribute create-from-src. Value: {}. {} is not valid under any of the given schemas"},
		{m, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"{group}","group_snapshot_id":"{group_snapshot}"}}`, 400, "Invalid input for field/attribute create-from-src."},
		{m, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"{spare_group}"}}`, 400, "Invalid Group: Source Group is empty. No group will be created."},
		{m, "POST", "/groups/action", `{"create-from-src":{"group_snapshot_id":"{empty_snapshot}"}}`, 400, "Invalid Group: Group snapshot is empty. No group will be created."},
		{m, "POST", "/groups/action", `{"create-from-src":{"group_snapshot_id":"{nobody}"}}`, 404, "GroupSnapshot {nobody} could not be found."},
		{m, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"{legacy}"}}`, 400, reserved},

		{m, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"{legacy}"}}`, 400, "Group_type {legacy_type} is reserved for migrating CGs to groups. Migrated group snapshots can only be operated by CG snapshot APIs."},
		{m, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"x"}}`, 400, "Invalid input for field/attribute group_id. Value: x. 'x' is not a 'uuid'"},
		{adm, "POST", "/group_snapshots/{group_snapshot}/action", `{"reset_status":{"status":"in-use"}}`, 400, "Invalid GroupSnapshot Status: Group snapshot status: in-use is invalid, valid statuses are: ('error',"},

		{m, "POST", "/volumes", `{"volume":{"size":1,"group_id":"{group}"}}`, 400, "Invalid input received: volume_type must be provided when creating a volume in a group."},
		{m, "POST", "/volumes", `{"volume":{"size":1,"group_id":"{group}","volume_type":"{type}"}}`, 400, "Invalid input received: Invalid volume_type provided: {type} (requested type must be supported by this group)."},
		{m, "POST", "/volumes", `{"volume":{"size":1,"group_id":"{nobody}","volume_type":"{type}"}}`, 404, "Group {nobody} could not be found."},
		{m, "DELETE", "/volumes/{used}", "", 400, "Invalid volume: Volume status must be available or error"},
		{adm, "POST", "/volumes/{used}/action", `{"os-force_delete":{}}`, 400, "Invalid volume: "},

		{m, "POST", "/consistencygroups", `{"x":{}}`, 400, "Missing required element 'consistencygroup' in request body."},
		{m, "POST", "/consistencygroups", `{"consistencygroup":{"name":"n"}}`, 400, "volume_types must be provided to create consistency group n."},
		{m, "POST", "/consistencygroups/create_from_src", `{"consistencygroup-from-src":{"name":"n"}}`, 400, "Either 'cgsnapshot_id' or 'source_cgid' must be provided to create consistency group n from source."},
		{m, "POST", "/cgsnapshots", `{"cgsnapshot":{}}`, 400, "'consistencygroup_id' must be specified"},
	})
	c.store.Do(func(s *v3test.Store) {
		for i := range s.GroupSnapshotRows {
			s.GroupSnapshotRows[i].Status = model.GroupCreating
		}
	})
	c.refused([]refusal{{m, "DELETE", "/group_snapshots/{group_snapshot}", "", 400, "Invalid GroupSnapshot: GroupSnapshot status must be available or error, and no Group can be currently using it as source for its creation."}})
	c.store.Do(func(s *v3test.Store) { s.LimitRows["groups"] = 4 })
	c.refused([]refusal{
		{m, "POST", "/groups", `{"group":{"group_type":"{group_type}","volume_types":["{type}"]}}`, 413, "GroupLimitExceeded: Maximum number of groups allowed (4) exceeded"},
		{m, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"{group}"}}`, 400, "GroupLimitExceeded: Maximum number of groups allowed (4) exceeded"},
	})
}

// The groups of the older API are its own, and it shows all; a volume finds its group.
func TestConsistencyGroups(t *testing.T) {
	c := newCloud(t)
	c.make("cg", m, "/consistencygroups", `{"consistencygroup":{"name":"cg","volume_types":"__DEFAULT__"}}`, "consistencygroup")
	c.make("member", m, "/volumes", `{"volume":{"size":1,"consistencygroup_id":"{cg}","volume_type":"__DEFAULT__"}}`, "volume")
	c.make("cgsnapshot", m, "/cgsnapshots", `{"cgsnapshot":{"consistencygroup_id":"{cg}"}}`, "cgsnapshot")
	c.make("copy", m, "/consistencygroups/create_from_src", `{"consistencygroup-from-src":{"cgsnapshot_id":"{cgsnapshot}"}}`, "consistencygroup")
	for path, want := range map[string]string{
		"/consistencygroups": "5 rows", "/groups": "3 rows", "/cgsnapshots": "2 rows", "/group_snapshots": "1 rows", "/volumes?group_id={cg}": "1 rows",
		"/volumes?group_id={copy}": "1 rows", "/consistencygroups/detail?limit=2": "2 rows", "/group_snapshots?group_id={group}": "1 rows",
		"/group_snapshots/detail?group_id={cg}": "0 rows", "/groups?name=group": "1 rows", "/cgsnapshots?limit=1": "1 rows",
	} {
		key, _, _ := strings.Cut(strings.Split(path, "/")[1], "?")
		if got := rowsOf(key)(c.ask(m, "GET", path, "")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if rec := c.ask(m, "GET", "/groups/detail?limit=2&list_volume=True", ""); has("group_links")(rec) != "yes" || has("groups", "0", "volumes")(rec) != "yes" {
		t.Errorf("%s", rec.Body)
	}
}

// The default group type is the configuration's, and private ones are administrators'.
func TestGroupTypesSeen(t *testing.T) {
	c := newCloud(t, func(cfg *v3.Config) { cfg.DefaultGroupType = "hidden" })
	if rec := c.ask(m, "GET", "/group_types/default", ""); rec.Code != 404 {
		t.Errorf("a default that is not there: %d", rec.Code)
	}
	c.make("hidden", adm, "/group_types", `{"group_type":{"name":"hidden","is_public":false,"group_specs":{"k":"v"}}}`, "group_type")
	if rec := c.ask(m, "GET", "/group_types/default", ""); rec.Code != 200 || has("group_type", "group_specs")(rec) != "no" {
		t.Errorf("default: %d %s", rec.Code, rec.Body)
	}
	for _, x := range []struct{ token, query, want string }{
		{m, "", "4 rows"}, {m, "?is_public=None", "4 rows"}, {adm, "", "4 rows"}, {adm, "?is_public=None", "5 rows"}, {adm, "?is_public=false", "1 rows"}, {adm, "?is_public=x", "400"},
	} {
		if got := rowsOf("group_types")(c.ask(x.token, "GET", "/group_types"+x.query, "")); got != x.want {
			t.Errorf("%s by %s: %s, want %s", x.query, x.token, got, x.want)
		}
	}
	for token, want := range map[string]int{m: 404, adm: 200} {
		if rec := c.ask(token, "GET", "/group_types/{hidden}", ""); rec.Code != want {
			t.Errorf("by %s: %d", token, rec.Code)
		}
	}
}
