package wire

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

var snapshotFrom = []model.VolumeStatus{model.VolumeAvailable, model.VolumeInUse}

func (s *site) snapshot(volume uuid.UUID) model.Snapshot {
	s.t.Helper()
	made, err := s.svc.Snapshot(context.Background(), []model.Snapshot{{VolumeID: volume, ProjectID: "p", UserID: "u", ConsumesQuota: true}}, snapshotFrom)
	if err != nil {
		s.t.Fatal(err)
	}
	return made[0]
}

func (s *site) snapshotIs(id uuid.UUID, want model.SnapshotStatus) {
	s.t.Helper()
	s.until("snapshot "+id.String()+" to be "+string(want), func() bool {
		sn, err := s.store.Snapshot(context.Background(), id, "")
		if errors.Is(err, model.ErrNotFound) {
			return want == "gone"
		}
		return err == nil && sn.Status == want
	})
}

func (s *site) volumeIs(id uuid.UUID, want model.VolumeStatus) {
	s.t.Helper()
	s.until("volume "+id.String()+" to be "+string(want), func() bool { return s.status(id) == want })
}

func (s *site) copyOf(v model.Volume) model.Volume {
	s.t.Helper()
	v.ProjectID, v.UserID, v.AvailabilityZone, v.ConsumesQuota = "p", "u", "nova", true
	made, err := s.svc.Copy(context.Background(), []model.Volume{v}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return made[0]
}

// written is a volume that was attached and detached on n1, so that it has data.
func (s *site) written(image *model.Image) model.Volume {
	s.t.Helper()
	vols := s.create(1, image)
	s.available(vols)
	att, _, err := s.connect(vols[0].ID, "n1")
	if err == nil {
		_, err = s.svc.Disconnect(context.Background(), att)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := s.store.Volume(context.Background(), vols[0].ID, "")
	if err != nil || v.Home == nil || *v.Home != "n1" || !v.Materialized {
		s.t.Fatalf("%+v, %v", v, err)
	}
	return v
}

// thinsOf counts a node's thin devices.
func (s *site) thinsOf(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.agents[host].thin)
}

// What nobody has written to costs its snapshot and copies nothing: no node hears of them.
func TestCopiesOfThePristine(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	image := anImage()
	vols := s.create(1, image)
	s.available(vols)
	sn := s.snapshot(vols[0].ID)
	if sn.Status != model.SnapshotAvailable || sn.Home != nil || sn.Progress != "100%" || sn.SizeGiB != vols[0].SizeGiB {
		t.Errorf("snapshot %+v", sn)
	}
	for _, c := range []model.Volume{s.copyOf(model.Volume{SnapshotID: &sn.ID, SizeGiB: 2}), s.copyOf(model.Volume{SourceVolID: &vols[0].ID, SizeGiB: 1})} {
		if c.Status != model.VolumeAvailable || c.Home != nil || c.ImageID == nil || *c.ImageID != image.ID {
			t.Errorf("copy %+v", c)
		}
	}
	if n := s.thinsOf("n1"); n != 0 {
		t.Errorf("%d thin devices were made", n)
	}
	if err := s.svc.Delete(context.Background(), vols[0].ID, model.DeleteOptions{}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("delete of a volume with a snapshot: %v, want a conflict", err)
	}
	if err := s.svc.Delete(context.Background(), vols[0].ID, model.DeleteOptions{Cascade: true}); err != nil {
		t.Error(err)
	}
	s.volumeIs(vols[0].ID, "gone")
	s.snapshotIs(sn.ID, "gone")
}

func TestSnapshotAndCopies(t *testing.T) {
	for name, image := range map[string]*model.Image{"blank": nil, "image": anImage()} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
			v := s.written(image)
			sn := s.snapshot(v.ID)
			if sn.Status != model.SnapshotCreating {
				t.Errorf("status %s", sn.Status)
			}
			s.snapshotIs(sn.ID, model.SnapshotAvailable)
			from := s.copyOf(model.Volume{SnapshotID: &sn.ID, SizeGiB: 3})
			clone := s.copyOf(model.Volume{SourceVolID: &v.ID, SizeGiB: v.SizeGiB})
			for _, c := range []model.Volume{from, clone} {
				if c.Home == nil || *c.Home != "n1" {
					t.Errorf("a copy's home is %v, want that of its source", c.Home)
				}
				s.volumeIs(c.ID, model.VolumeAvailable)
			}
			// Anywhere else it is reached over the network.
			if _, _, err := s.connect(clone.ID, "n2"); err != nil {
				t.Error(err)
			}
			// In any order: the source's end leaves the copies alone.
			if err := s.svc.DeleteSnapshot(context.Background(), sn.ID, nil); err != nil {
				t.Fatal(err)
			}
			s.snapshotIs(sn.ID, "gone")
			if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			s.volumeIs(v.ID, "gone")
			if n := s.thinsOf("n1"); n != 2 {
				t.Errorf("%d thin devices are left, want those of the two copies", n)
			}
		})
	}
}

