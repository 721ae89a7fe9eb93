package db_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func (w *world) reserve(volume uuid.UUID, instance *uuid.UUID) (model.Attachment, error) {
	return w.Reserve(w.ctx, model.Attachment{VolumeID: volume, ProjectID: "p1", UserID: "u1", InstanceUUID: instance})
}

func (w *world) states(volume uuid.UUID, status model.VolumeStatus, attach model.AttachStatus) {
	w.t.Helper()
	if v := w.volume(volume); v.Status != status || v.AttachStatus != attach {
		w.t.Errorf("volume is %s and %s, want %s and %s", v.Status, v.AttachStatus, status, attach)
	}
}

// Of several that want a volume at the same time, one gets it.
func TestReserveRace(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		v := w.create(nil, vol(1))[0]
		errs := make([]error, 6)
		var g errgroup.Group
		for i := range errs {
			g.Go(func() error { _, errs[i] = w.reserve(v.ID, new(uuid.New())); return nil })
		}
		w.must(g.Wait())
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, model.ErrConflict) || !strings.Contains(err.Error(), "reserved"):
				t.Errorf("loser: %v", err)
			}
		}
		if n := len(w.volume(v.ID).Attachments); won != 1 || n != 1 {
			t.Fatalf("%d won, %d attachments", won, n)
		}
	}
}

func TestReserveRules(t *testing.T) {
	w := newWorld(t)
	x, y := uuid.New(), uuid.New()
	v := w.create(nil, vol(1))[0]
	a, err := w.reserve(v.ID, &x)
	w.must(err)
	if a.Status != model.AttachReserved || *a.InstanceUUID != x || a.CreatedAt.IsZero() || a.Connector != nil {
		t.Errorf("%+v", a)
	}
	w.states(v.ID, "reserved", "detached")
	if err := w.CompleteAttachment(w.ctx, a.ID); !errors.Is(err, model.ErrConflict) {
		t.Errorf("completed before it was attaching: %v", err)
	}
	w.attaching(a)
	w.must(w.CompleteAttachment(w.ctx, a.ID))
	w.must(w.CompleteAttachment(w.ctx, a.ID)) // Nova may ask again
	w.states(v.ID, "in-use", "attached")
	if got, err := w.Attachment(w.ctx, a.ID, "p1"); err != nil || got.AttachedAt == nil || *got.AttachedHost != "h1" || string(got.Connector) != `{"host": "h1"}` {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.Attachment(w.ctx, a.ID, "p2"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("another project sees it: %v", err)
	}
	// Live migration: the same instance again.
	if _, err := w.reserve(v.ID, &x); err != nil {
		t.Errorf("same instance: %v", err)
	}
	w.states(v.ID, "in-use", "attached")
	for _, other := range []*uuid.UUID{&y, nil} {
		if _, err := w.reserve(v.ID, other); !errors.Is(err, model.ErrConflict) || !strings.Contains(err.Error(), "current status is in-use") {
			t.Errorf("other instance: %v", err)
		}
	}
	multi := vol(1)
	multi.Multiattach = true
	m := w.create(nil, multi)[0]
	a, err = w.reserve(m.ID, &x)
	w.must(err)
	w.attaching(a)
	w.must(w.CompleteAttachment(w.ctx, a.ID))
	if _, err := w.reserve(m.ID, &y); err != nil {
		t.Errorf("multiattach: %v", err)
	}
	w.states(m.ID, "reserved", "attached")
	bad := w.create(nil, vol(1))[0]
	w.must(w.ResetVolume(w.ctx, bad.ID, ptr(model.VolumeErrorExtending), nil, nil))
	if _, err := w.reserve(bad.ID, &x); !errors.Is(err, model.ErrConflict) || !strings.Contains(err.Error(), "error state") {
		t.Errorf("in error: %v", err)
	}
	if _, err := w.reserve(uuid.New(), &x); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown volume: %v", err)
	}
}

// attaching gives an attachment its connector, as the scheduler does.
func (w *world) attaching(a model.Attachment) {
	w.t.Helper()
	w.tx(func(t *db.Tx) error {
		a, v, err := t.LockAttachment(a.ID)
		if err != nil {
			return err
		}
		if len(v.Attachments) == 0 {
			w.t.Error("locked volume lacks its attachments")
		}
		a.Status, a.AttachedHost, a.Connector = model.AttachAttaching, new("h1"), model.JSON(`{"host":"h1"}`)
		a.ConnectionInfo, a.ChapSecret, a.AttachMode = model.JSON(`{"driver_volume_type":"local"}`), "s", new("rw")
		if err := t.UpdateAttachment(a); err != nil {
			return err
		}
		return t.SetVolumeStatus(v.ID, model.VolumeAttaching, v.AttachStatus, nil)
	})
}

