package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// twoBackends: node n1 is of backend ssd; n2 says none, and has the configuration's, lvm.
func twoBackends(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, func(c *v3.Config) { c.Backend.Name = "lvm" })
	w.store.Do(func(s *v3test.Store) { s.NodeRows[0].Backend, s.NodeRows[1].Alive = "ssd", true })
	return w
}

// Everything that shows HOST@BACKEND#POOL shows the node's own backend.
func TestBackendsShown(t *testing.T) {
	w := twoBackends(t)
	w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"fast","extra_specs":{"volume_backend_name":"ssd"}}}`), 200)
	names := func(path, key, of string) (out []string) {
		t.Helper()
		for _, row := range w.want(w.do("admin", "GET", path, ""), 200)[key].([]any) {
			out = append(out, row.(map[string]any)[of].(string))
		}
		return out
	}
	for _, x := range []struct{ path, key, of, want string }{
		{"/scheduler-stats/get_pools", "pools", "name", "[n1@ssd#vmthunder n2@lvm#vmthunder]"},
		{"/scheduler-stats/get_pools?volume_type=fast", "pools", "name", "[n1@ssd#vmthunder]"},
		{"/scheduler-stats/get_pools?name=" + url.QueryEscape("n2@lvm#vmthunder"), "pools", "name", "[n2@lvm#vmthunder]"},
		{"/scheduler-stats/get_pools?name=" + url.QueryEscape("n2@ssd#vmthunder"), "pools", "name", "[]"},
		{"/os-services?binary=cinder-volume", "services", "host", "[n1@ssd n2@lvm]"},
		{"/os-services?host=n1@ssd", "services", "host", "[n1@ssd]"},
		{"/os-services?host=n1@lvm", "services", "host", "[]"},
		{"/vmthunder/nodes", "nodes", "backend", "[ssd lvm]"},
	} {
		if got := fmt.Sprint(names(x.path, x.key, x.of)); got != x.want {
			t.Errorf("%s: %s, want %s", x.path, got, x.want)
		}
	}
	for host, want := range map[string]string{"n1@ssd": "ssd", "n2@lvm": "lvm", "n1": "ssd", "n2@lvm#vmthunder": "lvm"} {
		a := w.do("admin", "GET", "/capabilities/"+url.PathEscape(host), "")
		var got struct {
			Namespace string `json:"namespace"`
			Backend   string `json:"volume_backend_name"`
		}
		if err := json.Unmarshal(a.raw, &got); err != nil || got.Backend != want || got.Namespace != "OS::Storage::Capabilities::"+host {
			t.Errorf("%s: %s, %v", host, a.raw, err)
		}
	}
	w.refused(w.do("admin", "GET", "/capabilities/n1@lvm", ""), 404, "Can't find service: n1@lvm")
	w.want(w.do("admin", "GET", "/os-hosts/n1@ssd", ""), 200)
	w.refused(w.do("admin", "GET", "/os-hosts/n1@lvm", ""), 404, "n1@lvm")

	// A volume is shown on its home, or where it is placed, with the backend that its row says.
	id := w.volume("alice", `{"volume":{"size":1}}`)
	n1, ssd, none := "n1", "ssd", ""
	for _, x := range []struct {
		home, placed, backend *string
		want                  any
	}{{nil, nil, nil, nil}, {&n1, nil, &ssd, "n1@ssd#vmthunder"}, {nil, &n1, &ssd, "n1@ssd#vmthunder"}, {&n1, nil, &none, "n1@lvm#vmthunder"}} {
		w.store.Do(func(s *v3test.Store) {
			v := &s.VolumeRows[0]
			v.Home, v.Placed, v.HostBackend = x.home, x.placed, x.backend
		})
		if got := w.want(w.do("admin", "GET", "/volumes/"+id, ""), 200)["os-vol-host-attr:host"]; got != x.want {
			t.Errorf("on %v, want %v", got, x.want)
		}
	}
}

// A host is meant by its own backend, or none; that of another finds nothing.
func TestBackendsMeant(t *testing.T) {
	w := twoBackends(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	n2 := "n2"
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Home = &n2 })
	for host, found := range map[string]int{"n2": 1, "n2@lvm": 1, "n2@lvm#vmthunder": 1, "n2@ssd": 0, "n2@lvm#other": 0, "n1@ssd": 0} {
		got := w.want(w.do("admin", "GET", "/volumes?all_tenants=1&host="+url.QueryEscape(host), ""), 200)["volumes"].([]any)
		if len(got) != found {
			t.Errorf("filter by %s: %d, want %d", host, len(got), found)
		}
	}
	migrate := func(host string) answer {
		return w.do("admin", "POST", "/volumes/"+id+"/action", `{"os-migrate_volume":{"host":"`+host+`"}}`)
	}
	w.refused(migrate("n1@lvm#vmthunder"), 400, "No available service named 'n1@lvm#vmthunder'")
	if a := migrate("n1@ssd#vmthunder"); a.status != 202 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	for host, status := range map[string]int{"n1@ssd": 200, "n1@lvm": 404, "n2@lvm": 200} {
		a := w.do("admin", "PUT", "/os-services/disable", `{"binary":"cinder-volume","host":"`+host+`"}`)
		if a.status != status {
			t.Errorf("disable %s: %d %s", host, a.status, a.raw)
		}
		w.do("admin", "PUT", "/os-services/enable", `{"binary":"cinder-volume","host":"`+host+`"}`)
		for _, path := range []string{"/os-volume-manage?host=", "/manageable_volumes?host="} {
			if a := w.do("admin", "GET", path+host, ""); a.status != status {
				t.Errorf("%s%s: %d %s", path, host, a.status, a.raw)
			}
		}
	}
}

// The policy of a retype is the scheduler's to obey; what can't be moved is a 400 that says why.
func TestRetypePolicy(t *testing.T) {
	w := twoBackends(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	for i, policy := range []string{"", `,"migration_policy":"never"`, `,"migration_policy":"on-demand"`} {
		name := fmt.Sprintf("t%d", i)
		w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"`+name+`"}}`), 200)
		if a := w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-retype":{"new_type":"`+name+`"`+policy+`}}`); a.status != 202 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		w.store.Do(func(*v3test.Store) {
			if got, want := w.sched.Calls[len(w.sched.Calls)-1], fmt.Sprintf("retype %s %t", id, i == 2); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	for err, message := range map[error]string{
		fmt.Errorf("%w: it is in-use, detach it first", model.ErrImmovable):             "Invalid volume: Volume " + id + " has to move to another node for type t1, and can't as it is: it is in-use, detach it first",
		fmt.Errorf("%w: %w: it has 1 snapshots", model.ErrImmovable, model.ErrConflict): "can't as it is: it has 1 snapshots",
		fmt.Errorf("%w: volume x is creating", model.ErrConflict):                       "Retype needs volume to be in available or in-use state",
		fmt.Errorf("%w: node n1 is frozen", model.ErrInvalid):                           "Invalid host: node n1 is frozen",
	} {
		w.sched.RetypeErr = err
		w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-retype":{"new_type":"t1","migration_policy":"on-demand"}}`), 400, message)
	}
}

