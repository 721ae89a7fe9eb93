package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func (w *world) manageable(path string, headers ...string) []map[string]any {
	w.t.Helper()
	a := w.do("admin", "GET", path, "", headers...)
	if a.status != 200 {
		w.t.Fatalf("%s: %d %s", path, a.status, a.raw)
	}
	var out []map[string]any
	rows, _ := a.body["manageable-volumes"].([]any)
	for _, r := range rows {
		m, _ := r.(map[string]any)
		out = append(out, m)
	}
	return out
}

func names(rows []map[string]any) string {
	out := ""
	for _, r := range rows {
		ref, _ := r["reference"].(map[string]any)
		out += fmt.Sprint(ref["source-name"], " ")
	}
	return out
}

func TestManageableList(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	w.sched.Pool = []model.Manageable{
		{Reference: "thin-2", SizeGiB: 3}, {Reference: "thin-1", SizeGiB: 3, Reason: "because"}, {Reference: "volume-x", SizeGiB: 1, Reason: "already managed", ManagedAs: &id},
	}
	const all = "/os-volume-manage/detail?host=n1@vmthunder%23vmthunder"
	rows := w.manageable(all)
	if got := names(rows); got != "volume-x thin-2 thin-1 " {
		t.Errorf("by default in the order %s", got)
	}
	for i, want := range []string{
		fmt.Sprint(map[string]any{"reference": map[string]any{"source-name": "volume-x"}, "size": 1.0, "safe_to_manage": false, "reason_not_safe": "already managed", "cinder_id": id.String(), "extra_info": nil}),
		fmt.Sprint(map[string]any{"reference": map[string]any{"source-name": "thin-2"}, "size": 3.0, "safe_to_manage": true, "reason_not_safe": nil, "cinder_id": nil, "extra_info": nil}),
	} {
		if got := fmt.Sprint(rows[i]); got != want {
			t.Errorf("row %d is %s, want %s", i, got, want)
		}
	}
	if rows = w.manageable("/os-volume-manage?host=n1"); len(rows) != 3 || len(rows[0]) != 3 {
		t.Errorf("without detail %v", rows)
	}
	for query, want := range map[string]string{
		"&sort=size:asc,reference:desc":              "volume-x thin-2 thin-1 ",
		"&sort=size,reference:asc":                   "thin-1 thin-2 volume-x ",
		"&sort_key=reference&sort_dir=asc":           "thin-1 thin-2 volume-x ",
		"&limit=1":                                   "volume-x ",
		"&limit=1&offset=1":                          "thin-2 ",
		"&offset=9":                                  "",
		"&marker={'source-name':%20'thin-2'}":        "thin-1 ",
		"&marker={%22source-name%22:%22volume-x%22}": "thin-2 thin-1 ",
	} {
		if got := names(w.manageable(all + query)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, message := range map[string]string{
		"":                                    "Invalid input received: Host field is missing.",
		"?host=n1&sort=name":                  "Invalid sort keys passed: name",
		"?host=n1&sort=size:up":               "Invalid sort dirs passed: up",
		"?host=n1&marker=x":                   "Invalid input received: marker x can not be analysed, please use dict like format",
		"?host=n1&marker={'source-name':'y'}": "Invalid input received: marker not found: {'source-name': 'y'}",
		"?host=n1&limit=x":                    "limit param must be an integer",
	} {
		w.refused(w.do("admin", "GET", "/os-volume-manage"+query, "", "OpenStack-API-Version", "volume 3.0"), 400, message)
	}
	at := func(v string) []string { return []string{"OpenStack-API-Version", "volume " + v} }
	w.refused(w.do("admin", "GET", "/manageable_volumes?host=n1&cluster=c", "", at("3.17")...), 400, "One and only one of cluster and host must be set.")
	w.want(w.do("admin", "GET", "/manageable_volumes?host=n1&cluster=c", "", at("3.16")...), 200)
	w.refused(w.do("admin", "GET", "/os-volume-manage?host=n9@vmthunder", ""), 404, "Service None could not be found on host n9@vmthunder.")
	w.refused(w.do("admin", "GET", "/os-volume-manage?host=n2", ""), 503, "Service is unavailable at this time.")
	w.refused(w.do("alice", "GET", "/os-volume-manage?host=n1", ""), 403, "")
}

func TestManageVolume(t *testing.T) {
	w := newWorld(t)
	w.sched.Pool = []model.Manageable{{Reference: "thin-7", SizeGiB: 3}, {Reference: "thin-8", SizeGiB: 3}, {Reference: "thin-9", SizeGiB: 3}}
	manage := func(volume string, headers ...string) answer {
		return w.do("admin", "POST", "/os-volume-manage", `{"volume":`+volume+`}`, headers...)
	}
	got := w.want(manage(`{"host":"n1@vmthunder#vmthunder","ref":{"source-name":"thin-7"},"name":" m ","description":"d","metadata":{"a":"b"},"bootable":"true"}`), 202)
	if got["status"] != "creating" || got["size"] != 0.0 || got["name"] != "m" || got["bootable"] != "true" || got["volume_type"] == nil {
		t.Errorf("%v", got)
	}
	show := func(id any) map[string]any { return w.want(w.do("admin", "GET", fmt.Sprint("/volumes/", id), ""), 200) }
	if v := show(got["id"]); v["status"] != "available" || v["size"] != 3.0 || v["os-vol-host-attr:host"] != "n1@vmthunder#vmthunder" ||
		v["availability_zone"] != "nova" || v["description"] != "d" || fmt.Sprint(v["metadata"]) != "map[a:b]" || v["bootable"] != "true" {
		t.Errorf("%v", v)
	}
	for _, ref := range []string{`{"source-id":8,"size":10}`, `"thin-9"`} {
		// A number alone is the thin device's; the fake knows names only.
		w.want(manage(`{"host":"n1","ref":`+ref+`}`), 202)
	}
	bad := w.want(manage(`{"host":"n1","ref":{"source-name":"x"}}`), 202)
	if v := show(bad["id"]); bad["status"] != "creating" || v["status"] != "error" || v["size"] != 0.0 {
		t.Errorf("a bad reference: %v, then %v", bad, v)
	}
	w.want(w.do("admin", "DELETE", fmt.Sprint("/volumes/", bad["id"]), ""), 202)

	for volume, message := range map[string]string{
		`{"host":"n1"}`:                                                              "'ref' is a required property",
		`{"host":"n1","ref":7}`:                                                      "7 is not of type 'object', 'string'",
		`{"host":"n1","ref":null}`:                                                   "None is not of type 'object', 'string'",
		`{"host":"n1","ref":{},"x":1}`:                                               "Additional properties are not allowed ('x' was unexpected)",
		`{"host":"n1","ref":{},"cluster":"c"}`:                                       "Additional properties are not allowed ('cluster' was unexpected)",
		`{"ref":{"source-name":"thin-1"}}`:                                           "Invalid input received: Host field is missing.",
		`{"host":null,"ref":{"source-name":"thin-1"}}`:                               "Invalid input received: Host field is missing.",
		`{"host":"n1","ref":{},"bootable":"x"}`:                                      "'x' is not one of",
		`{"host":"n1","ref":{},"volume_type":"none"}`:                                "Invalid volume type: Cannot find requested 'none' volume type",
		`{"host":"n1","ref":{"source-name":"volume-` + fmt.Sprint(got["id"]) + `"}}`: "Invalid volume: Unable to manage existing volume. The volume is already managed",
		`{"ref":{"source-name":"volume-` + uuid.NewString() + `"}}`:                  "Invalid input received: ",
	} {
		w.refused(manage(volume, "OpenStack-API-Version", "volume 3.0"), 400, message)
	}
	w.refused(manage(`{"host":"n9@vmthunder","ref":{}}`), 400, "Host 'n9@vmthunder' not found")
	w.refused(manage(`{"host":"n2","ref":{}}`), 503, "Service is unavailable at this time.")
	v316 := []string{"OpenStack-API-Version", "volume 3.16"}
	w.refused(manage(`{"cluster":"c","ref":{}}`, v316...), 400, "Cluster 'c' not found")
	w.refused(manage(`{"ref":{}}`, v316...), 400, "One and only one of cluster and host must be set.")
	w.refused(w.do("alice", "POST", "/os-volume-manage", `{"volume":{"host":"n1","ref":{}}}`), 403, "")
}

func TestUnmanageVolume(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":2}}`)
	unmanage := func(token string) answer {
		return w.do(token, "POST", "/volumes/"+id+"/action", `{"os-unmanage":{}}`)
	}
	w.refused(unmanage("alice"), 403, "")
	set := func(s model.VolumeStatus) {
		w.store.Do(func(x *v3test.Store) { x.VolumeRows[0].Status = s })
	}
	for _, s := range []model.VolumeStatus{model.VolumeInUse, model.VolumeUploading, model.VolumeErrorDeleting, model.VolumeAwaitingTransfer, model.VolumeUnmanaging} {
		set(s)
		w.refused(unmanage("admin"), 400, "Invalid volume: Volume status must be available or error or")
	}
	set(model.VolumeAvailable)
	if a := unmanage("admin"); a.status != 202 || len(a.raw) != 0 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	w.refused(w.do("admin", "GET", "/volumes/"+id, ""), 404, "")
	// It can be managed again, without a host, since nothing was ever written to it.
	got := w.want(w.do("admin", "POST", "/os-volume-manage", `{"volume":{"host":null,"ref":{"source-name":"volume-`+id+`"}}}`), 202)
	v := w.want(w.do("admin", "GET", fmt.Sprint("/volumes/", got["id"]), ""), 200)
	if v["status"] != "available" || v["size"] != 2.0 || v["os-vol-host-attr:host"] != nil {
		t.Errorf("%v", v)
	}
}

func TestUnmanageAndManageSnapshot(t *testing.T) {
	w := newWorld(t)
	volume := w.volume("alice", `{"volume":{"size":2}}`)
	made := w.want(w.do("alice", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+volume+`"}}`), 202)
	id := fmt.Sprint(made["id"])
	unmanage := func(token string) answer {
		return w.do(token, "POST", "/snapshots/"+id+"/action", `{"os-unmanage":{}}`)
	}
	w.refused(unmanage("alice"), 403, "")
	w.store.Do(func(s *v3test.Store) { s.SnapshotRows[0].Status = model.SnapshotCreating })
	w.refused(unmanage("admin"), 400, "Invalid snapshot: Snapshot status must be available or error and must not be part of a group.")
	w.store.Do(func(s *v3test.Store) { s.SnapshotRows[0].Status = model.SnapshotAvailable })
	if a := unmanage("admin"); a.status != 202 || len(a.raw) != 0 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	w.refused(w.do("admin", "GET", "/snapshots/"+id, ""), 404, "")
	a := w.do("admin", "GET", "/os-snapshot-manage/detail?host=n1", "")
	want := `{"manageable-snapshots":[{"cinder_id":null,"extra_info":null,"reason_not_safe":null,"reference":{"source-name":"snapshot-` + id +
		`"},"safe_to_manage":true,"size":2,"source_reference":{"source-name":"volume-` + volume + `"}}]}`
	if got := strings.TrimSpace(string(a.raw)); a.status != 200 || got != want {
		t.Errorf("%d %s, want %s", a.status, got, want)
	}
	if rows := w.manageable("/os-volume-manage?host=n1"); len(rows) != 0 {
		t.Errorf("among volumes %v", rows)
	}
	manage := func(snapshot string) answer {
		return w.do("admin", "POST", "/manageable_snapshots", `{"snapshot":`+snapshot+`}`)
	}
	got := w.want(manage(`{"volume_id":"`+volume+`","ref":{"source-name":"snapshot-`+id+`"},"name":"s","metadata":{"a":"b"}}`), 202)
	sn := w.want(w.do("admin", "GET", fmt.Sprint("/snapshots/", got["id"]), ""), 200)
	if _, extended := got["os-extended-snapshot-attributes:progress"]; extended {
		t.Errorf("it shows what is for show and lists alone: %v", got)
	}
	if got["status"] != "creating" || got["size"] != 2.0 || sn["status"] != "available" || sn["name"] != "s" || sn["volume_id"] != volume || fmt.Sprint(sn["metadata"]) != "map[a:b]" {
		t.Errorf("%v, then %v", got, sn)
	}
	bad := w.want(manage(`{"volume_id":"`+volume+`","ref":null}`), 202)
	if sn = w.want(w.do("admin", "GET", fmt.Sprint("/snapshots/", bad["id"]), ""), 200); sn["status"] != "error" {
		t.Errorf("%v", sn)
	}
	for snapshot, message := range map[string]string{
		`{"volume_id":"` + volume + `"}`:                "'ref' is a required property",
		`{"ref":{}}`:                                    "'volume_id' is a required property",
		`{"volume_id":"x","ref":{}}`:                    "'x' is not a 'uuid'",
		`{"volume_id":"` + volume + `","ref":{},"x":1}`: "Additional properties are not allowed ('x' was unexpected)",
		`{"volume_id":"` + volume + `","ref":[]}`:       "[] is not of type 'object'",
	} {
		w.refused(manage(snapshot), 400, message)
	}
	w.refused(manage(`{"volume_id":"`+uuid.NewString()+`","ref":{}}`), 404, "could not be found.")
}
