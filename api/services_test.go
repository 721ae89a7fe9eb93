package api_test

import (
	"testing"

	"github.com/google/uuid"
)

// /os-hosts/{host} tells of all projects together, then of each.
func TestHostShares(t *testing.T) {
	w := newWorld(t)
	home := "n1"
	for token, gib := range map[string]string{"alice": "2", "bob": "3"} {
		w.snapshot(token, w.volume(token, `{"volume":{"size":`+gib+`}}`))
	}
	for i := range w.store.VolumeRows {
		w.store.VolumeRows[i].Home = &home
	}
	rows, _ := w.do("admin", "GET", "/os-hosts/n1@vmthunder", "").body["host"].([]any)
	if len(rows) != 3 {
		t.Fatalf("%v", rows)
	}
	for i, want := range []map[string]any{
		{"project": "(total)", "volume_count": "2", "total_volume_gb": "5", "snapshot_count": "2", "total_snapshot_gb": "5"},
		{"project": projectA, "volume_count": "1", "total_volume_gb": "2", "snapshot_count": "1", "total_snapshot_gb": "2"},
		{"project": projectB, "volume_count": "1", "total_volume_gb": "3", "snapshot_count": "1", "total_snapshot_gb": "3"},
	} {
		got, _ := rows[i].(map[string]any)["resource"].(map[string]any)
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%v: %s is %v, want %v", want["project"], k, got[k], v)
			}
		}
	}
}

// Services' actions say what is wrong with a body before what they would do.
func TestServiceBodies(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		action, body, text string
		status             int
	}{
		{"enable", `{"host":"n1@vmthunder","binary":"cinder-volume","disabled_reason":"x"}`, "('disabled_reason' was unexpected)", 400},
		{"disable-log-reason", `{"host":"nope","binary":"cinder-volume","disabled_reason":""}`, "'' is too short", 400},
		{"freeze", `{"host":"n1@vmthunder","binary":"cinder-volume"}`, "('binary' was unexpected)", 400},
		{"thaw", `{"cluster":"x","host":"n1@vmthunder"}`, "One and only one of cluster and host must be set.", 400},
		{"freeze", `{"cluster":"x"}`, "No service found with cluster=x", 400},
		{"get-log", `{"binary":"nova-api"}`, "'nova-api' is not one of", 400},
		{"get-log", `{"level":"DEBUG"}`, "('level' was unexpected)", 400},
	} {
		w.refused(w.do("admin", "PUT", "/os-services/"+c.action, c.body), c.status, c.text)
	}
	for _, c := range []struct{ method, path, body, text string }{
		{"PUT", "/clusters/enable", `{}`, "'name' is a required property"},
		{"PUT", "/clusters/enable", `{"name":"x","disabled_reason":"y"}`, "('disabled_reason' was unexpected)"},
		{"GET", "/clusters?limit=1", "", "Invalid filter keys: limit"},
		{"POST", "/workers/cleanup", `{"bogus":1}`, "('bogus' was unexpected)"},
		{"POST", "/workers/cleanup", `{"binary":"nova-api"}`, "'nova-api' is not one of"},
		{"POST", "/workers/cleanup", `{"resource_type":"image"}`, "Resource type image not valid, must be Snapshot or Volume"},
		{"POST", "/workers/cleanup", `{"service_id":"x"}`, "service_id"},
		{"POST", "/workers/cleanup", `{"resource_id":"` + uuid.Nil.String() + `"}`, "There is no resource with UUID " + uuid.Nil.String() + " pending cleanup."},
	} {
		w.refused(w.do("admin", c.method, c.path, c.body), 400, c.text)
	}
	w.refused(w.do("admin", "PUT", "/clusters/disable", `{"name":"x"}`), 404, "Cluster {'binary': 'cinder-volume', 'name': 'x'} could not be found.")
	w.want(w.do("admin", "POST", "/workers/cleanup", `{"host":"n1@vmthunder"}`), 202)
}