// A copy can't be of a type that names another backend than its source's type, in Cinder's words.
func TestCopyOfOtherBackend(t *testing.T) {
	w := twoBackends(t)
	ids := map[string]string{}
	for name, specs := range map[string]string{"fast": `{"volume_backend_name":"ssd"}`, "slow": `{"volume_backend_name":"lvm"}`, "quick": `{"volume_backend_name":"ssd","a:b":"c"}`, "any": `{}`} {
		ids[name] = w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"`+name+`","extra_specs":`+specs+`}}`), 200)["id"].(string)
	}
	volume := w.volume("alice", `{"volume":{"size":1,"volume_type":"fast"}}`)
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status = model.VolumeAvailable })
	snapshot := w.want(w.do("alice", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+volume+`"}}`), 202)["id"].(string)
	for key, x := range map[string]struct{ id, advice string }{
		"source_volid": {volume, "either match source volume, or omit type argument"}, "snapshot_id": {snapshot, "recommend omitting the type argument"},
	} {
		create := func(kind string) answer {
			return w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"`+key+`":"`+x.id+`"`+kind+`}}`)
		}
		w.refused(create(`,"volume_type":"slow"`), 400, "Invalid input received: Invalid volume_type provided: "+ids["slow"]+" (requested type is not compatible; "+x.advice+").")
		for _, kind := range []string{"", `,"volume_type":"quick"`, `,"volume_type":"any"`, `,"volume_type":"fast"`} {
			w.want(create(kind), 202)
		}
	}
}
