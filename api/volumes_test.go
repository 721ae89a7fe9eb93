package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/goldentest"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestProjectsDoNotSeeEachOther(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1,"name":"a"}}`)
	for _, r := range [][3]string{
		{"GET", "/volumes/" + id, ""},
		{"DELETE", "/volumes/" + id, ""},
		{"PUT", "/volumes/" + id, `{"volume":{"name":"x"}}`},
		{"GET", "/volumes/" + id + "/metadata", ""},
		{"POST", "/volumes/" + id + "/metadata", `{"metadata":{"a":"b"}}`},
		{"DELETE", "/volumes/" + id + "/metadata/a", ""},
		{"GET", "/volumes/" + id + "/encryption", ""},
		{"POST", "/volumes/" + id + "/action", `{"os-reserve":null}`},
		{"POST", "/attachments", `{"attachment":{"volume_uuid":"` + id + `"}}`},
		{"POST", "/volumes", `{"volume":{"size":1,"source_volid":"` + id + `"}}`},
	} {
		w.refused(w.do("bob", r[0], r[1], r[2]), 404, "Volume "+id+" could not be found.")
	}
	for _, path := range []string{"/volumes/detail", "/volumes/detail?all_tenants=1", "/volumes?all_tenants=1&name=a"} {
		if a := w.do("bob", "GET", path, ""); a.status != 200 || len(a.body["volumes"].([]any)) != 0 {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
	if a := w.do("admin", "GET", "/volumes/detail?all_tenants=1", ""); len(a.body["volumes"].([]any)) != 1 {
		t.Errorf("admin: %s", a.raw)
	}
}

func TestAdministratorsOnly(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	for _, r := range [][4]string{
		{"GET", "/os-services", "", "volume_extension:services:index"},
		{"PUT", "/os-services/disable", `{"host":"n1@vmthunder","binary":"cinder-volume"}`, "volume_extension:services:update"},
		{"GET", "/os-hosts", "", "volume_extension:hosts"},
		{"GET", "/scheduler-stats/get_pools", "", "scheduler_extension:scheduler_stats:get_pools"},
		{"POST", "/types", `{"volume_type":{"name":"x"}}`, "volume_extension:type_create"},
		{"POST", "/volumes/" + id + "/action", `{"os-force_delete":{}}`, "volume_extension:volume_admin_actions:force_delete"},
		{"POST", "/volumes/" + id + "/action", `{"os-reset_status":{"status":"error"}}`, "volume_extension:volume_admin_actions:reset_status"},
		{"DELETE", "/volumes/" + id + "?force=true", "", "volume:force_delete"},
		{"GET", "/qos-specs", "", "volume_extension:qos_specs_manage:get_all"},
		{"GET", "/vmthunder/images", "", "vmthunder:images"},
		{"GET", "/vmthunder/nodes", "", "vmthunder:nodes"},
		{"GET", "/vmthunder/nodes/n1/drain", "", "vmthunder:drain"},
		{"POST", "/vmthunder/nodes/n1/drain", "", "vmthunder:drain"},
		{"DELETE", "/vmthunder/nodes/n1/drain", "", "vmthunder:drain"},
		{"GET", "/vmthunder/doctor", "", "vmthunder:doctor"},
		{"POST", "/vmthunder/doctor", "{}", "vmthunder:doctor"},
		{"POST", "/vmthunder/nodes/n1/forget-pool", "", "vmthunder:forget_pool"},
		{"GET", "/os-quota-sets/" + projectB, "", "volume_extension:quotas:show"},
	} {
		w.refused(w.do("alice", r[0], r[1], r[2]), 403, "Policy doesn't allow "+r[3]+" to be performed.")
	}
	v := w.want(w.do("alice", "GET", "/volumes/"+id, ""), 200)
	for _, k := range []string{"os-vol-host-attr:host", "migration_status", "provider_id", "cluster_name", "os-vol-mig-status-attr:migstat"} {
		if _, there := v[k]; there {
			t.Errorf("%s is shown to a user", k)
		}
	}
	if v["os-vol-tenant-attr:tenant_id"] != projectA {
		t.Error("the owner does not see the project")
	}
}

func TestCreateRefusals(t *testing.T) {
	w := newWorld(t)
	other := uuid.NewString()
	for _, c := range []struct {
		body, text string
		status     int
	}{
		{`{"size":1,"imageRef":"` + w.image.String() + `"}`, "Volume size 1GB cannot be smaller than the image minDisk size 2GB.", 400},
		{`{"size":2,"imageRef":"debian"}`, "Image virtual size is 3GB and doesn't fit in a volume of size 2GB.", 400},
		{`{"size":3,"imageRef":"` + other + `"}`, "Invalid image identifier or unable to access requested image.", 400},
		{`{"size":3,"imageRef":"nope"}`, "Invalid image identifier or unable to access requested image.", 400},
		{`{"size":1,"name":"` + strings.Repeat("x", 256) + `"}`, "Invalid input for field/attribute name.", 400},
		{`{"size":1,"source_volid":"nope"}`, "Value: nope. 'nope' is not valid under any of the given schemas", 400},
		{`{"size":1,"metadata":{"ä":"b"}}`, "'ä' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'", 400},
		{`{"size":1,"metadata":[]}`, "[] is not of type 'object', 'null'", 400},
		{`{"size":1,"metadata":{"a":1}}`, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string'", 400},
		{`{"size":1,"metadata":{"a":"` + strings.Repeat("x", 256) + `"}}`, "is too long", 400},
		{`{"size":1.5}`, "Invalid input for field/attribute size. Value: 1.5. 1.5 is not of type 'integer', 'string'", 400},
		{`{"size":99999999999}`, "99999999999 is greater than the maximum of 2147483647", 400},
		{`{"size":1,"backup_id":"` + other + `"}`, "Backup " + other + " could not be found.", 404},
		{`{"size":1,"group_id":"` + other + `"}`, "Group " + other + " could not be found.", 404},
		{`{"size":1,"volume_type":"` + other + `"}`, "Volume type " + other + " could not be found.", 404},
		{
			`{"size":1,"frob":{"a":[1,null,true,"x"]},"b":1}`,
			"Value: {'size': 1, 'frob': {'a': [1, None, True, 'x']}, 'b': 1}. Additional properties are not allowed ('frob', 'b' were unexpected)", 400,
		},
	} {
		w.refused(w.do("alice", "POST", "/volumes", `{"volume":`+c.body+`}`), c.status, c.text)
	}
	w.glance.Images = append(w.glance.Images, model.Image{ID: uuid.New(), Name: "debian"})
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":9,"imageRef":"debian"}}`), 409, "Multiple matches found for 'debian'")
	w.glance.Err = fmt.Errorf("%w: Image x is not active.", model.ErrInvalid)
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":9,"imageRef":"debian"}}`), 400, "Invalid input received: Image x is not active.")
	w.glance.Err = fmt.Errorf("image: %w", model.ErrUnavailable)
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":9,"imageRef":"debian"}}`), 503, "image service")
	if len(w.store.VolumeRows) != 0 || len(w.sched.Calls) != 0 {
		t.Errorf("written: %v %v", w.store.VolumeRows, w.sched.Calls)
	}
	w.store.LimitRows["volumes"] = 0
	a := w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`)
	w.refused(a, 413, "VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded")
	if a.header.Get("Retry-After") != "0" {
		t.Error("413 without Retry-After")
	}
}

func TestCreateFromImageWithoutBus(t *testing.T) {
	w := newWorld(t)
	w.sched.BusErr = errSomething
	w.store.ImageRows = []model.Image{{ID: w.image, Status: model.ImageImporting, Phase: "download", Done: 174 << 20, Total: 512 << 20}}
	v := w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":3,"imageRef":"http://glance.example/v2/images/`+w.image.String()+
		`","display_name":" n ","availability_zone":"far","metadata":{"a":"b","vmthunder:import":"x"}}}`), 202)
	if v["status"] != "creating" || v["name"] != "n" || v["availability_zone"] != "far" || v["updated_at"] != nil {
		t.Errorf("created: %v", v)
	}
	id, _ := v["id"].(string)
	v = w.want(w.do("alice", "GET", "/volumes/"+id, ""), 200)
	m, _ := v["metadata"].(map[string]any)
	im, _ := v["volume_image_metadata"].(map[string]any)
	if v["status"] != "downloading" || m["vmthunder:import"] != "download 33% of 512 MiB" || m["a"] != "b" || im["image_name"] != "debian" || im["min_disk"] != "2" {
		t.Errorf("while downloading: %v %v", v, m)
	}
	if a := w.do("alice", "GET", "/volumes/"+id+"/metadata", ""); strings.Contains(string(a.raw), "vmthunder:") {
		t.Errorf("stored: %s", a.raw)
	}
	reason := "the image is broken"
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status, s.VolumeRows[0].Error = model.VolumeError, &reason })
	a := w.do("alice", "GET", "/volumes/detail", "")
	if !strings.Contains(string(a.raw), `"vmthunder:error":"the image is broken"`) || strings.Contains(string(a.raw), "vmthunder:import") {
		t.Errorf("error: %s", a.raw)
	}
}

