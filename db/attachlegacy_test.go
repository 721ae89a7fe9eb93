package db_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestRecordAttach(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	row := func(v uuid.UUID) model.Attachment {
		return model.Attachment{
			VolumeID: v, ProjectID: "p1", UserID: "u1", InstanceUUID: new(uuid.New()), Mountpoint: new("/dev/vdb"), AttachMode: new("ro"), AttachedAt: &at,
		}
	}
	v := w.create(nil, vol(1))[0]
	want := row(v.ID)
	a, err := w.RecordAttach(w.ctx, want)
	w.must(err)
	if a.Status != model.AttachAttached || *a.InstanceUUID != *want.InstanceUUID || *a.Mountpoint != "/dev/vdb" || *a.AttachMode != "ro" || !a.AttachedAt.Equal(at) {
		t.Errorf("%+v", a)
	}
	w.states(v.ID, model.VolumeInUse, model.AttachAttached)
	if got := w.volume(v.ID); len(got.Attachments) != 1 || got.AdminMetadata["attached_mode"] != "ro" || got.AdminMetadata["readonly"] != "False" {
		t.Errorf("%d attachments, %v", len(got.Attachments), got.AdminMetadata)
	}
	if _, err := w.RecordAttach(w.ctx, row(v.ID)); !errors.Is(err, model.ErrConflict) {
		t.Errorf("a second one: %v, want a conflict", err)
	}
	if _, err := w.RecordAttach(w.ctx, row(uuid.New())); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("no volume: %v", err)
	}
	// The mode goes with the last attachment, however that goes.
	w.tx(func(tx *db.Tx) error { return tx.DeleteAttachment(a.ID) })
	if got := w.volume(v.ID).AdminMetadata; len(got) != 1 || got["readonly"] != "False" {
		t.Errorf("detached: %v", got)
	}
	v = w.create(nil, vol(1))[0]
	_, err = w.RecordAttach(w.ctx, row(v.ID))
	w.must(err)
	detached := model.AttachDetached
	w.must(w.ResetVolume(w.ctx, v.ID, nil, &detached, nil))
	if got := w.volume(v.ID).AdminMetadata; len(got) != 1 {
		t.Errorf("reset: %v", got)
	}
}

// What os-initialize_connection has made is completed, not doubled.
func TestRecordAttachCompletes(t *testing.T) {
	w := newWorld(t)
	v := w.create(nil, vol(1))[0]
	made, err := w.reserve(v.ID, nil)
	w.must(err)
	host := "n1"
	w.must(w.Tx(w.ctx, func(t *db.Tx) error {
		made.Status, made.AttachedHost, made.ConnectionInfo = model.AttachAttaching, &host, model.JSON(`{"driver_volume_type":"iscsi"}`)
		if err := t.UpdateAttachment(made); err != nil {
			return err
		}
		return t.SetVolumeStatus(v.ID, model.VolumeAttaching, model.AttachAttaching, nil)
	}))
	instance := uuid.New()
	a, err := w.RecordAttach(w.ctx, model.Attachment{VolumeID: v.ID, ProjectID: "p1", UserID: "u1", InstanceUUID: &instance})
	w.must(err)
	if a.ID != made.ID || *a.InstanceUUID != instance || *a.AttachedHost != host || len(a.ConnectionInfo) == 0 {
		t.Errorf("%+v", a)
	}
	if n := len(w.volume(v.ID).Attachments); n != 1 {
		t.Errorf("%d attachments", n)
	}
}