// A source that is deleted while its copy is still to be made goes when that is made.
func TestSourceGoesBeforeItsCopy(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	v := s.written(nil)
	s.mu.Lock()
	s.agents["n1"].down = true
	s.mu.Unlock()
	sn := s.snapshot(v.ID)
	clone := s.copyOf(model.Volume{SourceVolID: &v.ID, SizeGiB: v.SizeGiB})
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{Cascade: true}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.agents["n1"].down = false
	s.mu.Unlock()
	s.until("the copy to be there and its source gone", func() bool {
		s.report("n1")
		return s.status(clone.ID) == model.VolumeAvailable && s.status(v.ID) == "gone"
	})
	s.snapshotIs(sn.ID, "gone")
	if n := s.thinsOf("n1"); n != 1 {
		t.Errorf("%d thin devices are left, want the copy's", n)
	}
}

func TestRevert(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	v := s.written(nil)
	sn := s.snapshot(v.ID)
	if err := s.svc.Revert(context.Background(), v.ID, sn.ID); err != nil && !errors.Is(err, model.ErrConflict) {
		t.Fatal(err) // still creating, perhaps
	}
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	s.volumeIs(v.ID, model.VolumeAvailable)
	if err := s.svc.Revert(context.Background(), v.ID, sn.ID); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeAvailable)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	s.until("what it was to be dropped", func() bool { return s.thinsOf("n1") == 2 })
	now, err := s.store.Volume(context.Background(), v.ID, "")
	if err != nil || *now.ThinID == *v.ThinID || !now.Materialized || *now.SourceThin != *sn.ThinID {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestExtend(t *testing.T) {
	told := make(chan uuid.UUID, 1)
	s := newSite(t, scheduler.Options{Instances: instances(told)}, "o1", "n1")
	vols := s.create(1, nil)
	ctx := context.Background()
	if err := s.svc.Extend(ctx, vols[0].ID, 3, snapshotFrom); err != nil {
		t.Fatal(err)
	}
	if v, err := s.store.Volume(ctx, vols[0].ID, ""); err != nil || v.SizeGiB != 3 || v.Status != model.VolumeAvailable {
		t.Errorf("a volume without device: %+v, %v", v, err)
	}
	if err := s.svc.Extend(ctx, vols[0].ID, 3, snapshotFrom); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("not larger: %v", err)
	}
	if err := s.svc.Extend(ctx, vols[0].ID, 2000, snapshotFrom); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("larger than the pool: %v", err)
	}
	instance := uuid.New()
	a, err := s.store.Reserve(ctx, model.Attachment{VolumeID: vols[0].ID, ProjectID: "p", UserID: "u", InstanceUUID: &instance})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.svc.Connect(ctx, a.ID, model.Connector{Host: "n1"}, []byte(`{"host": "n1"}`), "rw"); err != nil {
		t.Fatal(err)
	}
	before := s.status(vols[0].ID)
	if err := s.svc.Extend(ctx, vols[0].ID, 4, []model.VolumeStatus{before}); err != nil {
		t.Fatal(err)
	}
	s.until("the device to have grown", func() bool {
		v, err := s.store.Volume(ctx, vols[0].ID, "")
		return err == nil && v.SizeGiB == 4 && v.Status == before
	})
	if id := <-told; id != vols[0].ID {
		t.Errorf("the instance was told of %s", id)
	}
}

