package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// What is in the body of an action is as strict as with Cinder, whose clients rely on it only
// to find their own mistakes.
func TestActionBodies(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	sn := w.snapshot("alice", id)
	for _, name := range []string{
		"os-extend", "os-set_bootable", "os-update_readonly_flag", "os-reset_status", "os-set_image_metadata", "os-unset_image_metadata",
		"os-attach", "os-force_detach", "os-initialize_connection", "os-terminate_connection", "os-retype", "os-reimage", "os-migrate_volume_completion",
	} {
		text := "Invalid input for field/attribute " + name + ". Value: None. None is not of type 'object'"
		w.refused(w.do("admin", "POST", "/volumes/"+id+"/action", `{"`+name+`":null}`), 400, text)
		w.refused(w.do("admin", "POST", "/volumes/"+id+"/action", `{"`+name+`":{"bogus":1}}`), 400, "Additional properties are not allowed ('bogus' was unexpected)")
	}
	for _, name := range []string{"os-reset_status", "os-update_snapshot_status"} {
		text := "Invalid input for field/attribute " + name + ". Value: None. None is not of type 'object'"
		w.refused(w.do("admin", "POST", "/snapshots/"+sn+"/action", `{"`+name+`":null}`), 400, text)
		w.refused(w.do("admin", "POST", "/snapshots/"+sn+"/action", `{"`+name+`":{"status":"error","bogus":1}}`), 400, "('bogus' was unexpected)")
	}
	// Nova says null where there is nothing to say.
	for _, name := range []string{"os-reserve", "os-unreserve", "os-roll_detaching"} {
		if a := w.do("alice", "POST", "/volumes/"+id+"/action", `{"`+name+`":null}`); a.status != 202 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
}

// A volume in maintenance or on its way to an image stays as it is; keys may go.
func TestMaintenance(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1,"metadata":{"a":"b","c":"d"}}}`)
	for _, s := range []model.VolumeStatus{model.VolumeMaintenance, model.VolumeUploading} {
		w.store.VolumeRows[0].Status = s
		text := "Updating volume metadata is not allowed for volumes in " + string(s) + " status."
		w.refused(w.do("alice", "POST", "/volumes/"+id+"/metadata", `{"metadata":{"x":"y"}}`), 400, text)
		w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-set_image_metadata":{"metadata":{"x":"y"}}}`), 400, text)
	}
	w.want(w.do("alice", "DELETE", "/volumes/"+id+"/metadata/a", ""), 200)
	w.want(w.do("alice", "PUT", "/volumes/"+id, `{"volume":{"name":"x"}}`), 200)
	w.store.VolumeRows[0].Status = model.VolumeMaintenance
	w.want(w.do("alice", "DELETE", "/volumes/"+id+"/metadata/c", ""), 200)
	const text = "The volume cannot be updated during maintenance."
	w.refused(w.do("alice", "PUT", "/volumes/"+id, `{"volume":{"name":"x"}}`), 400, text)
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-set_bootable":{"bootable":true}}`), 400, text)
}

// Clients know of no managing, and see what is mixed into the metadata when they update as
// when they look.
func TestShownAfterReset(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	for _, action := range []string{`{"os-reset_status":{"status":"available"}}`, `{"os-update_readonly_flag":{"readonly":true}}`, `{"os-reset_status":{"status":"managing"}}`} {
		if a := w.do("admin", "POST", "/volumes/"+id+"/action", action); a.status != 202 {
			t.Fatalf("%s: %s", action, a.raw)
		}
	}
	for _, v := range []map[string]any{
		w.want(w.do("alice", "GET", "/volumes/"+id, ""), 200), w.want(w.do("alice", "PUT", "/volumes/"+id, `{"volume":{"name":"x"}}`), 200),
	} {
		if m, _ := v["metadata"].(map[string]any); v["status"] != "creating" || m["readonly"] != "True" {
			t.Errorf("%v", v)
		}
	}
}

// snapshot makes one.
func (w *world) snapshot(token, volume string) string {
	w.t.Helper()
	id, _ := w.want(w.do(token, "POST", "/snapshots", `{"snapshot":{"volume_id":"`+volume+`"}}`), 202)["id"].(string)
	return id
}