func TestResetVolume(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	v := w.create(nil, vol(1))[0]
	a, err := w.reserve(v.ID, nil)
	w.must(err)
	w.attaching(a)
	w.tx(func(t *db.Tx) error { _, err := t.SetHome(v.ID, "h1"); return err })
	before := w.generation("h1")
	w.must(w.ResetVolume(w.ctx, v.ID, ptr(model.VolumeAvailable), ptr(model.AttachDetached), new("migrating")))
	w.states(v.ID, "available", "detached")
	if got := w.volume(v.ID); len(got.Attachments) != 0 || *got.MigrationStatus != "migrating" || w.generation("h1") == before {
		t.Errorf("%+v", got)
	}
	w.must(w.ResetVolume(w.ctx, v.ID, nil, nil, new("")))
	if got := w.volume(v.ID); got.MigrationStatus != nil || got.Status != "available" {
		t.Errorf("%+v", got)
	}
	if err := w.ResetVolume(w.ctx, uuid.New(), nil, nil, nil); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown volume: %v", err)
	}
}

// A status moves only from where the mover saw it.
func TestMoveVolume(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	v := w.create(nil, vol(1))[0]
	w.tx(func(t *db.Tx) error {
		thin, err := t.SetHome(v.ID, "h1")
		again, err2 := t.SetHome(v.ID, "h1")
		if thin != again {
			w.t.Errorf("thin number %d, then %d", thin, again)
		}
		return errors.Join(err, err2)
	})
	if err := w.Tx(w.ctx, func(t *db.Tx) error { _, err := t.SetHome(v.ID, "h2"); return err }); !errors.Is(err, model.ErrConflict) {
		t.Errorf("second home: %v", err)
	}
	if err := w.DeleteRow(w.ctx, v.ID); !errors.Is(err, model.ErrConflict) {
		t.Errorf("row of an available volume: %v", err)
	}
	before := w.generation("h1")
	to := model.VolumeMove{From: model.Deletable, To: model.VolumeDeleting}
	var g errgroup.Group
	won := make([]bool, 5)
	for i := range won {
		g.Go(func() error {
			_, err := w.MoveVolume(w.ctx, v.ID, to)
			won[i] = err == nil
			if err != nil && (!errors.Is(err, model.ErrConflict) || !strings.Contains(err.Error(), "it is deleting")) {
				return err
			}
			return nil
		})
	}
	w.must(g.Wait())
	n := 0
	for _, ok := range won {
		if ok {
			n++
		}
	}
	if n != 1 || w.generation("h1") != before+1 {
		t.Errorf("%d moved it, generation %d after %d", n, w.generation("h1"), before)
	}
	if _, err := w.MoveVolume(w.ctx, v.ID, model.VolumeMove{To: model.VolumeAvailable}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("from nowhere: %v", err)
	}
	if _, err := w.MoveVolume(w.ctx, uuid.New(), to); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	w.must(w.DeleteRow(w.ctx, v.ID))
	if err := w.DeleteRow(w.ctx, v.ID); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

func TestPatchVolume(t *testing.T) {
	w := newWorld(t)
	in := vol(1)
	in.Metadata = model.StringMap{"a": "1"}
	v := w.create(nil, in)[0]
	got, err := w.PatchVolume(w.ctx, v.ID, model.VolumePatch{Name: new("n"), ReadOnly: new(true), ImageMetadata: model.StringMap{"os": "x"}})
	w.must(err)
	if *got.Name != "n" || !got.ReadOnly || got.AdminMetadata["readonly"] != "True" || got.Metadata["a"] != "1" || got.ImageMetadata["os"] != "x" || got.Description != nil || got.UpdatedAt == nil {
		t.Errorf("%+v", got)
	}
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			_, err := w.EditVolumeMaps(w.ctx, v.ID, func(m, _ model.StringMap) error { m[string(rune('a'+i))] = "2"; return nil })
			return err
		})
	}
	w.must(g.Wait())
	if got := w.volume(v.ID); len(got.Metadata) != 8 || got.Metadata["a"] != "2" {
		t.Errorf("an edit was lost: %v", got.Metadata)
	}
	boom := errors.New("boom")
	if _, err := w.EditVolumeMaps(w.ctx, v.ID, func(m, _ model.StringMap) error { clear(m); return boom }); !errors.Is(err, boom) || len(w.volume(v.ID).Metadata) != 8 {
		t.Errorf("a refused edit: %v", err)
	}
	if _, err := w.PatchVolume(w.ctx, uuid.New(), model.VolumePatch{}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	sum, size, meta, err := w.Summary(w.ctx, "p1")
	w.must(err)
	if sum != 1 || size != 1 || len(meta) != 8 || meta["a"][0] != "2" {
		t.Errorf("summary %d %d %v", sum, size, meta)
	}
}

// Two transactions that lock in each other's way: one is rolled back and run again.
func TestDeadlockIsRetried(t *testing.T) {
	w := newWorld(t)
	vs := w.create(nil, vol(1), vol(1))
	runs := make(chan struct{}, 20)
	both := make(chan struct{})
	var g errgroup.Group
	for i := range 2 {
		g.Go(func() error {
			first := true
			return w.Tx(w.ctx, func(t *db.Tx) error {
				runs <- struct{}{}
				if _, err := t.LockVolume(vs[i].ID); err != nil {
					return err
				}
				if first {
					first = false
					select { // wait until each has its first lock
					case both <- struct{}{}:
					case <-both:
					case <-time.After(20 * time.Second):
						return errors.New("alone")
					}
				}
				_, err := t.LockVolume(vs[1-i].ID)
				return err
			})
		})
	}
	w.must(g.Wait())
	if len(runs) < 3 {
		t.Errorf("%d runs: there was no deadlock", len(runs))
	}
}
