package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// offer makes a transfer of a volume and returns its id and key.
func (w *world) offer(token, volume string) (id, key string) {
	w.t.Helper()
	x := w.want(w.do(token, "POST", "/volume-transfers", `{"transfer":{"volume_id":"`+volume+`","name":" gift "}}`), 202)
	id, _ = x["id"].(string)
	key, _ = x["auth_key"].(string)
	return id, key
}

func TestTransfers(t *testing.T) {
	w := newWorld(t)
	v := w.volume("alice", `{"volume":{"size":1}}`)
	id, key := w.offer("alice", v)
	if len(key) != 16 || strings.Trim(key, "0123456789abcdef") != "" {
		t.Errorf("key %q", key)
	}
	if s := w.want(w.do("alice", "GET", "/volumes/"+v, ""), 200)["status"]; s != "awaiting-transfer" {
		t.Errorf("status %v", s)
	}
	w.refused(w.do("alice", "POST", "/os-volume-transfer", `{"transfer":{"volume_id":"`+v+`"}}`), 400, "Invalid volume: status must be available")
	w.refused(w.do("alice", "DELETE", "/volumes/"+v, ""), 400, "awaiting a transfer")
	// The key is shown once; what is stored of it, never.
	row := w.store.TransferRows[0]
	if row.KeyHash == "" || row.Salt == "" || row.KeyHash == key || !row.Opens(key) {
		t.Errorf("%+v", row)
	}
	for _, path := range []string{"/volume-transfers/" + id, "/volume-transfers", "/volume-transfers/detail", "/os-volume-transfer/detail"} {
		a := w.do("alice", "GET", path, "")
		for _, secret := range []string{key, row.KeyHash, row.Salt} {
			if a.status != 200 || strings.Contains(string(a.raw), secret) || strings.Contains(w.log.String(), secret) {
				t.Errorf("%s shows a secret: %s", path, a.raw)
			}
		}
	}
	// Others do not see it, nor take it back.
	for _, c := range [][2]string{{"GET", "/os-volume-transfer/" + id}, {"DELETE", "/os-volume-transfer/" + id}, {"GET", "/volume-transfers/" + id}} {
		w.refused(w.do("bob", c[0], c[1], ""), 404, "Transfer "+id+" could not be found.")
	}
	for token, want := range map[string]string{"alice": "gift", "bob": "", "admin": "gift"} {
		if got := w.names(w.do(token, "GET", "/os-volume-transfer", ""), "transfers"); got != want {
			t.Errorf("%s sees %q", token, got)
		}
	}
	accept := func(token, id, key string) answer {
		return w.do(token, "POST", "/os-volume-transfer/"+id+"/accept", `{"accept":{"auth_key":`+key+`}}`)
	}
	w.refused(accept("bob", id, `"nope"`), 400, "Invalid auth key: Attempt to transfer "+id+" with invalid auth key.")
	w.refused(accept("bob", id, `12345`), 400, "Invalid auth key: Attempt to transfer "+id+" with invalid auth key.")
	w.refused(accept("bob", uuid.NewString(), `"`+key+`"`), 404, "could not be found.")
	x := w.want(accept("bob", id, `"`+key+`"`), 202)
	if x["id"] != id || x["volume_id"] != v || x["name"] != "gift" || len(x) != 4 {
		t.Errorf("%v", x)
	}
	w.refused(accept("alice", id, `"`+key+`"`), 404, "Transfer "+id+" could not be found.")
	w.refused(w.do("alice", "GET", "/volumes/"+v, ""), 404, "")
	got := w.want(w.do("bob", "GET", "/volumes/"+v, ""), 200)
	if got["status"] != "available" || got["user_id"] != "bob" || got["os-vol-tenant-attr:tenant_id"] != projectB {
		t.Errorf("%v", got)
	}
	// Taken back.
	id, key = w.offer("bob", v)
	w.want(w.do("bob", "DELETE", "/volume-transfers/"+id, ""), 202)
	w.refused(accept("alice", id, `"`+key+`"`), 404, "could not be found.")
	if s := w.want(w.do("bob", "GET", "/volumes/"+v, ""), 200)["status"]; s != "available" {
		t.Errorf("status %v", s)
	}
	// Too much for the one who accepts.
	id, key = w.offer("bob", v)
	w.store.Do(func(s *v3test.Store) { s.LimitRows["volumes"] = 0 })
	w.refused(accept("alice", id, `"`+key+`"`), 413, "VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded for quota 'volumes'.")
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status = model.VolumeError })
	w.refused(accept("alice", id, `"`+key+`"`), 400, "Invalid volume: Transfer "+id+": Volume id "+v+" expected in awaiting-transfer state.")
}

