package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

const malformed = "The server could not comply with the request since it is either malformed or otherwise incorrect."

// numbers of a set as text, in the order of the keys that are asked for.
func numbers(set map[string]any, keys ...string) string {
	var out []string
	for _, k := range keys {
		out = append(out, fmt.Sprint(set[k]))
	}
	return strings.Join(out, " ")
}

// Every answer here is one that Cinder 21.3.1 gave to the same body.
func TestQuotaBodies(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 256)
	const set, class = "/os-quota-sets/" + projectB, "/os-quota-class-sets/gold"
	const field = "Invalid input for field/attribute "
	for _, c := range []struct{ path, body, want string }{
		{set, `{}`, "'quota_set' is a required property"},
		{set, `[]`, "[] is not of type 'object'"},
		{set, `{"quota_set":{}}`, field + "quota_set. Value: {}. {} does not have enough properties"},
		{set, `{"quota_set":[]}`, field + "quota_set. Value: []. [] is not of type 'object'"},
		{set, `{"quota_set":null}`, field + "quota_set. Value: None. None is not of type 'object'"},
		{set, `{"quota_set":"x"}`, field + "quota_set. Value: x. 'x' is not of type 'object'"},
		{set, `{"quota_set":{"volumes":1},"extra":1}`, "Additional properties are not allowed ('extra' was unexpected)"},
		{set, `{"quota_set":{"volumes":10}} x`, "Malformed request body"},
		{set, `{"quota_set":{"foo":1}}`, "Invalid input received: Bad key(s) in quota set: foo"},
		{set, `{"quota_set":{"foo":1,"bar":2,"volumes":3}}`, "Invalid input received: Bad key(s) in quota set: foo, bar"},
		{set, `{"quota_set":{"foo":1,"volumes":"a"}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"class_name":"x"}}`, "Invalid input received: Bad key(s) in quota set: class_name"},
		{set, `{"quota_set":{"project_id":"x"}}`, "Invalid input received: Bad key(s) in quota set: project_id"},
		{set, `{"quota_set":{"consistencygroups":3}}`, "Invalid input received: Bad key(s) in quota set: consistencygroups"},
		{set, `{"quota_set":{"volumes_":1}}`, "Invalid input received: Bad key(s) in quota set: volumes_"},
		{set, `{"quota_set":{"volumes":"8"}}`, malformed},
		{set, `{"quota_set":{"volumes":" 9 "}}`, malformed},
		{set, `{"quota_set":{"volumes":"-1"}}`, malformed},
		{set, `{"quota_set":{"volumes":"1_0"}}`, malformed},
		{set, `{"quota_set":{"volumes":"+4"}}`, malformed},
		{set, `{"quota_set":{"volumes":"7.5"}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":"0x10"}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":""}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":7.5}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":7.0}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":1e3}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":null}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":true}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":[]}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":{}}}`, "volumes must be an integer"},
		{set, `{"quota_set":{"volumes":-2}}`, "volumes must be >= -1"},
		{set, `{"quota_set":{"volumes":2147483648}}`, "volumes must be <= 2147483647"},
		{set, `{"quota_set":{"volumes":99999999999999999999}}`, "volumes must be <= 2147483647"},
		{set, `{"quota_set":{"volumes":-99999999999999999999}}`, "volumes must be >= -1"},
		{"/os-quota-sets/" + long, `{"quota_set":{"volumes":5}}`, "Invalid input received: quota_set_name has 256 characters, more than 255."},

		{class, `{}`, "'quota_class_set' is a required property"},
		{class, `{"quota_class_set":[]}`, field + "quota_class_set. Value: []. [] is not of type 'object'"},
		{class, `{"quota_class_set":null}`, field + "quota_class_set. Value: None. None is not of type 'object'"},
		{class, `{"quota_class_set":{"volumes":5},"x":1}`, "Additional properties are not allowed ('x' was unexpected)"},
		{class, `{"quota_class_set":{"foo":5,"bar":2}}`, "Invalid input received: Bad key(s) in quota class set: foo, bar"},
		{class, `{"quota_class_set":{"tenant_id":5}}`, "Invalid input received: Bad key(s) in quota class set: tenant_id"},
		{class, `{"quota_class_set":{"f/o":"x"}}`, "Invalid input received: Bad key(s) in quota class set: f/o"},
		{class, `{"quota_class_set":{"volumes":"-1"}}`, field + "volumes. Value: -1. '-1' does not match '^[0-9]*$'"},
		{class, `{"quota_class_set":{"volumes":"abc"}}`, field + "volumes. Value: abc. 'abc' does not match '^[0-9]*$'"},
		{class, `{"quota_class_set":{"volumes":" 7"}}`, field + "volumes. Value:  7. ' 7' does not match '^[0-9]*$'"},
		{class, `{"quota_class_set":{"volumes":""}}`, field + "volumes. Value: . '' is too short"},
		{class, `{"quota_class_set":{"volumes":-2}}`, field + "volumes. Value: -2. -2 is less than the minimum of -1"},
		{class, `{"quota_class_set":{"volumes":2147483648}}`, field + "volumes. Value: 2147483648. 2147483648 is greater than the maximum of 2147483647"},
		{class, `{"quota_class_set":{"volumes":"2147483648"}}`, field + "volumes. Value: 2147483648. 2147483648 is greater than the maximum of 2147483647"},
		{class, `{"quota_class_set":{"volumes":null}}`, field + "volumes. Value: None. None is not of type 'integer', 'string'"},
		{class, `{"quota_class_set":{"volumes":true}}`, field + "volumes. Value: True. True is not of type 'integer', 'string'"},
		{class, `{"quota_class_set":{"volumes":1.5}}`, field + "volumes. Value: 1.5. 1.5 is not of type 'integer', 'string'"},
		{class, `{"quota_class_set":{"volumes":2.0}}`, field + "volumes. Value: 2.0. 2.0 is not of type 'integer', 'string'"},
		{"/os-quota-class-sets/" + long, `{"quota_class_set":{"volumes":5}}`, "Invalid input received: quota_class_name has 256 characters, more than 255."},
	} {
		if m := w.want(w.do("admin", "PUT", c.path, c.body), 400); m["message"] != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.path, c.body, m["message"], c.want)
		}
	}
	if len(w.store.QuotaRows) != 0 || len(w.store.ClassRows) != 0 {
		t.Errorf("a refused body was written: %v %v", w.store.QuotaRows, w.store.ClassRows)
	}
	for _, c := range []struct{ path, body, key, want string }{
		{set, `{"quota_set":{"volumes":5}}`, "volumes", "5"},
		{set, `{"quota_set":{"volumes":7,"tenant_id":"x","id":"y"}}`, "volumes", "7"},
		{set, `{"quota_set":{"tenant_id":"x"}}`, "volumes", "7"},
		{set, `{"quota_set":{"volumes":-1}}`, "volumes", "-1"},
		{set, `{"quota_set":{"volumes":2147483647}}`, "volumes", "2.147483647e+09"},
		{set, `{"quota_set":{"per_volume_gigabytes":"3"}}`, "per_volume_gigabytes", "3"},
		{set, `{"quota_set":{"volumes___DEFAULT__":9}}`, "volumes___DEFAULT__", "9"},
		{class, `{"quota_class_set":{}}`, "groups", "10"},
		{class, `{"quota_class_set":{"volumes":"6"}}`, "volumes", "6"},
		{class, `{"quota_class_set":{"volumes":-1}}`, "volumes", "-1"},
		{class, `{"quota_class_set":{"groups":2,"gigabytes___DEFAULT__":77}}`, "gigabytes___DEFAULT__", "77"},
	} {
		set := w.want(w.do("admin", "PUT", c.path, c.body), 200)
		if _, ok := set["id"]; ok || len(set) != 10 || numbers(set, c.key) != c.want {
			t.Errorf("%s %s: %v", c.path, c.body, set)
		}
	}
}

