package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

const connector = `{"platform":"x86_64","os_type":"linux","ip":"10.0.0.11","host":"n1","multipath":false,` +
	`"initiator":"iqn.1993-08.org.debian:01:abc","nqn":"nqn.x","nvme_native_multipath":false,"mountpoint":"/dev/vda"}`

func (w *world) status(id string) string {
	w.t.Helper()
	return fmt.Sprint(w.want(w.do("admin", "GET", "/volumes/"+id, ""), 200)["status"])
}

// TestNovaBootFromVolume is the sequence that Nova was seen to send: (b) of its recorded calls.
func TestNovaBootFromVolume(t *testing.T) {
	w := newWorld(t)
	server := uuid.NewString()
	id := w.volume("alice", `{"volume":{"size":3,"consistencygroup_id":null,"snapshot_id":null,"name":"","description":"",`+
		`"volume_type":null,"availability_zone":null,"metadata":{},"imageRef":"`+w.image.String()+`","source_volid":null,"backup_id":null}}`)
	if s := w.status(id); s != "available" {
		t.Fatalf("status %s", s)
	}
	at := w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`","connector":null,"instance_uuid":"`+server+`"}}`,
		"OpenStack-API-Version", "volume 3.44"), 200)
	if at["status"] != "reserved" || len(at["connection_info"].(map[string]any)) != 0 || at["attached_at"] != "" || w.status(id) != "reserved" {
		t.Errorf("reserved: %v", at)
	}
	aid := fmt.Sprint(at["id"])
	at = w.want(w.do("alice", "PUT", "/attachments/"+aid, `{"attachment":{"connector":`+connector+`}}`), 200)
	if at["status"] != "reserved" || at["attached_at"] != "" { // but for the connection as before
		t.Errorf("connected: %v", at)
	}
	if now := w.want(w.do("alice", "GET", "/attachments/"+aid, ""), 200); now["status"] != "attaching" || now["attached_at"] == "" {
		t.Errorf("looked at again: %v", now)
	}
	info := at["connection_info"].(map[string]any)
	for k, v := range map[string]any{"driver_volume_type": "local", "access_mode": "rw", "attachment_id": aid, "encrypted": false, "qos_specs": nil, "cacheable": false} {
		if x, ok := info[k]; !ok || x != v {
			t.Errorf("connection_info %s: %v", k, x)
		}
	}
	if a := w.do("alice", "POST", "/attachments/"+aid+"/action", `{"os-complete":null}`); a.status != 204 || len(a.raw) != 0 {
		t.Errorf("complete: %d %s", a.status, a.raw)
	}
	w.want(w.do("alice", "POST", "/attachments/"+aid+"/action", `{"os-complete":"`+aid+`"}`), 204) // again
	v := w.want(w.do("alice", "GET", "/volumes/"+id, "", "OpenStack-API-Version", "volume 3.48"), 200)
	list := v["attachments"].([]any)
	first := list[0].(map[string]any)
	if v["status"] != "in-use" || v["shared_targets"] != false || first["server_id"] != server || first["device"] != "/dev/vda" || first["host_name"] != nil {
		t.Errorf("attached: %v", v)
	}
	w.refused(w.do("alice", "DELETE", "/volumes/"+id, ""), 400, "Invalid volume")
	w.want(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-begin_detaching":null}`), 202)
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-begin_detaching":null}`), 400, "Unable to detach volume")
	w.want(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-roll_detaching":null}`), 202)
	if s := w.status(id); s != "in-use" {
		t.Errorf("rolled back: %s", s)
	}
	if a := w.do("alice", "DELETE", "/attachments/"+aid, "", "X-Service-Token", "nova"); a.status != 200 || len(a.body["attachments"].([]any)) != 0 {
		t.Errorf("delete attachment: %d %s", a.status, a.raw)
	}
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, ""), 404, "Volume attachment could not be found with filter: attachment_id = "+aid)
	w.want(w.do("alice", "DELETE", "/volumes/"+id, ""), 202)
}