// A volume that was given away without its snapshots is deleted with them by an
// administrator alone.
func TestTransferWithoutSnapshots(t *testing.T) {
	w := newWorld(t)
	v := w.volume("alice", `{"volume":{"size":1}}`)
	sn := w.want(w.do("alice", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+v+`"}}`), 202)["id"]
	x := w.want(w.do("alice", "POST", "/volume-transfers", `{"transfer":{"volume_id":"`+v+`","no_snapshots":"True"}}`), 202)
	if x["no_snapshots"] != true || x["source_project_id"] != projectA || x["destination_project_id"] != nil || x["accepted"] != false {
		t.Errorf("%v", x)
	}
	id, _ := x["id"].(string)
	key, _ := x["auth_key"].(string)
	w.want(w.do("bob", "POST", "/volume-transfers/"+id+"/accept", `{"accept":{"auth_key":"`+key+`"}}`), 202)
	w.refused(w.do("bob", "DELETE", "/volumes/"+v+"?cascade=true", ""), 400, "or be disassociated from snapshots after volume transfer.")
	if got := w.want(w.do("alice", "GET", "/snapshots", ""), 200)["snapshots"]; len(got.([]any)) != 1 {
		t.Errorf("alice's snapshots: %v, wanted %v", got, sn)
	}
	w.want(w.do("admin", "DELETE", "/volumes/"+v+"?cascade=true", ""), 202)
}

func TestTransferBodies(t *testing.T) {
	w := newWorld(t)
	const some = "1f8c1ac2-a3d2-4f0a-b7db-b1c4a9b9f1aa"
	at := "/os-volume-transfer/" + some + "/accept"
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/os-volume-transfer", `{}`, 400, "'transfer' is a required property"},
		{"/os-volume-transfer", `{"transfer":{}}`, 400, "Invalid input for field/attribute transfer. Value: {}. 'volume_id' is a required property"},
		{"/os-volume-transfer", `{"transfer":{"volume_id":"x"}}`, 400, "Invalid input for field/attribute volume_id. Value: x. 'x' is not a 'uuid'"},
		{"/os-volume-transfer", `{"transfer":{"volume_id":null}}`, 400, "Invalid input for field/attribute volume_id. Value: None. None is not of type 'string'"},
		{"/os-volume-transfer", `{"transfer":{"volume_id":"` + some + `","name":""}}`, 400, "Invalid input for field/attribute name. Value: . '' is not valid under any of the given schemas"},
		{"/os-volume-transfer", `{"transfer":{"volume_id":"` + some + `","name":null}}`, 404, "Volume " + some + " could not be found."},
		{
			"/os-volume-transfer", `{"transfer":{"volume_id":"` + some + `","no_snapshots":true}}`, 400,
			"Invalid input for field/attribute transfer. Value: {'volume_id': '" + some + "', 'no_snapshots': True}. Additional properties are not allowed ('no_snapshots' was unexpected)",
		},
		{"/volume-transfers", `{"transfer":{"volume_id":"` + some + `","no_snapshots":true}}`, 404, "Volume " + some + " could not be found."},
		{"/volume-transfers", `{"transfer":{"volume_id":"` + some + `","no_snapshots":null}}`, 400, "Invalid input for field/attribute no_snapshots. Value: None. None is not of type 'boolean', 'string'"},
		{at, `{}`, 400, "'accept' is a required property"},
		{at, `{"accept":{}}`, 400, "Invalid input for field/attribute accept. Value: {}. 'auth_key' is a required property"},
		{at, `{"accept":{"auth_key":null}}`, 400, "Invalid input for field/attribute auth_key. Value: None. None is not of type 'string', 'integer'"},
		{at, `{"accept":{"auth_key":true}}`, 400, "Invalid input for field/attribute auth_key. Value: True. True is not of type 'string', 'integer'"},
		{at, `{"accept":{"auth_key":1.5}}`, 400, "Invalid input for field/attribute auth_key. Value: 1.5. 1.5 is not of type 'string', 'integer'"},
		{at, `{"accept":{"auth_key":"a","x":1}}`, 400, "Invalid input for field/attribute accept. Value: {'auth_key': 'a', 'x': 1}. Additional properties are not allowed ('x' was unexpected)"},
		{at, `{"accept":{"auth_key":1}}`, 404, "Transfer " + some + " could not be found."},
		{"/os-volume-transfer/nope/accept", `{"accept":{"auth_key":"a"}}`, 404, "Transfer nope could not be found."},
	} {
		m := w.want(w.do("alice", "POST", c.path, c.body), c.status)
		if m["message"] != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.path, c.body, m["message"], c.want)
		}
	}
	w.refused(w.do("alice", "POST", "/volume-transfers", `{"transfer":{"volume_id":"`+some+`","no_snapshots":true}}`, "OpenStack-API-Version", "volume 3.54"), 400, "'no_snapshots' was unexpected")
}