func TestBatch(t *testing.T) {
	w := newWorld(t)
	names := func(body string) []string {
		a := w.do("alice", "POST", "/volumes/batch", body)
		w.want(a, 202)
		var out []string
		for _, v := range a.body["volumes"].([]any) {
			out = append(out, fmt.Sprint(v.(map[string]any)["name"]))
		}
		return out
	}
	if got := names(`{"volume":{"size":1},"count":3,"name_template":"vm-{}-root"}`); !slices.Equal(got, []string{"vm-1-root", "vm-2-root", "vm-3-root"}) {
		t.Errorf("names %v", got)
	}
	if got := names(`{"volume":{"size":1,"name":"x"},"count":2}`); !slices.Equal(got, []string{"x-1", "x-2"}) {
		t.Errorf("names %v", got)
	}
	if !slices.Equal(w.sched.Calls, []string{"create 3", "create 2"}) {
		t.Errorf("transactions: %v", w.sched.Calls)
	}
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":0}`), 400, "less than the minimum")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":1001}`), 400, "greater than the maximum")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1}}`), 400, "'count' is a required property")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":2,"name_template":"x"}`), 400, "name_template")
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 5 {
		ids = append(ids, w.volume("alice", fmt.Sprintf(`{"volume":{"size":%d,"name":"v%d"}}`, i+1, i)))
	}
	slices.Reverse(ids) // newest first
	path, got := "/"+projectA+"/volumes/detail?limit=2", []string{}
	for range 4 {
		a := w.do("alice", "GET", path, "")
		for _, v := range a.body["volumes"].([]any) {
			got = append(got, fmt.Sprint(v.(map[string]any)["id"]))
		}
		links, more := a.body["volumes_links"].([]any)
		if !more {
			break
		}
		href := fmt.Sprint(links[0].(map[string]any)["href"])
		path = strings.TrimPrefix(href, "http://vt.example:8776/v3")
	}
	if !slices.Equal(got, ids) {
		t.Errorf("pages %v, want %v", got, ids)
	}
	for query, want := range map[string]int{
		"limit=0": 0, "offset=3": 2, "limit=2&offset=4": 1, "name=v1": 1, "status=error": 0, "bootable=false": 5,
		"created_at=gt:2020-01-01": 5, "created_at=lt:2020-01-01": 0, "size=3": 1, "sort=size:asc,name:desc": 5,
		"created_at=gte:2020-01-01,lt:2100-01-01T00:00:00": 5, "metadata={'a':'b'}": 0, "group_id=nope": 0,
	} {
		a := w.do("alice", "GET", "/volumes?with_count=True&"+strings.NewReplacer("{", "%7B", "}", "%7D").Replace(query), "")
		w.want(a, 200)
		if n := len(a.body["volumes"].([]any)); n != want {
			t.Errorf("%s: %d rows", query, n)
		}
	}
	a := w.do("alice", "GET", "/volumes?with_count=True&limit=1&size=3", "")
	if a.body["count"] != float64(1) {
		t.Errorf("count: %s", a.raw)
	}
	for query, text := range map[string]string{
		"limit=x": "integer", "offset=-1": "offset must be >= 0", "host=n1": "Invalid filters host are found",
		"created_at=gt:x": "Invalid x value", "created_at=2020-01-01": "Invalid 2020-01-01 operator",
		"bootable=perhaps": "'bootable = perhaps'", "consumes_quota=x": "'use_quota'", "sort=name&sort_key=name": "deprecated", "with_count=x": "with_count",
		"sort_key=name&sort_dir=": "Unknown sort direction",
	} {
		w.refused(w.do("alice", "GET", "/volumes?"+query, ""), 400, text)
	}
	if a := w.do("alice", "GET", "/volumes?metadata=x", ""); a.status != 200 || len(a.body["volumes"].([]any)) != 0 {
		t.Errorf("metadata that is no dictionary: %s", a.raw)
	}
	w.want(w.do("admin", "GET", "/volumes?sort=host:asc&host=n1@vmthunder", ""), 200)
	if a := w.do("admin", "GET", "/volumes?frob=1", ""); len(a.body["volumes"].([]any)) != 0 {
		t.Errorf("unknown column for an administrator: %s", a.raw)
	}
	if a := w.do("alice", "GET", "/volumes?frob=1", "", "OpenStack-API-Version", "volume 3.30"); len(a.body["volumes"].([]any)) != 5 {
		t.Errorf("unknown column before 3.31: %s", a.raw)
	}
}

