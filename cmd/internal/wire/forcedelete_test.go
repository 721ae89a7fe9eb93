package wire

import (
	"context"
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// By force a volume goes whatever its status is, unless it is attached.
func TestForceDelete(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	vols := s.create(4, nil)
	s.available(vols)
	ctx, force := context.Background(), model.DeleteOptions{Force: true}
	for i, status := range []model.VolumeStatus{model.VolumeAttaching, model.VolumeCreating, "maintenance"} {
		id := vols[i].ID
		if err := s.store.ResetVolume(ctx, id, &status, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.svc.Delete(ctx, id, model.DeleteOptions{}); !errors.Is(err, model.ErrConflict) {
			t.Errorf("delete of a volume that is %s: %v, want a conflict", status, err)
		}
		if err := s.svc.Delete(ctx, id, force); err != nil {
			t.Errorf("forced delete of a volume that is %s: %v", status, err)
		}
		if st := s.status(id); st != "gone" {
			t.Errorf("the volume that was %s is %s", status, st)
		}
	}
	if _, _, err := s.connect(vols[3].ID, "n1"); err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Delete(ctx, vols[3].ID, force); !errors.Is(err, model.ErrConflict) {
		t.Errorf("forced delete of an attached volume: %v, want a conflict", err)
	}
}

// A volume that was attached and has an error is available once it is detached, as with
// Cinder's forced detachment.
func TestDetachAfterError(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	vols := s.create(1, nil)
	s.available(vols)
	att, _, err := s.connect(vols[0].ID, "n1")
	if err != nil {
		t.Fatal(err)
	}
	bad := model.VolumeError
	if err := s.store.ResetVolume(context.Background(), vols[0].ID, &bad, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.svc.Disconnect(context.Background(), att); err != nil {
		t.Fatal(err)
	}
	if st := s.status(vols[0].ID); st != model.VolumeAvailable {
		t.Errorf("it is %s after the detachment", st)
	}
}
