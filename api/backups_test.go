package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// backup makes one that is available, and returns its id.
func (w *world) backup(token, args string) string {
	w.t.Helper()
	w.sched.BackupStatus = model.BackupAvailable
	b := w.want(w.do(token, "POST", "/backups", `{"backup":`+args+`}`), 202)
	id, _ := b["id"].(string)
	return id
}

func TestBackups(t *testing.T) {
	w := newWorld(t)
	v := w.volume("alice", `{"volume":{"size":2}}`)
	post := func(token, args string, headers ...string) answer {
		return w.do(token, "POST", "/backups", `{"backup":`+args+`}`, headers...)
	}
	of := func(more string) string { return `{"volume_id":"` + v + `"` + more + `}` }
	const snap = "0841d254-f1d4-48b7-88c4-006c9e21174d"
	for args, text := range map[string]string{
		`{}`:                      "'volume_id' is a required property",
		`{"volume_id":"x"}`:       "'x' is not a 'uuid'",
		`{"volume_id":null}`:      "None is not of type 'string'",
		of(`,"incremental":null`): "None is not of type 'boolean', 'string'",
		of(`,"force":"maybe"`):    "'maybe' is not one of [True,",
		of(`,"snapshot_id":"x"`):  "'x' is not valid under any of the given schemas",
		of(`,"snapshot_id":1`):    "1 is not valid under any of the given schemas",
		of(`,"x":1`):              "Additional properties are not allowed ('x' was unexpected)",
		of(`,"container":"` + strings.Repeat("x", 256) + `"`): "is too long",
		of(`,"metadata":{"a":1}`):                             "1 is not of type 'string'",
		of(`,"incremental":true`):                             "Invalid backup: No backups available to do an incremental backup.",
	} {
		w.refused(post("alice", args), 400, text)
	}
	w.refused(post("alice", of(`,"snapshot_id":"`+snap+`"`)), 404, "Snapshot "+snap+" could not be found.")
	w.refused(post("alice", `{"volume_id":"`+snap+`"}`), 404, "Volume "+snap+" could not be found.")
	w.refused(post("bob", of("")), 404, "Volume "+v+" could not be found.")

	set := func(status model.VolumeStatus) {
		w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status = status })
	}
	set("error")
	w.refused(post("alice", of("")), 400, `Invalid volume: Volume to be backed up must be available or in-use, but the current status is "error".`)
	set(model.VolumeInUse)
	w.refused(post("alice", of("")), 400, "Invalid volume: Backing up an in-use volume must use the force flag.")
	first := w.want(post("alice", of(`,"force":true,"name":" b1 ","description":"d","container":"c"`)), 202)
	id, _ := first["id"].(string)
	if st := w.status(v); st != "backing-up" {
		t.Errorf("volume is %s", st)
	}
	set(model.VolumeInUse)
	if first["name"] != "b1" || first["links"] == nil || len(first) != 3 {
		t.Errorf("%v", first)
	}
	w.refused(post("alice", of(`,"force":true,"incremental":true`)), 400, "Invalid backup: The parent backup must be available for incremental backup.")
	w.refused(w.do("alice", "DELETE", "/backups/"+id, ""), 400, "Invalid backup: Backup status must be available or error")
	w.refused(w.do("alice", "POST", "/backups/"+id+"/restore", `{"restore":{}}`), 400, "Invalid backup: Backup status must be available")
	w.refused(w.do("admin", "GET", "/backups/"+id+"/export_record", ""), 400, "Invalid backup: Backup status must be available and not creating.")

	reset := func(token, args string) answer {
		return w.do(token, "POST", "/backups/"+id+"/action", `{"os-reset_status":`+args+`}`)
	}
	w.refused(reset("admin", `{"status":"deleting"}`), 400, "Backup status: deleting is invalid, valid statuses are: ['available', 'error'].")
	w.refused(reset("admin", `{}`), 400, "'status' is a required property")
	w.refused(reset("alice", `{"status":"error"}`), 403, "")
	w.want(reset("admin", `{"status":"Available"}`), 202)

	child := w.backup("alice", of(`,"force":true,"incremental":"true"`))
	got := w.want(w.do("alice", "GET", "/backups/"+id, ""), 200)
	if got["has_dependent_backups"] != true || got["is_incremental"] != false || got["container"] != "c" || got["size"] != 2.0 {
		t.Errorf("%v", got)
	}
	if got := w.want(w.do("alice", "GET", "/backups/"+child, ""), 200); got["is_incremental"] != true || got["has_dependent_backups"] != false {
		t.Errorf("%v", got)
	}
	w.refused(w.do("alice", "DELETE", "/backups/"+id, ""), 400, "Invalid backup: Incremental backups exist for this backup.")
	w.refused(w.do("admin", "POST", "/backups/"+id+"/action", `{"os-force_delete":{}}`), 400, "Incremental backups exist")

	for query, want := range map[string]string{
		"": "<nil> b1", "?name=b1": "b1", "?volume_id=" + snap: "", "?volume_id=" + v + "&status=error": "", "?limit=1": "<nil>",
		"?sort=name:asc&limit=1&offset=1": "b1",
	} {
		for _, path := range []string{"/backups", "/backups/detail"} {
			if got := w.names(w.do("alice", "GET", path+query, ""), "backups"); got != want {
				t.Errorf("%s%s: %q, want %q", path, query, got, want)
			}
		}
	}
	if got := w.names(w.do("bob", "GET", "/backups", ""), "backups"); got != "" {
		t.Errorf("bob sees %q", got)
	}
	w.refused(w.do("alice", "GET", "/backups?container=c", ""), 400, "Invalid filters container are found in query options.")

	put := func(args string, headers ...string) answer {
		return w.do("alice", "PUT", "/backups/"+id, `{"backup":`+args+`}`, headers...)
	}
	if got := w.want(put(`{"name":"b2","metadata":{"a":"b"}}`), 200); got["name"] != "b2" {
		t.Errorf("%v", got)
	}
	w.want(put(`{"name":null}`), 200)
	if got := w.want(w.do("alice", "GET", "/backups/"+id, ""), 200); got["name"] != nil || got["description"] != "d" || fmt.Sprint(got["metadata"]) != "map[a:b]" {
		t.Errorf("%v", got)
	}
	w.refused(put(`{"size":1}`), 400, "Additional properties are not allowed ('size' was unexpected)")

	w.want(w.do("alice", "DELETE", "/backups/"+child, ""), 202)
	w.sched.BackupErr = model.ErrUnavailable
	w.refused(w.do("alice", "DELETE", "/backups/"+id, ""), 404, "Service cinder-backup could not be found.")
	w.sched.BackupErr = nil
	w.want(w.do("admin", "POST", "/backups/"+id+"/action", `{"os-force_delete":{}}`), 202)
	w.refused(w.do("alice", "GET", "/backups/"+id, ""), 404, "Backup "+id+" could not be found.")
	w.refused(w.do("alice", "GET", "/backups/x", ""), 404, "Backup x could not be found.")
}