// TestLiveMigration: a second attachment of the same server, another's is refused.
func TestLiveMigration(t *testing.T) {
	w := newWorld(t)
	id, server := w.volume("alice", `{"volume":{"size":1}}`), uuid.NewString()
	body := func(server string) string {
		return `{"attachment":{"volume_uuid":"` + id + `","instance_uuid":"` + server + `","connector":` + connector + `}}`
	}
	first := fmt.Sprint(w.want(w.do("alice", "POST", "/attachments", body(server)), 200)["id"])
	w.want(w.do("alice", "POST", "/attachments/"+first+"/action", `{"os-complete":null}`), 204)
	w.refused(w.do("alice", "POST", "/attachments", body(uuid.NewString())), 400,
		"Invalid volume: Volume "+id+" status must be available or downloading to reserve, but the current status is in-use.")
	second := fmt.Sprint(w.want(w.do("alice", "POST", "/attachments", strings.ReplaceAll(body(server), `"n1"`, `"n2"`)), 200)["id"])
	a := w.do("alice", "DELETE", "/attachments/"+first, "", "X-Service-Token", "nova")
	left := a.body["attachments"].([]any)
	if len(left) != 1 || left[0].(map[string]any)["id"] != second {
		t.Errorf("left: %s", a.raw)
	}
}

// TestDetachRule is CVE-2023-2088: what a server uses is detached through Nova only.
func TestDetachRule(t *testing.T) {
	w := newWorld(t)
	id, server := w.volume("alice", `{"volume":{"size":1}}`), uuid.NewString()
	attach := func() string {
		return fmt.Sprint(w.want(w.do("alice", "POST", "/attachments",
			`{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+server+`","connector":`+connector+`}}`), 200)["id"])
	}
	conflict := "ConflictNovaUsingAttachment: Detach volume from instance " + server + " using the Compute API"
	aid := attach()
	w.nova.Uses[server+" "+id] = aid
	for _, r := range [][3]string{
		{"DELETE", "/attachments/" + aid, ""},
		{"POST", "/volumes/" + id + "/action", `{"os-detach":{}}`},
		{"POST", "/volumes/" + id + "/action", `{"os-detach":{"attachment_id":"` + aid + `"}}`},
		{"POST", "/volumes/" + id + "/action", `{"os-terminate_connection":{"connector":` + connector + `}}`},
	} {
		w.refused(w.do("alice", r[0], r[1], r[2]), 409, conflict)
	}
	w.refused(w.do("admin", "POST", "/volumes/"+id+"/action", `{"os-force_detach":{}}`), 409, conflict)
	w.nova.Err = errSomething
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, ""), 409, conflict) // nobody knows: no
	w.nova.Err = model.ErrUnavailable
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, ""), 503, "The Compute service can't be asked at the moment whether instance "+server+" uses the volume; please try again.")
	w.nova.Err = nil
	w.nova.Uses[server+" "+id] = uuid.NewString()
	w.want(w.do("alice", "DELETE", "/attachments/"+aid, ""), 200) // Nova uses another one

	aid = attach()
	delete(w.nova.Uses, server+" "+id)
	w.sched.DisconnectErr = fmt.Errorf("volume is open: %w", model.ErrInUse) // Nova tries again after a 500
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, ""), 500, "Unable to delete attachment (volume is open).")
	w.sched.DisconnectErr = nil
	w.want(w.do("alice", "DELETE", "/attachments/"+aid, ""), 200) // the server is gone

	aid = fmt.Sprint(w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+server+`"}}`), 200)["id"])
	w.nova.Uses[server+" "+id] = aid
	w.want(w.do("alice", "DELETE", "/attachments/"+aid, ""), 200) // no connection yet

	// Without Nova to ask, only a service token helps.
	aid = attach()
	h, err := api.New(api.Config{Auth: tokens{}, Log: quiet(), V3: v3.Config{Store: plainStore{w.store}, Scheduler: w.sched}})
	if err != nil {
		t.Fatal(err)
	}
	w.h = h
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, ""), 409, conflict)
	w.refused(w.do("alice", "DELETE", "/attachments/"+aid, "", "X-Service-Token", "other"), 409, conflict)
	w.want(w.do("alice", "DELETE", "/attachments/"+aid, "", "X-Service-Token", "nova"), 200)
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-attach":{"host_name":"h","mountpoint":"/dev/vdb"}}`), 400, "not supported by this backend yet")
}