func TestMetadataETag(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1,"metadata":{"a":"b"}}}`)
	tag := w.do("alice", "GET", "/volumes/"+id+"/metadata", "").header.Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	w.want(w.do("alice", "PUT", "/volumes/"+id+"/metadata", `{"metadata":{"c":"d"}}`, "If-Match", tag), 200)
	if a := w.do("alice", "PUT", "/volumes/"+id+"/metadata", `{"metadata":{"e":"f"}}`, "If-Match", tag); a.status != 412 {
		t.Errorf("stale tag: %d %s", a.status, a.raw)
	}
	if m := w.want(w.do("alice", "GET", "/volumes/"+id+"/metadata", ""), 200); len(m) != 1 || m["c"] != "d" {
		t.Errorf("metadata %v", m)
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	for _, query := range []string{"", "?cascade=True", "?force=False"} {
		id := w.volume("alice", `{"volume":{"size":1}}`)
		if a := w.do("alice", "DELETE", "/volumes/"+id+query, ""); a.status != 202 || len(a.raw) != 0 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("delete%s: %d %s", query, a.status, a.raw)
		}
		w.refused(w.do("alice", "GET", "/volumes/"+id, ""), 404, id)
	}
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.want(w.do("admin", "POST", "/volumes/"+id+"/action", `{"os-reset_status":{"status":"creating"}}`), 202)
	w.refused(w.do("alice", "DELETE", "/volumes/"+id, ""), 400, "Invalid volume: Volume status must be available or error")
	w.want(w.do("admin", "POST", "/volumes/"+id+"/action", `{"os-force_delete":null}`), 202)
}

func TestPrivateTypes(t *testing.T) {
	w := newWorld(t)
	id := fmt.Sprint(w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"gold","os-volume-type-access:is_public":false,`+
		`"extra_specs":{"secret":"x","multiattach":"<is> True"}}}`), 200)["id"])
	w.refused(w.do("bob", "GET", "/types/"+id, ""), 404, "Volume type "+id)
	w.refused(w.do("bob", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"gold"}}`), 404, "Volume type with name gold")
	w.refused(w.do("bob", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"`+id+`"}}`), 404, "Volume type "+id)
	w.want(w.do("admin", "POST", "/types/"+id+"/action", `{"addProjectAccess":{"project":"`+projectB+`"}}`), 202)
	v := w.want(w.do("bob", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"gold"}}`), 202)
	if v["multiattach"] != true || v["volume_type"] != "gold" {
		t.Errorf("volume: %v", v)
	}
	a := w.do("bob", "GET", "/types/"+id, "")
	if strings.Contains(string(a.raw), "secret") || strings.Contains(string(a.raw), "qos_specs_id") || !strings.Contains(string(a.raw), "multiattach") {
		t.Errorf("shown to a user: %s", a.raw)
	}
	w.refused(w.do("admin", "DELETE", "/types/"+id, ""), 400, "Target volume type is still in use.")
	if a := w.do("alice", "GET", "/types", ""); len(a.body["volume_types"].([]any)) != 1 {
		t.Errorf("alice's types: %s", a.raw)
	}
}

func TestServices(t *testing.T) {
	w := newWorld(t)
	w.store.ServiceRows = []model.Service{{Host: "ctl1", Binary: "vmthunder-api", LastSeen: w.store.Clock}}
	a := w.do("admin", "GET", "/os-services", "")
	var got []string
	for _, s := range a.body["services"].([]any) {
		m := s.(map[string]any)
		got = append(got, fmt.Sprint(m["binary"], " ", m["host"], " ", m["zone"], " ", m["status"], " ", m["state"]))
	}
	want := []string{"cinder-scheduler ctl1 nova enabled up", "cinder-volume n1@vmthunder nova enabled up", "cinder-volume n2@vmthunder far enabled down"}
	if !slices.Equal(got, want) {
		t.Errorf("services %q", got)
	}
	w.want(w.do("admin", "PUT", "/os-services/disable-log-reason", `{"host":"n1@vmthunder","binary":"cinder-volume","disabled_reason":"r"}`), 200)
	w.want(w.do("admin", "PUT", "/os-services/freeze", `{"host":"n1@vmthunder"}`), 200)
	n := w.store.NodeRows[0]
	if n.Enabled || n.DisabledReason == nil || *n.DisabledReason != "r" || !n.Frozen {
		t.Errorf("node %+v", n)
	}
	w.refused(w.do("admin", "PUT", "/os-services/enable", `{"host":"n9@vmthunder","binary":"cinder-volume"}`), 404,
		"Service cinder-volume could not be found on host n9@vmthunder.")
	w.refused(w.do("admin", "PUT", "/os-services/enable", `{"host":"n1@lvm","binary":"cinder-volume"}`), 404, "n1@lvm")
	for _, action := range []string{"freeze", "thaw"} {
		w.refused(w.do("admin", "PUT", "/os-services/"+action, `{"host":"n9@vmthunder"}`), 400,
			"No service found with host=n9@vmthunder")
	}
	for host, binary := range map[string]string{"ctl9": "cinder-scheduler", "ctl1": "cinder-backup"} {
		w.refused(w.do("admin", "PUT", "/os-services/enable", `{"host":"`+host+`","binary":"`+binary+`"}`), 404,
			"Service "+binary+" could not be found on host "+host+".")
	}
	// What is frozen takes nothing new, which clients see as disabled; once is enough.
	w.want(w.do("admin", "PUT", "/os-services/enable", `{"host":"n1@vmthunder","binary":"cinder-volume"}`), 200)
	w.refused(w.do("admin", "PUT", "/os-services/freeze", `{"host":"n1@vmthunder"}`), 400, "frozen in ['n1@vmthunder'] must be False to failover.")
	frozen := w.do("admin", "GET", "/os-services?host=n1@vmthunder", "").body["services"].([]any)[0].(map[string]any)
	if frozen["status"] != "disabled" || frozen["disabled_reason"] != "frozen" || frozen["frozen"] != true {
		t.Errorf("%v", frozen)
	}
	w.want(w.do("admin", "PUT", "/os-services/enable", `{"host":"ctl1","binary":"cinder-scheduler"}`), 200)
	w.refused(w.do("admin", "PUT", "/os-services/disable-log-reason", `{"host":"ctl1","binary":"cinder-scheduler","disabled_reason":null}`), 400, "None is not of type 'string'")
	w.refused(w.do("admin", "PUT", "/os-services/disable", `{"host":"ctl1","binary":"cinder-scheduler"}`), 400, "not supported")
	zones := string(w.do("alice", "GET", "/os-availability-zone", "").raw)
	if zones != `{"availabilityZoneInfo":[{"zoneName":"far","zoneState":{"available":false}},{"zoneName":"nova","zoneState":{"available":false}}]}` {
		t.Errorf("zones %s", zones)
	}
}

// What a change of a volume says and does about keys that are null or unknown.
func TestUpdate(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1,"name":"n","description":"d"}}`)
	path := "/volumes/" + id
	if v := w.want(w.do("alice", "PUT", path, `{"volume":{"name":null}}`), 200); v["name"] != nil || v["description"] != "d" {
		t.Errorf("name null: %v", v)
	}
	if v := w.want(w.do("alice", "PUT", path, `{"volume":{"display_description":null,"name":" x "}}`), 200); v["name"] != "x" || v["description"] != nil {
		t.Errorf("description null: %v", v)
	}
	w.refused(w.do("alice", "PUT", path, `{"volume":{"size":2}}`), 400, "Additional properties are not allowed ('size' was unexpected)")
	w.refused(w.do("alice", "PUT", path+"/metadata/k", `{"meta":{}}`), 400, "{} does not have enough properties")
	w.refused(w.do("alice", "PUT", path+"/metadata/k", `{"meta":{"k":"v","l":"w"}}`), 400, "has too many properties")
	w.refused(w.do("alice", "POST", path+"/action", `{"os-show_image_metadata":null}`), 404, "Glance metadata for volume/snapshot "+id+" cannot be found.")
	w.refused(w.do("alice", "POST", path+"/action", `{"os-terminate_connection":{}}`), 400, "'connector' is a required property")
}