func TestRestore(t *testing.T) {
	w := newWorld(t)
	v := w.volume("alice", `{"volume":{"size":2}}`)
	small := w.volume("alice", `{"volume":{"size":1}}`)
	id := w.backup("alice", `{"volume_id":"`+v+`"}`)
	restore := func(token, args string) answer {
		return w.do(token, "POST", "/backups/"+id+"/restore", `{"restore":`+args+`}`)
	}
	w.refused(restore("alice", `{"volume_id":"`+small+`"}`), 400, "Invalid volume: volume size 1 is too small to restore backup of size 2.")
	w.refused(restore("alice", `{"volume_id":"x"}`), 400, "'x' is not valid under any of the given schemas")
	w.refused(restore("alice", `{"size":1}`), 400, "Additional properties are not allowed")
	w.refused(w.do("alice", "POST", "/backups/"+id+"/restore", `{}`), 400, "'restore' is a required property")
	w.refused(restore("bob", `{}`), 404, "Backup "+id+" could not be found.")
	none := uuid.NewString()
	w.refused(restore("alice", `{"volume_id":"`+none+`"}`), 404, "Volume "+none+" could not be found.")
	if got := w.want(restore("alice", `{"volume_id":"`+v+`"}`), 202); got["volume_id"] != v || got["backup_id"] != id {
		t.Errorf("%v", got)
	}
	for args, name := range map[string]string{`null`: "restore_backup_" + id, `{"name":"rst","volume_id":null}`: "rst"} {
		got := w.want(restore("alice", args), 202)
		made := w.want(w.do("alice", "GET", fmt.Sprintf("/volumes/%v", got["volume_id"]), ""), 200)
		if got["volume_name"] != name || made["name"] != name || made["size"] != 2.0 || made["description"] != "auto-created_from_restore_from_backup" {
			t.Errorf("%v, %v", got, made)
		}
	}
	w.sched.BackupErr = fmt.Errorf("%w: no node", model.ErrUnavailable)
	w.refused(restore("alice", `{}`), 404, "Service cinder-backup could not be found.")
	w.sched.BackupErr = nil
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status = model.VolumeInUse })
	w.refused(restore("alice", `{"volume_id":"`+v+`"}`), 400, "Invalid volume: Volume to be restored to must be available")

	// A volume that is made of a backup.
	create := func(args string, headers ...string) answer {
		return w.do("alice", "POST", "/volumes", `{"volume":{"backup_id":"`+id+`"`+args+`}}`, headers...)
	}
	if got := w.want(create(""), 202); got["size"] != 2.0 || got["status"] != "creating" {
		t.Errorf("%v", got)
	}
	if !slices.Contains(w.sched.Calls, "restore new creating") {
		t.Errorf("%v", w.sched.Calls)
	}
	w.refused(create(`,"size":1`), 400, "Volume size 1GB cannot be smaller than the backup size 2GB. It must be >= backup size.")
	w.refused(create(`,"source_volid":"`+v+`"`), 400, "May specify only one of")
	w.store.Do(func(s *v3test.Store) { s.BackupRows[0].Status = model.BackupError })
	w.refused(create(""), 400, "Invalid backup: Originating backup status must be one of 'available' values")
}