// The older collection has no pages: parameters are filters there. The newer one has, from 3.59 on.
func TestTransferLists(t *testing.T) {
	w := newWorld(t)
	var volumes, ids []string
	for range 3 {
		v := w.volume("alice", `{"volume":{"size":1}}`)
		id, _ := w.offer("alice", v)
		volumes, ids = append(volumes, v), append(ids, id)
	}
	v := w.volume("bob", `{"volume":{"size":1}}`)
	w.offer("bob", v)
	got := func(token, path, mv string) string {
		t.Helper()
		a := w.do(token, "GET", path, "", "OpenStack-API-Version", "volume "+mv)
		w.want(a, 200)
		list, _ := a.body["transfers"].([]any)
		var out []string
		for _, x := range list {
			m, _ := x.(map[string]any)
			for i, id := range ids {
				if m["id"] == id {
					out = append(out, string(rune('0'+i)))
				}
			}
			if m["volume_id"] == v {
				out = append(out, "b")
			}
		}
		return strings.Join(out, "")
	}
	for _, c := range []struct{ token, path, mv, want string }{
		{"alice", "/os-volume-transfer", "3.0", "012"},
		{"alice", "/os-volume-transfer/detail", "3.70", "012"},
		{"alice", "/volume-transfers", "3.58", "012"},
		{"alice", "/volume-transfers", "3.59", "210"},
		{"alice", "/os-volume-transfer?all_tenants=1", "3.70", "012"},
		{"admin", "/os-volume-transfer?all_tenants=1", "3.0", "012b"},
		{"admin", "/os-volume-transfer?all_tenants=1&project_id=" + projectB, "3.0", "b"},
		{"alice", "/os-volume-transfer?project_id=" + projectB, "3.0", "012"},
		{"alice", "/os-volume-transfer?name=gift", "3.0", "012"},
		{"alice", "/os-volume-transfer?name=other", "3.0", ""},
		{"alice", "/os-volume-transfer?volume_id=" + volumes[1], "3.0", "1"},
		{"alice", "/os-volume-transfer?nonsense=1", "3.0", ""},
		{"alice", "/os-volume-transfer?limit=1", "3.70", ""},
		{"alice", "/volume-transfers?limit=2", "3.58", ""},
		{"alice", "/volume-transfers?limit=2", "3.59", "21"},
		{"alice", "/volume-transfers/detail?limit=2&marker=" + ids[1], "3.59", "0"},
		{"alice", "/volume-transfers?sort=created_at:asc&offset=1", "3.59", "12"},
	} {
		if x := got(c.token, c.path, c.mv); x != c.want {
			t.Errorf("%s %s at %s: %q, want %q", c.token, c.path, c.mv, x, c.want)
		}
	}
	a := w.do("alice", "GET", "/volume-transfers/detail?limit=2", "")
	links, _ := a.body["transfers_links"].([]any)
	if len(links) != 1 || !strings.Contains(string(a.raw), "/v3/volume-transfers/detail?limit=2\\u0026marker="+ids[1]) {
		t.Errorf("%s", a.raw)
	}
	w.refused(w.do("alice", "GET", "/volume-transfers?sort=salt", ""), 400, "Invalid sort key")
	w.refused(w.do("alice", "GET", "/volume-transfers?marker="+uuid.NewString(), ""), 404, "could not be found.")
	for mv, fields := range map[string]int{"3.54": 5, "3.55": 6, "3.57": 9} {
		x := w.want(w.do("alice", "GET", "/os-volume-transfer/"+ids[0], "", "OpenStack-API-Version", "volume "+mv), 200)
		if len(x) != fields {
			t.Errorf("at %s: %v", mv, x)
		}
		if !strings.Contains(string(w.do("alice", "GET", "/volume-transfers/"+ids[0], "").raw), "/v3/os-volume-transfer/"+ids[0]) {
			t.Error("the link is not of the older collection")
		}
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	add := func(project, event string) string {
		id := uuid.New()
		w.store.Do(func(s *v3test.Store) {
			s.MessageRows = append(s.MessageRows, model.Message{
				ID: id, ProjectID: project, RequestID: "req-" + event, ResourceType: "VOLUME", ResourceUUID: &id, EventID: event, Level: "ERROR",
				UserMessage: model.Event(event).Text(), CreatedAt: w.store.Clock,
			})
			s.Clock = s.Clock.Add(1)
		})
		return id.String()
	}
	a1, a2, b1 := add(projectA, "VOLUME_VOLUME_001_003"), add(projectA, "VOLUME_VOLUME_005_001"), add(projectB, "VOLUME_VOLUME_001_003")
	list := func(token, query, mv string) string {
		t.Helper()
		a := w.do(token, "GET", "/messages"+query, "", "OpenStack-API-Version", "volume "+mv)
		w.want(a, 200)
		rows, _ := a.body["messages"].([]any)
		var out []string
		for _, x := range rows {
			m, _ := x.(map[string]any)
			for name, id := range map[string]string{"a1": a1, "a2": a2, "b1": b1} {
				if m["id"] == id {
					out = append(out, name)
				}
			}
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ token, query, mv, want string }{
		{"alice", "", "3.3", "a2 a1"},
		{"alice", "?limit=1&nonsense=1", "3.4", "a2 a1"},
		{"alice", "?limit=1", "3.5", "a2"},
		{"alice", "?limit=1&marker=" + a2, "3.5", "a1"},
		{"alice", "?sort=created_at:asc", "3.70", "a1 a2"},
		{"alice", "?event_id=VOLUME_VOLUME_001_003", "3.5", "a1"},
		{"alice", "?event_id=VOLUME_VOLUME_001_003", "3.70", "a1"},
		{"admin", "?event_id~=005", "3.34", "a2"},
		{"alice", "?resource_uuid=" + a1, "3.31", "a1"},
		{"alice", "?id=" + a1, "3.30", "a1"},
		{"alice", "?nonsense=1", "3.30", ""},
		{"admin", "?nonsense=1", "3.70", ""},
		{"admin", "", "3.70", "b1 a2 a1"},
		{"admin", "?project_id=" + projectB, "3.70", "b1"},
		{"bob", "", "3.70", "b1"},
	} {
		if got := list(c.token, c.query, c.mv); got != c.want {
			t.Errorf("%s %s at %s: %q, want %q", c.token, c.query, c.mv, got, c.want)
		}
	}
	w.refused(w.do("alice", "GET", "/messages?id="+a1, "", "OpenStack-API-Version", "volume 3.31"), 400, "Invalid filters id are found in query options.")
	w.refused(w.do("alice", "GET", "/messages?sort=user_message", ""), 400, "Invalid sort key")
	w.refused(w.do("alice", "GET", "/messages", "", "OpenStack-API-Version", "volume 3.2"), 404, "The resource could not be found.")
	m := w.want(w.do("alice", "GET", "/messages/"+a1, ""), 200)
	if m["user_message"] != "schedule allocate volume:Could not find any available weighted backend." || m["request_id"] != "req-VOLUME_VOLUME_001_003" {
		t.Errorf("%v", m)
	}
	for _, method := range []string{"GET", "DELETE"} {
		w.refused(w.do("alice", method, "/messages/"+b1, ""), 404, "Message "+b1+" could not be found.")
		w.refused(w.do("alice", method, "/messages/nope", ""), 404, "Message nope could not be found.")
	}
	if a := w.do("alice", "DELETE", "/messages/"+a1, ""); a.status != 204 {
		t.Errorf("%d", a.status)
	}
	if got := list("alice", "", "3.70"); got != "a2" {
		t.Errorf("after deletion: %q", got)
	}
}
