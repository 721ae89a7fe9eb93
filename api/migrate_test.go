package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestMigrateVolume(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	migrate := func(token, args string, headers ...string) answer {
		return w.do(token, "POST", "/volumes/"+id+"/action", `{"os-migrate_volume":`+args+`}`, headers...)
	}
	old := []string{"OpenStack-API-Version", "volume 3.15"}
	set := func(status model.VolumeStatus, home string) {
		w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status, s.VolumeRows[0].Home = status, &home })
	}
	w.refused(migrate("alice", `{"host":"n1@vmthunder"}`), 403, "")
	if a := migrate("admin", `{"host":"n1@vmthunder#vmthunder","force_host_copy":"False","lock_volume":true}`, old...); a.status != 202 || len(a.raw) != 0 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	v := w.want(w.do("admin", "GET", "/volumes/"+id, ""), 200)
	if v["migration_status"] != "success" || v["os-vol-mig-status-attr:migstat"] != "success" || v["os-vol-host-attr:host"] != "n1@vmthunder#vmthunder" {
		t.Errorf("%v", v)
	}
	if v = w.want(w.do("alice", "GET", "/volumes/"+id, ""), 200); v["migration_status"] != nil {
		t.Errorf("its owner sees %v", v["migration_status"])
	}
	w.refused(migrate("admin", `{"host":"n1@vmthunder#vmthunder"}`), 400, "Invalid volume: Volume "+id+" status must be available or in-use, must not be migrating")
	w.refused(migrate("admin", `{"host":"n2@vmthunder#vmthunder"}`), 400, "Invalid host: No available service named 'n2@vmthunder#vmthunder'")
	w.refused(migrate("admin", `{"host":"n9@other#x"}`), 400, "Invalid host: No available service named 'n9@other#x'")
	w.refused(migrate("admin", `{"cluster":"c"}`), 400, "Invalid host: No available service named 'c'")
	w.refused(migrate("admin", `{"cluster":"c"}`, old...), 400, "'host' is a required property")
	w.refused(migrate("admin", `{"host":"n1","cluster":"c"}`, old...), 400, "Additional properties are not allowed ('cluster' was unexpected)")
	w.refused(migrate("admin", `{"host":"n1","cluster":"c"}`), 400, "Invalid input received: One and only one of cluster and host must be set.")
	w.refused(migrate("admin", `{"host":null}`), 400, "Invalid input received: One and only one of cluster and host must be set.")
	w.refused(migrate("admin", `{"host":"n1","lock_volume":"x"}`), 400, "'x' is not one of")
	set(model.VolumeInUse, "n3")
	w.refused(migrate("admin", `{"host":"n1@vmthunder"}`), 400, "this backend moves detached volumes only. Detach it first.")
	set(model.VolumeUploading, "n3")
	w.refused(migrate("admin", `{"host":"n1@vmthunder"}`), 400, "status must be available or in-use")
	set(model.VolumeAvailable, "n3")
	for err, message := range map[error]string{
		fmt.Errorf("%w: node n1 is frozen", model.ErrInvalid):    "Invalid host: node n1 is frozen",
		fmt.Errorf("%w: its device is building", model.ErrInUse): "can't be moved yet: its device is building",
	} {
		w.sched.MigrateErr = err
		w.refused(migrate("admin", `{"host":"n1@vmthunder"}`), 400, message)
	}
	w.sched.MigrateErr = nil
	id = uuid.NewString()
	w.refused(migrate("admin", `{"host":"n1@vmthunder"}`), 404, "Volume "+id+" could not be found.")
}

func TestMigrateCompletion(t *testing.T) {
	w := newWorld(t)
	a, b := w.volume("alice", `{"volume":{"size":1}}`), w.volume("alice", `{"volume":{"size":1}}`)
	complete := func(token, args string) answer {
		return w.do(token, "POST", "/volumes/"+a+"/action", `{"os-migrate_volume_completion":`+args+`}`)
	}
	got := complete("admin", `{"new_volume":"`+b+`","error":false}`)
	if got.status != 200 || strings.TrimSpace(string(got.raw)) != `{"save_volume_id":"`+b+`"}` {
		t.Errorf("%d %s", got.status, got.raw)
	}
	w.refused(complete("alice", `{"new_volume":"`+b+`"}`), 403, "")
	w.refused(complete("admin", `{}`), 400, "'new_volume' is a required property")
	w.refused(complete("admin", `{"new_volume":"x"}`), 400, "'x' is not a 'uuid'")
	w.refused(complete("admin", `{"new_volume":"`+uuid.NewString()+`"}`), 404, "could not be found.")
	status := "success"
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[1].MigrationStatus = &status })
	w.refused(complete("admin", `{"new_volume":"`+b+`"}`), 400, "Invalid volume: Source volume not mid-migration.")
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].MigrationStatus, s.VolumeRows[1].MigrationStatus = &status, nil })
	w.refused(complete("admin", `{"new_volume":"`+b+`"}`), 400, "Invalid volume: Destination volume not mid-migration.")
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[1].MigrationStatus = &status })
	w.refused(complete("admin", `{"new_volume":"`+b+`"}`), 400, "Invalid volume: Destination has migration_status success, expected target:"+a+".")
}