// What is exported can be imported, once, and by administrators.
func TestBackupRecords(t *testing.T) {
	w := newWorld(t)
	v := w.volume("alice", `{"volume":{"size":2}}`)
	id := w.backup("alice", `{"volume_id":"`+v+`","name":"b1","container":"c","metadata":{"a":"b"}}`)
	w.store.Do(func(s *v3test.Store) {
		s.BackupRows[0].ObjectCount, s.BackupRows[0].Source = 7, model.JSON(`{"bootable":true}`)
		s.BackupRows[0].DataTimestamp = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	})
	w.refused(w.do("alice", "GET", "/backups/"+id+"/export_record", ""), 403, "")
	record := w.want(w.do("admin", "GET", "/backups/"+id+"/export_record", ""), 200)
	body, err := json.Marshal(map[string]any{"backup-record": record})
	if err != nil {
		t.Fatal(err)
	}
	w.refused(w.do("admin", "POST", "/backups/import_record", string(body)), 400, "Invalid backup: Backup already exists in database.")
	w.refused(w.do("alice", "POST", "/backups/import_record", string(body)), 403, "")
	w.store.Do(func(s *v3test.Store) { s.BackupRows = nil })
	if got := w.want(w.do("admin", "POST", "/backups/import_record", string(body)), 201); got["id"] != id {
		t.Errorf("%v", got)
	}
	b := w.store.BackupRows[0]
	if b.Status != model.BackupAvailable || *b.Name != "b1" || *b.Container != "c" || b.SizeGiB != 2 || b.ObjectCount != 7 || b.Metadata["a"] != "b" ||
		string(b.Source) != `{"bootable":true}` || b.DataTimestamp.Year() != 2026 || b.VolumeID != uuid.Nil {
		t.Errorf("%+v", b)
	}
	for url, text := range map[string]string{
		"%%%":                                "Invalid input received: Can't parse backup record.",
		"eA==":                               "Invalid input received: Can't parse backup record.",
		b64(`{"size":1}`):                    "Provided backup record is missing an id",
		b64(`{"id":"` + id + `"}`):           "Provided backup record is missing size attribute",
		b64(`{"id":"` + id + `","size":-1}`): "Can't parse backup record.",
	} {
		w.refused(w.do("admin", "POST", "/backups/import_record", `{"backup-record":{"backup_service":"cinder.backup.drivers.vmthunder","backup_url":"`+url+`"}}`), 400, text)
	}
	w.refused(w.do("admin", "POST", "/backups/import_record",
		`{"backup-record":{"backup_service":"cinder.backup.drivers.swift","backup_url":"`+b64(`{"id":"`+id+`","size":1}`)+`"}}`), 404,
		"Service cinder.backup.drivers.swift could not be found.")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