func TestQuotaSets(t *testing.T) {
	w := newWorld(t)
	w.kind(`{"name":"gold"}`)
	w.kind(`{"name":"secret","os-volume-type-access:is_public":false}`)
	const path = "/os-quota-sets/" + projectA
	all := []string{"volumes", "gigabytes", "snapshots", "per_volume_gigabytes", "backups", "backup_gigabytes", "groups", "volumes_gold", "gigabytes_secret", "id"}
	show := func(token, path, want string) {
		t.Helper()
		if got := numbers(w.want(w.do(token, "GET", path, ""), 200), all...); got != want {
			t.Errorf("%s as %s: %s, want %s", path, token, got, want)
		}
	}
	w.want(w.do("admin", "PUT", path, `{"quota_set":{"volumes":3,"volumes_gold":1,"groups":0,"gigabytes":20}}`), 200)
	w.want(w.do("admin", "PUT", "/os-quota-class-sets/default", `{"quota_class_set":{"backups":4,"volumes":12,"gigabytes_secret":7}}`), 200)
	w.want(w.do("admin", "PUT", "/os-quota-class-sets/silver", `{"quota_class_set":{"volumes":6}}`), 200)
	show("alice", path, "3 20 10 -1 4 1000 0 1 7 "+projectA)
	show("alice", path+"?usage=False", "3 20 10 -1 4 1000 0 1 7 "+projectA)
	show("alice", path+"/defaults", "12 -1 10 -1 4 1000 10 -1 7 "+projectA)
	show("admin", "/os-quota-sets/nobody", "12 -1 10 -1 4 1000 10 -1 7 nobody")
	show("admin", "/os-quota-class-sets/default", "12 -1 10 -1 4 1000 10 -1 7 default")
	show("admin", "/os-quota-class-sets/silver", "6 -1 10 -1 4 1000 10 -1 7 silver")

	w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":2,"volume_type":"gold"}}`), 202)
	a := w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"volume_type":"gold"}}`)
	w.refused(a, 413, "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes_gold'.")
	w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":5}}`), 202)
	used := w.want(w.do("alice", "GET", path+"?usage=True", ""), 200)
	for k, want := range map[string]string{
		"volumes": "2/3", "gigabytes": "7/20", "volumes_gold": "1/1", "gigabytes_gold": "2/-1", "volumes___DEFAULT__": "1/-1", "snapshots": "0/10", "per_volume_gigabytes": "0/-1",
	} {
		m, _ := used[k].(map[string]any)
		if got := fmt.Sprintf("%v/%v", m["in_use"], m["limit"]); got != want || m["reserved"] != float64(0) || len(m) != 3 {
			t.Errorf("%s: %v, want %s", k, used[k], want)
		}
	}
	for value, ok := range map[string]bool{"true": true, "1": true, "yes": true, "on": true, "t": true, "0": true, "False": true, "foo": false, "": false} {
		a := w.do("alice", "GET", path+"?usage="+value, "")
		if ok {
			w.want(a, 200)
		} else {
			w.refused(a, 400, "Value '"+value+"' for 'usage' is not a boolean.")
		}
	}
	w.want(w.do("alice", "GET", path+"?usage=foo&usage=True", ""), 200)

	// Below what is used: refused where there was a limit before.
	w.refused(w.do("admin", "PUT", path, `{"quota_set":{"volumes":1,"snapshots":5}}`), 400,
		"Quota volumes limit must be equal or greater than existing resources. Current usage is 2 and the requested limit is 1.")
	w.want(w.do("admin", "PUT", path, `{"quota_set":{"gigabytes_gold":0,"volumes":-1,"per_volume_gigabytes":1}}`), 200)
	w.refused(w.do("admin", "PUT", path, `{"quota_set":{"gigabytes_gold":1}}`), 400, "Current usage is 2 and the requested limit is 1.")
	show("alice", path, "-1 20 10 1 4 1000 0 1 7 "+projectA)
	gone := w.do("admin", "DELETE", path, "")
	if gone.status != 200 || len(gone.raw) != 0 {
		t.Errorf("deleted: %d %s", gone.status, gone.raw)
	}
	w.want(w.do("admin", "DELETE", path, ""), 200)
	show("alice", path, "12 -1 10 -1 4 1000 10 -1 7 "+projectA)

	for _, c := range []struct{ token, method, path, body, rule string }{
		{"alice", "PUT", path, `{"quota_set":{"volumes":5}}`, "volume_extension:quotas:update"},
		{"alice", "DELETE", path, "", "volume_extension:quotas:delete"},
		{"alice", "GET", "/os-quota-sets/" + projectB, "", "volume_extension:quotas:show"},
		{"alice", "GET", "/os-quota-sets/" + projectB + "/defaults", "", "volume_extension:quotas:show"},
		{"alice", "GET", "/os-quota-class-sets/default", "", "volume_extension:quota_classes:get"},
		{"alice", "PUT", "/os-quota-class-sets/default", `{"quota_class_set":{"volumes":5}}`, "volume_extension:quota_classes:update"},
	} {
		w.refused(w.do(c.token, c.method, c.path, c.body), 403, "Policy doesn't allow "+c.rule+" to be performed.")
	}
	w.refused(w.do("alice", "PUT", path, `{"foo":1}`), 400, "'quota_set' is a required property") // Cinder looks at the body first
}