type instances chan uuid.UUID

func (i instances) VolumeExtended(_ context.Context, _, volume uuid.UUID) error {
	i <- volume
	return nil
}

func (i instances) VolumeReimaged(_ context.Context, _, volume uuid.UUID, failed bool) error {
	if failed {
		return errors.New("told of a failure")
	}
	i <- volume
	return nil
}

// A volume that is given another image begins anew, reserved for its instance all the
// while; its snapshot keeps what it holds, and the volume can go back to it.
func TestReimage(t *testing.T) {
	told := make(chan uuid.UUID, 1)
	s := newSite(t, scheduler.Options{Instances: instances(told)}, "o1", "n1")
	ctx := context.Background()
	before, after := anImage(), anImage()
	v := s.written(before)
	sn := s.snapshot(v.ID)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	instance := uuid.New()
	a, err := s.store.Reserve(ctx, model.Attachment{VolumeID: v.ID, ProjectID: "p", UserID: "u", InstanceUUID: &instance})
	if err != nil {
		t.Fatal(err)
	}
	only := []model.VolumeStatus{model.VolumeAvailable}
	if err := s.svc.Reimage(ctx, v.ID, *after, nil, only); !errors.Is(err, model.ErrConflict) {
		t.Errorf("a reserved one: %v, want a conflict", err)
	}
	if err := s.svc.Reimage(ctx, v.ID, *after, model.StringMap{"image_id": after.ID.String()}, append(only, model.VolumeReserved)); err != nil {
		t.Fatal(err)
	}
	if st := s.status(v.ID); st != model.VolumeDownloading && st != model.VolumeReserved {
		t.Errorf("status %s", st)
	}
	s.volumeIs(v.ID, model.VolumeReserved)
	if id := <-told; id != v.ID {
		t.Errorf("the instance was told of %s", id)
	}
	now, err := s.store.Volume(ctx, v.ID, "")
	if err != nil || *now.ImageID != after.ID || now.Home != nil || now.ImageMetadata["image_id"] != after.ID.String() || len(now.Attachments) != 1 {
		t.Errorf("%+v, %v", now, err)
	}
	s.until("what was written to be dropped", func() bool { return s.thinsOf("n1") == 1 })
	if _, err := s.svc.Disconnect(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Revert(ctx, v.ID, sn.ID); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeAvailable)
	if now, err = s.store.Volume(ctx, v.ID, ""); err != nil || *now.ImageID != before.ID || !now.Materialized {
		t.Errorf("%+v, %v", now, err)
	}
	s.until("the image that nothing is made of any more to go", func() bool {
		_, err := s.store.Image(ctx, after.ID)
		return errors.Is(err, model.ErrNotFound)
	})
	if _, err := s.store.Image(ctx, before.ID); err != nil {
		t.Error(err)
	}
}

// A snapshot and the deletion of its volume at the same time: one of them is refused.
func TestSnapshotAgainstDelete(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	for range 10 {
		v := s.create(1, nil)[0]
		var wg sync.WaitGroup
		var taken, deleted error
		wg.Go(func() {
			_, taken = s.svc.Snapshot(context.Background(), []model.Snapshot{{VolumeID: v.ID, ProjectID: "p", UserID: "u"}}, snapshotFrom)
		})
		wg.Go(func() { deleted = s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}) })
		wg.Wait()
		if (taken == nil) == (deleted == nil) {
			t.Errorf("snapshot: %v, delete: %v", taken, deleted)
		}
	}
}
