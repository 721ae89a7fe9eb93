package v3_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// change is what one microversion changed: a request, and what is seen of its answer
// before and since.
type change struct {
	since        int // minor
	token        string
	method, path string
	body         string
	look         func(*httptest.ResponseRecorder) string
	before, now  string
}

func status(rec *httptest.ResponseRecorder) string { return strconv.Itoa(rec.Code) }

// has tells whether the object under a path of keys has a key; numbers choose from lists.
func has(path ...string) func(*httptest.ResponseRecorder) string {
	return func(rec *httptest.ResponseRecorder) string {
		var v any
		if json.Unmarshal(rec.Body.Bytes(), &v) != nil {
			return "no JSON: " + rec.Body.String()
		}
		for i, key := range path {
			if l, ok := v.([]any); ok {
				n, err := strconv.Atoi(key)
				if err != nil || n >= len(l) {
					return "nothing at " + key
				}
				v = l[n]
				continue
			}
			m, ok := v.(map[string]any)
			if !ok {
				return "no object at " + key
			}
			if v, ok = m[key]; !ok && i == len(path)-1 {
				return "no"
			} else if !ok {
				return fmt.Sprintf("no %s in %s", key, rec.Body)
			}
		}
		return "yes"
	}
}

// rowsOf is how many rows a list has, or why it is refused.
func rowsOf(key string) func(*httptest.ResponseRecorder) string {
	return func(rec *httptest.ResponseRecorder) string {
		if rec.Code != 200 {
			return status(rec)
		}
		var m map[string]json.RawMessage
		var rows []any
		if json.Unmarshal(rec.Body.Bytes(), &m) != nil || json.Unmarshal(m[key], &rows) != nil {
			return rec.Body.String()
		}
		return strconv.Itoa(len(rows)) + " rows"
	}
}

func header(name string) func(*httptest.ResponseRecorder) string {
	return func(rec *httptest.ResponseRecorder) string {
		return map[bool]string{true: "yes", false: "no"}[rec.Header().Get(name) != ""]
	}
}

// says tells whether an answer holds a text.
func says(text string) func(*httptest.ResponseRecorder) string {
	return func(rec *httptest.ResponseRecorder) string {
		return map[bool]string{true: "yes", false: "no"}[strings.Contains(rec.Body.String(), text)]
	}
}

const m, adm = "member@A", "admin@A"