// An image may name the type of volumes that ask for none.
func TestTypeOfImage(t *testing.T) {
	w := newWorld(t)
	w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"gold"}}`), 200)
	w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"silver"}}`), 200)
	for _, x := range []struct{ property, asked, want string }{
		{"gold", "", "gold"}, {"gold", "silver", "silver"}, {"nosuch", "", "__DEFAULT__"}, {"", "", "__DEFAULT__"},
	} {
		w.glance.Images[0].Properties = model.StringMap{"cinder_img_volume_type": x.property}
		body := w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":3,"imageRef":"`+w.image.String()+`","volume_type":"`+x.asked+`"}}`), 202)
		if body["volume_type"] != x.want {
			t.Errorf("image says %q, asked for %q: volume of type %v, want %s", x.property, x.asked, body["volume_type"], x.want)
		}
	}
}

func TestExtensions(t *testing.T) {
	w := newWorld(t)
	a := w.do("alice", "GET", "/extensions", "")
	have := map[string]bool{}
	for _, e := range a.body["extensions"].([]any) {
		have[fmt.Sprint(e.(map[string]any)["alias"])] = true
	}
	calls, err := goldentest.Calls()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if c.Path != "/extensions" {
			continue
		}
		for _, part := range strings.Split(c.Answer, `"alias": "`)[1:] {
			alias, _, _ := strings.Cut(part, `"`)
			if !have[alias] {
				t.Errorf("%s is missing", alias)
			}
			delete(have, alias)
		}
	}
	if len(have) != 1 || !have["vmthunder"] {
		t.Errorf("beside Cinder's: %v", have)
	}
	w.want(w.do("alice", "GET", "/extensions/vmthunder", ""), 200)
	w.refused(w.do("alice", "GET", "/extensions/nope", ""), 404, "")
}