// TestBusDown: what needs the nodes is refused before anything is written.
func TestBusDown(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	aid := fmt.Sprint(w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`"}}`), 200)["id"])
	other := w.volume("alice", `{"volume":{"size":1}}`)
	w.sched.BusErr, w.sched.Calls = errSomething, nil
	for _, r := range [][3]string{
		{"PUT", "/attachments/" + aid, `{"attachment":{"connector":` + connector + `}}`},
		{"POST", "/attachments", `{"attachment":{"volume_uuid":"` + other + `","connector":` + connector + `}}`},
		{"POST", "/volumes/" + other + "/action", `{"os-initialize_connection":{"connector":` + connector + `}}`},
	} {
		w.refused(w.do("alice", r[0], r[1], r[2]), 503, "message bus")
	}
	if len(w.sched.Calls) != 0 || len(w.store.AttachmentRows) != 1 || w.status(other) != "available" {
		t.Errorf("written: %v %v", w.sched.Calls, w.store.AttachmentRows)
	}
	w.want(w.do("alice", "DELETE", "/attachments/"+aid, ""), 200) // nothing stands for it
}

func TestConnectFails(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	body := `{"attachment":{"volume_uuid":"` + id + `","connector":` + connector + `}}`
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{errSomething, 500, "Unable to create attachment for volume (something)."},
		{fmt.Errorf("node n1: %w", model.ErrUnavailable), 503, "unavailable"},
		{fmt.Errorf("node n1 has no pool: %w", model.ErrInvalid), 400, "Invalid volume: node n1 has no pool"},
	} {
		w.sched.ConnectErr = c.err
		w.refused(w.do("alice", "POST", "/attachments", body), c.status, c.text)
		if len(w.store.AttachmentRows) != 0 || w.status(id) != "available" {
			t.Errorf("after %v: %v", c.err, w.store.AttachmentRows)
		}
	}
	aid := fmt.Sprint(w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`"}}`), 200)["id"])
	w.sched.ConnectErr = errSomething
	w.refused(w.do("alice", "PUT", "/attachments/"+aid, `{"attachment":{"connector":`+connector+`}}`), 500, "Unable to update attachment. (something)")
	w.refused(w.do("alice", "PUT", "/attachments/"+aid, `{"attachment":{"connector":{}}}`), 400, "does not have enough properties")
	w.refused(w.do("alice", "PUT", "/attachments/"+aid, `{"attachment":{"connector":{"host":"n1","multipath":"x"}}}`), 400, "wrong type")
	w.refused(w.do("alice", "PUT", "/attachments/"+aid, `{"attachment":{"connector":{"ip":"x"}}}`), 400, "required information: host")
	w.refused(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"x"}}`), 400, "'x' is not a 'uuid'")
	w.refused(w.do("alice", "POST", "/attachments", `{"attachment":{}}`), 400, "'volume_uuid' is a required property")
	w.refused(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`","mode":"ro"}}`, "OpenStack-API-Version", "volume 3.53"), 400, "'mode' was unexpected")
}

func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.want(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-update_readonly_flag":{"readonly":true}}`), 202)
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-attach":{"mountpoint":"/dev/vdb","host_name":"h","mode":"rw"}}`), 400,
		"Invalid attaching mode 'rw'")
	at := w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`","mode":"rw","connector":`+connector+`}}`), 200)
	if info := at["connection_info"].(map[string]any); at["attach_mode"] != "ro" || info["access_mode"] != "ro" {
		t.Errorf("attachment: %v", at)
	}
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-update_readonly_flag":{"readonly":false}}`), 400, "must be available")
}