// changes are those of cinder/api/openstack/rest_api_version_history.rst that show in what
// is served. What migration changes is tested with it.
func changes() []change {
	nobody := uuid.NewString()
	return []change{
		{2, m, "GET", "/volumes?bootable=maybe", "", status, "200", "400"},
		{3, m, "GET", "/messages", "", status, "404", "200"},
		{3, m, "GET", "/messages/{message}", "", status, "404", "200"},
		{4, adm, "GET", `/volumes?glance_metadata={"k":"none"}`, "", rowsOf("volumes"), "4 rows", "0 rows"},
		{5, m, "GET", "/messages?limit=0", "", rowsOf("messages"), "1 rows", "0 rows"},
		{5, m, "GET", "/messages?event_id=none", "", rowsOf("messages"), "1 rows", "0 rows"},
		{7, adm, "GET", "/os-services", "", has("services", "0", "cluster"), "no", "yes"},
		{7, adm, "GET", "/clusters", "", status, "404", "200"},
		{9, m, "PUT", "/backups/{backup}", `{"backup":{"name":"y"}}`, status, "404", "200"},
		{10, m, "GET", "/volumes?group_id=" + nobody, "", rowsOf("volumes"), "4 rows", "0 rows"},
		{11, m, "GET", "/group_types", "", status, "404", "200"},
		{12, m, "GET", "/volumes/summary", "", status, "404", "200"},
		{13, m, "GET", "/volumes/{volume}", "", has("volume", "group_id"), "no", "yes"},
		{13, m, "GET", "/groups", "", status, "404", "200"},
		{14, m, "GET", "/snapshots/{snapshot}", "", has("snapshot", "group_snapshot_id"), "no", "yes"},
		{14, m, "PUT", "/snapshots/{snapshot}", `{"snapshot":{"name":"x"}}`, has("snapshot", "group_snapshot_id"), "no", "yes"},
		{14, m, "POST", "/snapshots", `{"snapshot":{"volume_id":"{volume}"}}`, has("snapshot", "group_snapshot_id"), "no", "yes"},
		{14, m, "GET", "/snapshots", "", has("snapshots", "0", "group_snapshot_id"), "no", "no"},
		{14, m, "GET", "/group_snapshots", "", status, "404", "200"},
		{14, m, "GET", "/groups/{group}", "", has("group", "source_group_id"), "no", "yes"},
		{14, m, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"{group}"}}`, status, "404", "202"},
		{6, m, "PUT", "/consistencygroups/{group}", `{"consistencygroup":{"name":""}}`, status, "400", "202"},
		{15, m, "GET", "/volumes/{volume}/metadata", "", header("ETag"), "no", "yes"},
		{18, adm, "GET", "/backups/{backup}", "", has("backup", "os-backup-project-attr:project_id"), "no", "yes"},
		{18, m, "GET", "/backups/{backup}", "", has("backup", "os-backup-project-attr:project_id"), "no", "no"},
		{19, adm, "POST", "/group_snapshots/{group_snapshot}/action", `{"reset_status":{"status":"error"}}`, status, "404", "202"},
		{20, adm, "POST", "/groups/{group}/action", `{"reset_status":{"status":"error"}}`, status, "404", "202"},
		{21, adm, "GET", "/volumes/{volume}", "", has("volume", "provider_id"), "no", "yes"},
		{21, m, "GET", "/volumes/{volume}", "", has("volume", "provider_id"), "no", "no"},
		{22, m, "GET", `/snapshots?metadata={"k":"none"}`, "", rowsOf("snapshots"), "2 rows", "0 rows"},
		{23, m, "DELETE", "/volumes/{single}?force=True", "", status, "202", "403"},
		{24, adm, "POST", "/workers/cleanup", "{}", status, "404", "202"},
		{25, m, "GET", "/groups/{group}?list_volume=maybe", "", status, "200", "400"},
		{25, m, "GET", "/groups/{group}?list_volume=true", "", has("group", "volumes"), "no", "yes"},
		{26, adm, "PUT", "/os-services/freeze", `{}`, says("One and only one of cluster and host must be set."), "no", "yes"},
		{26, adm, "GET", "/clusters?frozen=true", "", status, "400", "200"},
		{26, adm, "PUT", "/os-services/failover", `{"host":"n1@vmthunder"}`, says("Unknown action"), "yes", "no"},
		{27, m, "GET", "/attachments", "", status, "404", "200"},
		{27, m, "POST", "/attachments", `{"attachment":{"volume_uuid":"{volume}"}}`, status, "404", "200"},
		{28, adm, "GET", "/scheduler-stats/get_pools?name=none", "", rowsOf("pools"), "1 rows", "0 rows"},
		{29, m, "GET", "/group_snapshots?limit=0", "", rowsOf("group_snapshots"), "1 rows", "0 rows"},
		{30, m, "GET", "/snapshots?sort=name", "", status, "400", "200"},
		{30, m, "GET", "/snapshots?sort=display_name", "", status, "200", "200"},
		{30, m, "GET", "/snapshots?sort=size", "", status, "400", "400"}, // volume_size is one
		{31, m, "GET", "/volumes?user_id=x", "", status, "200", "400"},
		{31, m, "GET", "/groups?status=none", "", rowsOf("groups"), "0 rows", "400"},
		{31, m, "GET", "/consistencygroups?status=none", "", rowsOf("consistencygroups"), "0 rows", "0 rows"},
		{31, m, "GET", "/volumes?created_at=gt:2999-01-01", "", rowsOf("volumes"), "4 rows", "0 rows"},
		{35, adm, "GET", "/scheduler-stats/get_pools?volume_type=none", "", status, "200", "404"},
		{31, adm, "GET", "/scheduler-stats/get_pools?bogus=1", "", status, "200", "400"},
		{32, adm, "PUT", "/os-services/get-log", `{"binary":"","server":"","prefix":""}`, status, "400", "200"},
		{33, m, "GET", "/resource_filters", "", status, "404", "200"},
		{34, adm, "GET", "/volumes?status~=avail", "", rowsOf("volumes"), "0 rows", "2 rows"},
		{34, m, "GET", "/volumes?status~=avail", "", status, "400", "400"}, // the operator lists no status~
		{36, m, "GET", "/volumes/summary", "", has("volume-summary", "metadata"), "no", "yes"},
		{38, m, "GET", "/groups/{group}", "", has("group", "replication_status"), "no", "yes"},
		{38, m, "POST", "/groups/{mirror}/action", `{"list_replication_targets":{}}`, status, "404", "200"},
		{39, adm, "GET", "/limits?project_id=" + projects["C"], "", says(`"totalVolumesUsed":4`), "yes", "no"},
		{40, m, "POST", "/volumes/{volume}/action", `{"revert":{"snapshot_id":"{snapshot}"}}`, status, "404", "202"},
		{41, m, "POST", "/snapshots", `{"snapshot":{"volume_id":"{volume}"}}`, has("snapshot", "user_id"), "no", "yes"},
		{41, m, "GET", "/snapshots/{snapshot}", "", has("snapshot", "user_id"), "no", "yes"},
		{42, m, "POST", "/volumes/{used}/action", `{"os-extend":{"new_size":9}}`, status, "400", "202"},
		{44, m, "POST", "/attachments/{attachment}/action", `{"os-complete":null}`, status, "404", "204"},
		{45, m, "GET", "/volumes?with_count=True", "", has("count"), "no", "yes"},
		{45, m, "GET", "/volumes?with_count=True", "", status, "400", "200"}, // a filter, and none that there is
		{45, m, "GET", "/backups?with_count=True", "", status, "400", "200"},
		{45, m, "GET", "/snapshots/detail?with_count=True", "", has("count"), "no", "yes"},
		{48, m, "GET", "/volumes/{volume}", "", has("volume", "shared_targets"), "no", "yes"},
		{48, m, "GET", "/volumes/{volume}", "", has("volume", "service_uuid"), "no", "yes"},
		{49, adm, "GET", "/os-services?binary=cinder-volume", "", has("services", "0", "backend_state"), "no", "yes"},
		{52, m, "GET", `/types?extra_specs={"multiattach":"none"}`, "", rowsOf("volume_types"), "4 rows", "0 rows"},
		{53, m, "POST", "/volumes", `{"volume":{"size":1,"bogus":1}}`, status, "202", "400"},
		{53, m, "PUT", "/volumes/{volume}", `{"volume":{}}`, status, "200", "400"},
		{54, m, "POST", "/attachments", `{"attachment":{"volume_uuid":"{volume}","mode":"ro"}}`, status, "400", "200"},
		{55, m, "POST", "/volume-transfers", `{"transfer":{"volume_id":"{single}","no_snapshots":true}}`, status, "400", "202"},
		{55, m, "GET", "/volume-transfers/{transfer}", "", has("transfer", "no_snapshots"), "no", "yes"},
		{57, m, "GET", "/volume-transfers/{transfer}", "", has("transfer", "source_project_id"), "no", "yes"},
		{57, m, "GET", "/volume-transfers/{transfer}", "", has("transfer", "accepted"), "no", "yes"},
		{58, adm, "GET", "/groups/{group}", "", has("group", "project_id"), "no", "yes"},
		{58, adm, "GET", "/group_snapshots/{group_snapshot}", "", has("group_snapshot", "project_id"), "no", "yes"},
		{59, m, "GET", "/volume-transfers?limit=-1", "", status, "400", "400"},
		{59, m, "GET", "/volume-transfers?sort=name", "", status, "200", "400"},
		{59, m, "GET", "/volume-transfers?limit=1", "", rowsOf("transfers"), "0 rows", "1 rows"},
		{61, adm, "GET", "/volumes/{volume}", "", has("volume", "cluster_name"), "no", "yes"},
		{62, adm, "GET", "/default-types", "", status, "404", "200"},
		{63, m, "GET", "/volumes/{volume}", "", has("volume", "volume_type_id"), "no", "yes"},
		{65, m, "GET", "/volumes/{volume}", "", has("volume", "consumes_quota"), "no", "yes"},
		{65, m, "PUT", "/snapshots/{snapshot}", `{"snapshot":{"name":"x"}}`, has("snapshot", "consumes_quota"), "no", "yes"},
		{65, m, "GET", "/snapshots/{snapshot}", "", has("snapshot", "consumes_quota"), "no", "yes"},
		{37, m, "GET", "/backups?sort=name", "", status, "400", "200"},
		{37, m, "GET", "/backups?sort=display_name", "", status, "200", "200"},
		{43, m, "GET", "/backups/{backup}", "", has("backup", "metadata"), "no", "yes"},
		{43, m, "PUT", "/backups/{backup}", `{"backup":{"metadata":{"a":"b"}}}`, status, "400", "200"},
		{43, m, "POST", "/backups", `{"backup":{"volume_id":"{volume}","metadata":{"a":"b"}}}`, status, "400", "202"},
		{45, m, "GET", "/backups?with_count=True", "", has("count"), "no", "yes"},
		{47, m, "POST", "/volumes", `{"volume":{"size":1,"backup_id":"` + nobody + `"}}`, status, "404", "404"},
		{47, m, "POST", "/volumes", `{"volume":{"size":1,"backup_id":"nope"}}`, status, "404", "400"},
		{51, m, "POST", "/backups", `{"backup":{"volume_id":"{volume}","availability_zone":"nova"}}`, status, "400", "202"},
		{56, adm, "GET", "/backups/detail?all_tenants=1", "", has("backups", "0", "user_id"), "no", "yes"},
		{66, m, "POST", "/snapshots", `{"snapshot":{"volume_id":"{used}"}}`, status, "400", "202"},
		{66, m, "POST", "/snapshots", `{"snapshot":{"volume_id":"{volume}","force":false}}`, status, "202", "400"},
		{68, m, "POST", "/volumes/{volume}/action", `{"os-reimage":{"image_id":"{image}"}}`, status, "404", "202"},
		{70, m, "POST", "/volume-transfers", `{"transfer":{"volume_id":"{single}"}}`, status, "202", "202"},
	}
}

// silent microversions change nothing that is to be seen here, with the reason.
func silent() map[int]string {
	return map[int]string{
		1: "upload to Glance", 8: "manageable things", 16: "migration", 17: "clusters of manageable things",
		46: "images of Nova without data", 50: "multiattach is of types at every version",
		60: "times are filters from 3.31 on", 64: "no volume is encrypted",
		67: "the project is optional at every version", 69: "no target is shared",
	}
}

// TestMicroversions asks everything at the version before a change, at the change and at
// the last.
func TestMicroversions(t *testing.T) {
	all := changes()
	for n := 1; n <= 70; n++ {
		_, quiet := silent()[n]
		if shown := slices.ContainsFunc(all, func(c change) bool { return c.since == n }); shown == quiet {
			t.Errorf("3.%d is both or neither in changes and silent", n)
		}
	}
	for _, c := range all {
		for _, at := range []int{c.since - 1, c.since, 70} {
			want := c.now
			if at < c.since {
				want = c.before
			}
			rec := newCloud(t).ask(c.token, c.method, c.path, c.body, "OpenStack-API-Version", "volume 3."+strconv.Itoa(at))
			if got := c.look(rec); got != want {
				t.Errorf("3.%d: %s %s %s by %s at 3.%d: %s, want %s: %d %s", c.since, c.method, c.path, c.body, c.token, at, got, want, rec.Code, rec.Body)
			}
		}
	}
}
