package wire

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// thin makes a thin device in a node's pool that nobody knows.
func (s *site) thin(host string, id uint32, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[host].thin[id], s.agents[host].ends[id] = true, end
}

func (s *site) has(host string, id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agents[host].thin[uint32(id)]
}

func (s *site) volume(id uuid.UUID) model.Volume {
	s.t.Helper()
	v, err := s.store.Volume(context.Background(), id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *site) manage(host, ref string) model.Volume {
	s.t.Helper()
	v, err := s.svc.Manage(context.Background(), model.Volume{ProjectID: "p", UserID: "u", ConsumesQuota: true, AvailabilityZone: "nova"}, nil, host, model.ParseReference(ref))
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// What was unmanaged is where it was: its number is not given again, its image stays, and it
// can be managed as what it was.
func TestUnmanageAndManage(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{ImageIdle: time.Nanosecond}, "o1", "n1")
	image := anImage()
	v := s.written(image)
	if err := s.svc.Unmanage(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	s.until("the volume to be gone", func() bool { return s.status(v.ID) == "gone" })
	if !s.has("n1", *v.ThinID) {
		t.Fatal("the thin device went with the volume")
	}
	list, err := s.svc.Manageable(ctx, "n1", model.KindVolume)
	if err != nil || len(list) != 1 || list[0].Reference != "volume-"+v.ID.String() || list[0].SizeGiB != 1 || list[0].Reason != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	other := s.written(image) // and with it the image is looked at when that goes
	if *other.ThinID == *v.ThinID {
		t.Fatalf("thin device %d was given again", *v.ThinID)
	}
	if err := s.svc.Delete(ctx, other.ID, model.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.until("the other to be gone", func() bool { return s.status(other.ID) == "gone" })
	s.until("no job to be left", func() bool {
		_, err := s.store.TakeJob(ctx, "test", time.Millisecond)
		return errors.Is(err, model.ErrNotFound)
	})
	if i, err := s.store.Image(ctx, image.ID); err != nil || i.Status != model.ImageActive {
		t.Fatalf("image %+v, %v", i, err)
	}
	again := s.manage("n1", "volume-"+v.ID.String())
	if again.Status != model.VolumeAvailable || again.ImageID == nil || *again.ImageID != image.ID ||
		*again.Home != "n1" || *again.ThinID != *v.ThinID || again.SizeGiB != 1 || !again.Materialized || again.LaunchedAt == nil {
		t.Errorf("%+v", again)
	}
	if _, _, err := s.connect(again.ID, "n1"); err != nil {
		t.Error(err)
	}
	if bad := s.manage("n1", "volume-"+v.ID.String()); bad.Status != model.VolumeErrorManaging || bad.Error == nil || bad.SizeGiB != 0 || bad.ConsumesQuota {
		t.Errorf("managed twice: %+v", bad)
	}
	if list, err = s.svc.Manageable(ctx, "n1", model.KindVolume); err != nil || len(list) != 1 || list[0].ManagedAs == nil || *list[0].ManagedAs != again.ID {
		t.Errorf("%+v, %v", list, err)
	}
}

// Nothing was ever written to it: what is remembered is all there is of it.
func TestUnmanagePristine(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	image := anImage()
	v := s.create(1, image)[0]
	s.available([]model.Volume{v})
	if err := s.svc.Unmanage(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	if st := s.status(v.ID); st != "gone" {
		t.Fatalf("it is %s", st)
	}
	again := s.manage("", "volume-"+v.ID.String())
	if again.Status != model.VolumeAvailable || again.Home != nil || again.ImageID == nil || again.SizeGiB != 1 {
		t.Errorf("%+v", again)
	}
	_, err := s.svc.Manage(ctx, model.Volume{ProjectID: "p", UserID: "u"}, nil, "", model.ParseReference("volume-"+v.ID.String()))
	if !errors.Is(err, model.ErrInvalid) {
		t.Errorf("without a host: %v", err)
	}
}

func TestUnmanageRefused(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	v := s.written(nil)
	refused := func(what string) {
		t.Helper()
		if err := s.svc.Unmanage(ctx, v.ID); !errors.Is(err, model.ErrConflict) {
			t.Errorf("%s: %v, want a conflict", what, err)
		}
	}
	if _, err := s.svc.Snapshot(ctx, []model.Snapshot{{VolumeID: v.ID, ProjectID: "p", UserID: "u"}}, []model.VolumeStatus{model.VolumeAvailable}); err != nil {
		t.Fatal(err)
	}
	refused("with a snapshot")
	v = s.written(nil)
	att := s.reserve(v.ID)
	refused("reserved")
	if _, err := s.svc.Disconnect(ctx, att); err != nil {
		t.Fatal(err)
	}
	// Its home holds it up: it goes on when that is back, and nothing is lost meanwhile.
	s.mu.Lock()
	s.agents["n1"].down = true
	s.mu.Unlock()
	if err := s.svc.Unmanage(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	if st := s.status(v.ID); st != model.VolumeUnmanaging {
		t.Errorf("it is %s", st)
	}
	s.mu.Lock()
	s.agents["n1"].down = false
	s.mu.Unlock()
	s.until("it to be gone", func() bool { return s.status(v.ID) == "gone" })
	if !s.has("n1", *v.ThinID) {
		t.Error("its thin device is gone")
	}
}

// Thin devices that were made by hand.
func TestManageThin(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	s.written(nil) // numbers are being given
	s.thin("n1", 1000, 3<<30+1)
	s.thin("n1", 5, 0)
	v := s.manage("n1", "thin-1000")
	if v.Status != model.VolumeAvailable || v.SizeGiB != 4 || *v.ThinID != 1000 || *v.Home != "n1" || v.ImageID != nil {
		t.Fatalf("%+v", v)
	}
	if usage, err := s.store.Usage(ctx, "p"); err != nil || usage["gigabytes"] != 4 {
		t.Errorf("usage %v, %v", usage, err)
	}
	// Numbers up to it are never given, so nothing ever takes one for its own.
	if w := s.written(nil); *w.ThinID <= 1000 {
		t.Errorf("a new volume is on thin device %d", *w.ThinID)
	}
	if _, _, err := s.connect(v.ID, "n1"); err != nil {
		t.Error(err)
	}
	for host, ref := range map[string]string{"n1": "thin-1000", "n2": "thin-5"} {
		if bad := s.manage(host, ref); bad.Status != model.VolumeErrorManaging {
			t.Errorf("%s at %s: %+v", ref, host, bad)
		}
	}
	if err := s.svc.Delete(ctx, s.manage("n1", "x").ID, model.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	// What does not fit into the quota is not managed, and stays.
	if err := s.store.SetQuotas(ctx, "p", map[string]int64{"gigabytes": 4}); err != nil {
		t.Fatal(err)
	}
	if bad := s.manage("n1", "thin-5"); bad.Status != model.VolumeErrorManaging || !strings.Contains(*bad.Error, "gigabytes") {
		t.Errorf("above the quota: %+v", bad)
	}
	if err := s.store.SetQuotas(ctx, "p", map[string]int64{"gigabytes": 100}); err != nil {
		t.Fatal(err)
	}
	// Of many at once one gets it.
	var wg sync.WaitGroup
	got := make([]model.VolumeStatus, 8)
	for i := range got {
		wg.Go(func() { got[i] = s.manage("n1", "thin-5").Status })
	}
	wg.Wait()
	slices.Sort(got)
	if got[0] != model.VolumeAvailable || got[1] != model.VolumeErrorManaging {
		t.Errorf("at once: %v", got)
	}
	s.mu.Lock()
	s.agents["n1"].down = true
	s.mu.Unlock()
	if _, err := s.svc.Manageable(ctx, "n1", model.KindVolume); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("of a dead node: %v", err)
	}
	if _, err := s.svc.Manageable(ctx, "n9", model.KindVolume); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("of no node: %v", err)
	}
}

// What is deleted by hand, and what was in a pool that is gone, is forgotten; its image goes.
func TestUnmanagedForgotten(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{ImageIdle: time.Nanosecond}, "o1", "n1")
	image := anImage()
	for _, forget := range []func(v model.Volume){
		func(v model.Volume) {
			s.mu.Lock()
			delete(s.agents["n1"].thin, uint32(*v.ThinID))
			s.mu.Unlock()
			if list, err := s.svc.Manageable(ctx, "n1", model.KindVolume); err != nil || len(list) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
		},
		func(model.Volume) {
			if err := s.store.ForgetPool(ctx, "n1"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		v := s.written(image)
		if err := s.svc.Unmanage(ctx, v.ID); err != nil {
			t.Fatal(err)
		}
		s.until("the volume to be gone", func() bool { return s.status(v.ID) == "gone" })
		forget(v)
		s.until("the image to be gone", func() bool {
			images, err := s.store.Images(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return len(images) == 0
		})
	}
}

// A snapshot that was unmanaged can be one again, of its volume or of one that took its place; a
// volume made from it holds what it held.
func TestUnmanageSnapshot(t *testing.T) {
	ctx := context.Background()
	available := []model.SnapshotStatus{model.SnapshotAvailable}
	for name, pristine := range map[string]bool{"written": false, "pristine": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
			image := anImage()
			var v model.Volume
			if pristine {
				v = s.create(1, image)[0]
				s.available([]model.Volume{v})
			} else {
				v = s.written(image)
			}
			snaps, err := s.svc.Snapshot(ctx, []model.Snapshot{{VolumeID: v.ID, ProjectID: "p", UserID: "u"}}, []model.VolumeStatus{model.VolumeAvailable})
			if err != nil {
				t.Fatal(err)
			}
			id := snaps[0].ID
			was := func() model.Snapshot {
				sn, err := s.store.Snapshot(ctx, id, "")
				if err != nil {
					t.Fatal(err)
				}
				return sn
			}
			s.until("the snapshot to be taken", func() bool { return was().Status == model.SnapshotAvailable })
			before := was()
			if err := s.svc.UnmanageSnapshot(ctx, id, []model.SnapshotStatus{model.SnapshotError}); !errors.Is(err, model.ErrConflict) {
				t.Errorf("in another status: %v", err)
			}
			if err := s.svc.UnmanageSnapshot(ctx, id, available); err != nil {
				t.Fatal(err)
			}
			if _, err := s.store.Snapshot(ctx, id, ""); !errors.Is(err, model.ErrNotFound) {
				t.Errorf("afterwards: %v", err)
			}
			if !pristine && !s.has("n1", *before.ThinID) {
				t.Error("its thin device is gone")
			}
			list, err := s.svc.Manageable(ctx, "n1", model.KindSnapshot)
			if err != nil || len(list) != 1 || list[0].Reference != "snapshot-"+id.String() || list[0].Reason != "" || list[0].Source != "volume-"+v.ID.String() {
				t.Errorf("%+v, %v", list, err)
			}
			manage := func(volume uuid.UUID, ref string) model.Snapshot {
				t.Helper()
				sn, err := s.svc.ManageSnapshot(ctx, model.Snapshot{VolumeID: volume, ProjectID: "p", UserID: "u", ConsumesQuota: true}, model.ParseReference(ref))
				if err != nil {
					t.Fatal(err)
				}
				return sn
			}
			other := s.written(nil)
			for what, sn := range map[string]model.Snapshot{
				"of a volume without the image": manage(other.ID, "snapshot-"+id.String()),
				"of what is not there":          manage(v.ID, "snapshot-"+uuid.NewString()),
				"of no reference":               manage(v.ID, ""),
			} {
				if sn.Status != model.SnapshotError || sn.Error == nil || sn.ThinID != nil || sn.ConsumesQuota {
					t.Errorf("%s: %+v", what, sn)
				}
				if err := s.svc.DeleteSnapshot(ctx, sn.ID, nil); err != nil {
					t.Error(err)
				}
			}
			again := manage(v.ID, "_snapshot-"+id.String())
			if again.Status != model.SnapshotAvailable || again.SizeGiB != 1 || again.Progress != "100%" || !again.Materialized && !pristine ||
				again.ImageID == nil || *again.ImageID != image.ID || (again.ThinID == nil) != pristine || !pristine && *again.ThinID != *before.ThinID {
				t.Errorf("again %+v", again)
			}
			made := s.copyOf(model.Volume{SnapshotID: &again.ID, SizeGiB: 1})
			s.available([]model.Volume{made})
			if err := s.svc.DeleteSnapshot(ctx, again.ID, nil); err != nil {
				t.Fatal(err)
			}
			s.until("it to be gone", func() bool {
				_, err := s.store.Snapshot(ctx, again.ID, "")
				return errors.Is(err, model.ErrNotFound)
			})
			if !pristine && s.has("n1", *before.ThinID) {
				t.Error("its thin device is left")
			}
		})
	}
}
