package wire

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

func (s *site) retype(id uuid.UUID, to model.VolumeType, move bool) error {
	v := s.volume(id)
	return s.svc.Retype(context.Background(), id, to, move, []model.VolumeStatus{v.Status}, model.Task{ProjectID: "p", UserID: "u"})
}

// typeIs compares a volume's type, and what it counts for.
func (s *site) typeIs(id uuid.UUID, want model.VolumeType) {
	s.t.Helper()
	if v := s.volume(id); *v.VolumeTypeID != want.ID || v.RetypeTo != nil {
		s.t.Errorf("type %s, to be %v; want %s", *v.VolumeType, v.RetypeTo, want.Name)
	}
}

// Where a volume's node is for the new type too, or it has none, nothing moves; nor does it if the policy
// is never, and then it keeps its type and its owner is told.
func TestRetypeStays(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	other, err := s.store.CreateType(context.Background(), model.VolumeType{Name: "other", ExtraSpecs: model.StringMap{"multiattach": "<is> True"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []model.Volume{s.typed(1, ssd, nil, nil)[0], s.typedData(ssd, nil, "n1"), s.typedData(ssd, anImage(), "n1")} {
		host := on(v)
		for _, move := range []bool{false, true} {
			for _, to := range []model.VolumeType{other, ssd} {
				if err := s.retype(v.ID, to, move); err != nil {
					t.Fatal(err)
				}
				s.typeIs(v.ID, to)
				if now := s.volume(v.ID); on(now) != host || migration(now) != "" || now.Multiattach != (to.ID == other.ID) {
					t.Errorf("to %s: %+v", to.Name, now)
				}
			}
		}
		if err := s.retype(v.ID, hdd, false); err != nil {
			t.Fatal(err)
		}
		s.typeIs(v.ID, ssd)
		ms := s.messages(v.ID)
		if now := s.volume(v.ID); on(now) != host || now.Status != model.VolumeAvailable || migration(now) != "" || len(ms) != 1 ||
			ms[0].EventID != "VOLUME_VOLUME_001_003" || !strings.Contains(ms[0].UserMessage, "the migration policy is never") {
			t.Errorf("%+v, %+v", now, ms)
		}
	}
	v := s.create(1, nil)[0]
	if err := s.retype(v.ID, hdd, false); err != nil {
		t.Fatal(err)
	}
	s.typeIs(v.ID, hdd)
	if now := s.volume(v.ID); on(now) != "(n3)" && on(now) != "(n4)" || migration(now) != "" {
		t.Errorf("one that was nowhere is on %q", on(now))
	}
	tape := s.kind("tape", "volume_backend_name")
	if err := s.retype(v.ID, tape, true); err != nil {
		t.Fatal(err)
	}
	s.typeIs(v.ID, hdd)
	if ms := s.messages(v.ID); len(ms) != 1 || !strings.Contains(ms[0].UserMessage, "volume_backend_name=tape") {
		t.Errorf("%+v", ms)
	}
}

// An empty volume is at its new type's node at once, of others the data are copied; it has the type
// when it is there, not before.
func TestRetypeMoves(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	placed, empty := s.typed(1, ssd, nil, nil)[0], s.typed(1, ssd, nil, nil)[0]
	s.migrate(empty.ID, strings.Trim(map[string]string{"(n1)": "n2", "(n2)": "n1"}[on(empty)], "()"))
	for _, id := range []uuid.UUID{placed.ID, empty.ID} {
		if err := s.retype(id, hdd, true); err != nil {
			t.Fatal(err)
		}
		s.typeIs(id, hdd)
		if now := s.volume(id); strings.Trim(on(now), "()") != "n3" && strings.Trim(on(now), "()") != "n4" || migration(now) != "success" {
			t.Errorf("on %q, %s", on(now), migration(now))
		}
	}
	for _, image := range []*model.Image{nil, anImage()} {
		v := s.typedData(ssd, image, "n1")
		s.serving(model.TaskStateWorking, "")
		if err := s.retype(v.ID, hdd, true); err != nil {
			t.Fatal(err)
		}
		now := s.volume(v.ID)
		if *now.VolumeTypeID != ssd.ID || now.RetypeTo == nil || *now.RetypeTo != hdd.ID || now.Status != model.VolumeMaintenance || on(now) != "n1" {
			t.Errorf("meanwhile %+v", now)
		}
		s.serving(model.TaskStateDone, "")
		s.until("it to be there", func() bool {
			now = s.volume(v.ID)
			if now.Status != model.VolumeAvailable && *now.VolumeTypeID == hdd.ID {
				t.Error("it has its type before it is there")
			}
			return now.Status == model.VolumeAvailable
		})
		s.typeIs(v.ID, hdd)
		if on(now) != "n3" && on(now) != "n4" || migration(now) != "success" || !now.Materialized {
			t.Errorf("afterwards %+v", now)
		}
		s.noTasks()
	}
}

// Whatever fails, the volume is where it was and what it was, and counts for nothing else.
func TestRetypeFails(t *testing.T) {
	ctx := context.Background()
	for name, fails := range map[string]func(s *site, v model.Volume){
		"copying": func(s *site, _ model.Volume) { s.serving(model.TaskStateFailed, "no luck") },
		"the old home": func(s *site, _ model.Volume) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.serveFails = "no luck"
		},
		"somebody resets it": func(s *site, v model.Volume) {
			available := model.VolumeAvailable
			if err := s.store.ResetVolume(ctx, v.ID, &available, nil, nil); err != nil {
				s.t.Fatal(err)
			}
			s.serving(model.TaskStateDone, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, ssd, hdd := twoBackends(t)
			v := s.typedData(ssd, nil, "n1")
			s.serving(model.TaskStateWorking, "")
			if err := s.retype(v.ID, hdd, true); err != nil {
				t.Fatal(err)
			}
			fails(s, v)
			s.noTasks()
			s.typeIs(v.ID, ssd)
			now := s.volume(v.ID)
			if now.Status != model.VolumeAvailable || on(now) != "n1" || *now.ThinID != *v.ThinID {
				t.Errorf("%+v", now)
			}
		})
	}
}

// What can't be moved as it is, is said at once, and nothing changes.
func TestRetypeImmovable(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	snapped := s.typedData(ssd, nil, "n1")
	s.snapshotIs(s.snapshot(snapped.ID).ID, model.SnapshotAvailable)
	used := s.typedData(ssd, nil, "n1")
	att, _, err := s.connect(used.ID, "n1")
	if err == nil {
		err = s.store.CompleteAttachment(context.Background(), att)
	}
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uuid.UUID]string{snapped.ID: "1 snapshots", used.ID: "only detached volumes are moved"} {
		before := s.volume(id)
		if err := s.retype(id, hdd, true); !errors.Is(err, model.ErrImmovable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		s.typeIs(id, ssd)
		if now := s.volume(id); now.Status != before.Status || on(now) != "n1" {
			t.Errorf("%+v", now)
		}
	}
	s.typeIs(snapped.ID, ssd)
	// In use, it can have another type of its own node.
	plain, err := s.store.CreateType(context.Background(), model.VolumeType{Name: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.retype(used.ID, plain, false); err != nil {
		t.Error(err)
	}
	s.typeIs(used.ID, plain)
}

// Quotas of the new type count from the start, and are given back if it fails.
func TestRetypeQuotas(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	ctx := context.Background()
	usage := func(want int64) {
		t.Helper()
		u, err := s.store.Usage(ctx, "p")
		if err != nil || u["volumes_"+hdd.Name] != want || u["volumes"] != 3 {
			t.Errorf("%v, %v", u, err)
		}
	}
	var vols []model.Volume
	for range 3 {
		vols = append(vols, s.typedData(ssd, nil, "n1"))
	}
	if err := s.store.SetQuotas(ctx, "p", map[string]int64{"volumes_" + hdd.Name: 1}); err != nil {
		t.Fatal(err)
	}
	s.serving(model.TaskStateWorking, "")
	if err := s.retype(vols[0].ID, hdd, true); err != nil {
		t.Fatal(err)
	}
	usage(1)
	if err := s.retype(vols[1].ID, hdd, true); !errors.As(err, new(*model.QuotaError)) {
		t.Errorf("one too many: %v", err)
	}
	s.serving(model.TaskStateFailed, "no luck")
	s.noTasks()
	usage(0)
	s.serving(model.TaskStateDone, "")
	if err := s.retype(vols[1].ID, hdd, true); err != nil {
		t.Fatal(err)
	}
	s.until("it to be there", func() bool { return s.status(vols[1].ID) == model.VolumeAvailable })
	usage(1)
	s.typeIs(vols[1].ID, hdd)
}