func TestOperator(t *testing.T) {
	w := newWorld(t)
	n1 := "n1"
	w.store.ImageRows = []model.Image{{ID: w.image, Name: "debian", Status: model.ImageActive}}
	w.store.MemberRows = []model.Member{
		{ImageID: w.image, Host: "n2", Role: model.RoleRelay, Parent: &n1, Depth: 1, Secret: "chap-secret", CacheHits: 7},
		{ImageID: w.image, Host: "n1", Role: model.RoleRoot, Children: 1},
	}
	a := w.do("admin", "GET", "/vmthunder/images/"+w.image.String()+"/tree", "")
	members := a.body["members"].([]any)
	if strings.Contains(string(a.raw), "chap-secret") || members[0].(map[string]any)["host"] != "n1" || members[1].(map[string]any)["parent"] != "n1" {
		t.Errorf("tree: %s", a.raw)
	}
	w.refused(w.do("admin", "GET", "/vmthunder/images/"+uuid.NewString()+"/tree", ""), 404, "Image")
	if a := w.do("admin", "GET", "/vmthunder/nodes", ""); len(a.body["nodes"].([]any)) != 2 {
		t.Errorf("nodes: %s", a.raw)
	}
	w.store.NodeRows[0].PoolUUID, w.store.NodeRows[0].PoolState = "p", "foreign"
	host := w.store.NodeRows[0].Host
	if a := w.do("admin", "POST", "/vmthunder/nodes/"+host+"/forget-pool", ""); a.status != 202 || w.store.NodeRows[0].PoolUUID != "" {
		t.Errorf("forget-pool: %d %s, pool %q", a.status, a.raw, w.store.NodeRows[0].PoolUUID)
	}
	w.refused(w.do("admin", "POST", "/vmthunder/nodes/nobody/forget-pool", ""), 404, "Node nobody could not be found.")
	for method, draining := range map[string]bool{"POST": true, "DELETE": false} {
		w.store.NodeRows[0].Draining = !draining
		a := w.do("admin", method, "/vmthunder/nodes/"+host+"/drain", "")
		if a.status != 200 || a.body["draining"] != draining || a.body["host"] != host || w.store.NodeRows[0].Draining != draining {
			t.Errorf("%s: %d %s", method, a.status, a.raw)
		}
		w.refused(w.do("admin", method, "/vmthunder/nodes/nobody/drain", ""), 404, "Node nobody could not be found.")
	}
	w.refused(w.do("admin", "GET", "/vmthunder/nodes/nobody/drain", ""), 404, "Node nobody could not be found.")
	if a := w.do("admin", "GET", "/vmthunder/images", ""); len(a.body["images"].([]any)) != 1 {
		t.Errorf("images: %s", a.raw)
	}
}

// plainStore hides the optional interfaces.
type plainStore struct{ v3.Store }
