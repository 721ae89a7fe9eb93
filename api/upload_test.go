package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestUploadImage(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	upload := func(token, args string, headers ...string) answer {
		return w.do(token, "POST", "/volumes/"+id+"/action", `{"os-volume_upload_image":`+args+`}`, headers...)
	}
	set := func(status model.VolumeStatus, image model.StringMap) {
		w.store.Do(func(s *v3test.Store) {
			for i := range s.VolumeRows {
				s.VolumeRows[i].Status, s.VolumeRows[i].ImageMetadata = status, image
			}
		})
	}
	set(model.VolumeAvailable, model.StringMap{
		"image_id": "x", "image_name": "debian", "min_disk": "2", "checksum": "c", "os_glance_x": "1", "img_signature": "s", "hw_disk_bus": "virtio",
	})
	got := w.want(upload("alice", `{"image_name":"up","disk_format":"qcow2","visibility":"shared","protected":true}`), 202)
	made := w.glance.Created[0]
	for key, want := range map[string]any{
		"id": id, "status": "uploading", "image_id": made.ID.String(), "image_name": "up", "disk_format": "qcow2",
		"container_format": "bare", "visibility": "shared", "protected": true, "size": 1.0,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if diff := cmp.Diff(model.StringMap{"hw_disk_bus": "virtio"}, made.Properties); diff != "" {
		t.Error(diff)
	}
	k := w.sched.Uploads[0]
	if k.ProjectID != projectA || k.UserID != "alice" || !strings.Contains(string(k.Args), made.ID.String()) {
		t.Errorf("%+v", k)
	}

	w.refused(upload("alice", `{"image_name":"up","visibility":"public"}`), 403, "")
	w.refused(upload("alice", `{"image_name":"up","visibility":"private"}`, "OpenStack-API-Version", "volume 3.0"), 400, "Additional properties are not allowed")
	w.refused(upload("alice", `{}`), 400, "'image_name' is a required property")
	w.refused(upload("alice", `{"image_name":""}`), 400, "")
	w.refused(upload("alice", `{"image_name":"up","disk_format":"iso"}`), 400, "'iso' is not one of")
	w.refused(upload("alice", `{"image_name":"up","container_format":"compressed"}`), 400, "Image compression upload disallowed, but container_format is compressed")
	w.refused(upload("bob", `{"image_name":"up"}`), 404, "")
	if n := len(w.sched.Uploads); n != 1 {
		t.Errorf("%d uploads were begun", n)
	}
	set(model.VolumeInUse, nil)
	want := "Invalid volume: Volume " + id + " status must be available"
	w.refused(upload("alice", `{"image_name":"up"}`), 400, want)
	w.refused(upload("alice", `{"image_name":"up","force":true}`), 400, want) // enable_force_upload is off

	// What the image service refuses is the caller's to know, and the volume is as before.
	set(model.VolumeAvailable, nil)
	w.glance.Err = fmt.Errorf("%w: the image service answered with status 413: over quota", model.ErrInvalid)
	w.refused(upload("alice", `{"image_name":"up"}`), 400, "the image service answered with status 413: over quota")
	if w.status(id) != "available" || !slices.ContainsFunc(w.sched.Calls, func(c string) bool { return strings.HasPrefix(c, "cancel upload") }) {
		t.Errorf("volume %s, calls %v", w.status(id), w.sched.Calls)
	}
}

func TestForceUpload(t *testing.T) {
	w := newWorld(t, func(c *v3.Config) { c.ForceUpload = true })
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.store.Do(func(s *v3test.Store) { s.VolumeRows[0].Status = model.VolumeInUse })
	upload := func(args string) answer {
		return w.do("alice", "POST", "/volumes/"+id+"/action", `{"os-volume_upload_image":`+args+`}`)
	}
	w.refused(upload(`{"image_name":"up"}`), 400, "status must be available")
	w.want(upload(`{"image_name":"up","force":"True"}`), 202)
}

// A volume that is uploaded shows how far that is.
func TestShowUpload(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.store.Do(func(s *v3test.Store) {
		s.VolumeRows[0].Status = model.VolumeUploading
		s.TaskRows = []model.Task{
			{ID: uuid.New(), VolumeID: s.VolumeRows[0].ID, Kind: model.TaskUploadImage, Status: model.TaskFailed},
			{
				ID: uuid.New(), VolumeID: s.VolumeRows[0].ID, Kind: model.TaskUploadImage, Status: model.TaskRunning,
				Phase: "send", Done: 256 << 20, Total: 1 << 30, Error: new("glance: out of reach"),
			},
		}
	})
	raw := string(w.do("alice", "GET", "/volumes/"+id, "").raw)
	if want := `"vmthunder:task":"upload-image: send 25% of 1 GiB (glance: out of reach)"`; !strings.Contains(raw, want) {
		t.Errorf("no %s in %s", want, raw)
	}
}