func TestQuotaMessages(t *testing.T) {
	w := newWorld(t)
	for e, want := range map[model.QuotaError]string{
		{Resource: "gigabytes_gold", Limit: 4, Used: 3, Requested: 2}:    "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes_gold quota. Requested 2G, quota is 4G and 3G has been consumed.",
		{Resource: "gigabytes", Limit: 5, Used: 6, Requested: 50}:        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 50G, quota is 5G and 6G has been consumed.",
		{Resource: "volumes_gold", Limit: 2, Used: 2, Requested: 1}:      "VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes_gold'.",
		{Resource: "per_volume_gigabytes", Limit: 3, Requested: 4}:       "VolumeSizeExceedsLimit: Requested volume size 4G is larger than maximum allowed limit 3G.",
		{Resource: "snapshots", Limit: 0, Requested: 1}:                  "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded",
		{Resource: "snapshots_gold", Limit: 7, Used: 7, Requested: 1}:    "SnapshotLimitExceeded: Maximum number of snapshots allowed (7) exceeded",
		{Resource: "backups", Limit: 0, Requested: 1}:                    "BackupLimitExceeded: Maximum number of backups allowed (0) exceeded",
		{Resource: "backup_gigabytes", Limit: 10, Used: 8, Requested: 3}: "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested 3G, quota is 10G and 8G has been consumed.",
		{Resource: "groups", Limit: 1, Used: 1, Requested: 1}:            "GroupLimitExceeded: Maximum number of groups allowed (1) exceeded",
	} {
		w.sched.CreateErr = fmt.Errorf("create: %w", &e)
		a := w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`)
		w.refused(a, 413, want)
		if a.header.Get("Retry-After") != "0" || !strings.Contains(string(a.raw), `"overLimit"`) {
			t.Errorf("%s: %v %s", e.Resource, a.header, a.raw)
		}
	}
}

func TestLimitsOfAnotherProject(t *testing.T) {
	w := newWorld(t)
	w.want(w.do("admin", "PUT", "/os-quota-sets/"+projectB, `{"quota_set":{"volumes":4}}`), 200)
	w.want(w.do("bob", "POST", "/volumes", `{"volume":{"size":3}}`), 202)
	w.store.Do(func(s *v3test.Store) { s.LimitRows["volumes"] = 10 })
	for _, c := range []struct{ token, mv, query, want string }{
		{"bob", "3.70", "", "4 1 3"},
		{"bob", "3.70", "?project_id=" + projectA, "4 1 3"}, // passed over
		{"alice", "3.70", "?project_id=" + projectB, "10 0 0"},
		{"admin", "3.38", "?project_id=" + projectB, "10 0 0"},
		{"admin", "3.39", "?project_id=" + projectB, "4 1 3"},
		{"admin", "3.39", "?tenant_id=" + projectB, "4 1 3"},
		{"admin", "3.39", "?tenant_id=" + projectA + "&project_id=" + projectB, "4 1 3"},
		{"admin", "3.39", "?tenant_id=" + projectB + "&project_id=" + projectA, "10 0 0"},
		{"admin", "3.70", "?project_id=", "10 0 0"},
	} {
		a := w.do(c.token, "GET", "/limits"+c.query, "", "OpenStack-API-Version", "volume "+c.mv)
		limits := w.want(a, 200)
		absolute, _ := limits["absolute"].(map[string]any)
		got := numbers(absolute, "maxTotalVolumes", "totalVolumesUsed", "totalGigabytesUsed")
		if got != c.want || len(absolute) != 10 {
			t.Errorf("%s %s %s: %s, want %s", c.token, c.mv, c.query, got, c.want)
		}
	}
}