func TestSnapshotBodies(t *testing.T) {
	w := newWorld(t)
	volume := w.volume("alice", `{"volume":{"size":1}}`)
	for body, text := range map[string]string{
		`{"volume_id":"` + volume + `","bogus":1}`:    "('bogus' was unexpected)",
		`{"volume_id":"` + volume + `","force":null}`: "None is not of type 'boolean', 'string'",
		`{"volume_id":"nope"}`:                        "'nope' is not valid under any of the given schemas",
	} {
		w.refused(w.do("alice", "POST", "/snapshots", `{"snapshot":`+body+`}`), 400, text)
	}
	id := w.snapshot("alice", volume)
	// A name can be taken away.
	for _, c := range []struct {
		body string
		want any
	}{{`{"name":"x"}`, "x"}, {`{"display_name":"y"}`, "y"}, {`{"description":"d"}`, "y"}, {`{"name":null}`, nil}} {
		if s := w.want(w.do("alice", "PUT", "/snapshots/"+id, `{"snapshot":`+c.body+`}`), 200); s["name"] != c.want {
			t.Errorf("%s: %v", c.body, s["name"])
		}
	}
	w.want(w.do("alice", "POST", "/snapshots/"+id+"/metadata", `{"metadata":{"a":"b"},"more":1}`), 200) // which volumes refuse
	w.refused(w.do("alice", "POST", "/volumes/"+volume+"/metadata", `{"metadata":{"a":"b"},"more":1}`), 400, "('more' was unexpected)")
	a := w.do("alice", "POST", "/snapshots/"+id+"/metadata", `{"metadata":{"a":"`+strings.Repeat("x", 256)+`"}}`)
	w.refused(a, 413, "Invalid metadata size: Metadata property key a value greater than 255 characters.")
	w.refused(w.do("admin", "POST", "/snapshots/"+id+"/action", `{"os-reset_status":{"status":"nope"}}`), 400, "Snapshot status: nope is invalid, valid statuses are: ('error', ")
	w.refused(w.do("alice", "POST", "/snapshots/"+id+"/action", `{"os-update_snapshot_status":{"status":"available","progress":"half"}}`), 400,
		"progress must be an integer percentage")
}

// What is said twice of the same server is done once.
func TestAttachTwice(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	server := uuid.NewString()
	for range 2 {
		w.want(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-attach":{"mountpoint":"/dev/vdb","instance_uuid":"`+server+`"}}`), 202)
	}
	w.refused(w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-attach":{"mountpoint":"/dev/vdb","instance_uuid":"`+uuid.NewString()+`"}}`), 400, "in-use")
	if n := len(w.store.AttachmentRows); n != 1 {
		t.Errorf("%d attachments", n)
	}
	// Force does away with the wish for a status, and with nothing else.
	w.refused(w.do("admin", "DELETE", "/volumes/"+id+"?force=true", ""), 400, "Invalid volume: Volume  must not be migrating, attached, ")
	w.refused(w.do("admin", "DELETE", "/volumes/"+id, ""), 400, "Invalid volume: Volume status must be available or error or ")
}

// What a request to make a volume names is looked for, never passed over.
func TestCreateReferences(t *testing.T) {
	w := newWorld(t)
	nobody := uuid.NewString()
	for _, c := range []struct {
		body, mv, text string
		status         int
	}{
		{`"backup_id":"` + nobody + `"`, "3.0", "Backup " + nobody + " could not be found.", 404},
		{`"backup_id":"x"`, "3.47", "'x' is not valid under any of the given schemas", 400},
		{`"group_id":"` + nobody + `"`, "3.0", "Group " + nobody + " could not be found.", 404},
		{`"imageRef":""`, "3.0", "Invalid image identifier or unable to access requested image.", 400},
		{`"availability_zone":""`, "3.0", "Invalid input for field/attribute availability_zone. Value: . '' is too short", 400},
		{`"multiattach":null`, "3.0", "Value 'None' for 'multiattach' is not a boolean.", 400},
	} {
		a := w.do("alice", "POST", "/volumes", `{"volume":{"size":1,`+c.body+`}}`, "OpenStack-API-Version", "volume "+c.mv)
		w.refused(a, c.status, c.text)
	}
	if len(w.store.VolumeRows) != 0 {
		t.Errorf("made: %v", w.store.VolumeRows)
	}
	for hint, ok := range map[string]bool{
		`"same_host":"x"`: false, `"same_host":["x"]`: false, `"different_host":null`: false, `"different_host":5`: false, `"local_to_instance":"x"`: false,
		`"same_host":"` + nobody + `"`: true, `"different_host":["` + nobody + `"]`: true, `"same_host":[]`: true, `"local_to_instance":null,"bogus":1`: true,
	} {
		a := w.do("alice", "POST", "/volumes", `{"volume":{"size":1},"OS-SCH-HNT:scheduler_hints":{`+hint+`}}`)
		if want := map[bool]int{true: 202, false: 400}[ok]; a.status != want {
			t.Errorf("%s: %d %s", hint, a.status, a.raw)
		}
	}
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1.0}}`), 400, "1.0 is not of type 'integer', 'string'")
}
