package wire

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// group makes one of project p.
func (s *site) group(consistent bool) model.Group {
	s.t.Helper()
	ctx := context.Background()
	specs := model.StringMap{}
	if consistent {
		specs["consistent_group_snapshot_enabled"] = "<is> True"
	}
	y, err := s.store.CreateGroupType(ctx, model.GroupType{Name: uuid.NewString(), IsPublic: true, Specs: specs})
	if err != nil {
		s.t.Fatal(err)
	}
	g, err := s.store.CreateGroup(ctx, model.Group{ProjectID: "p", UserID: "u", GroupTypeID: y.ID, AvailabilityZone: new("nova")})
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// grouped are n volumes in a group.
func (s *site) grouped(g model.Group, n int, image *model.Image) []model.Volume {
	s.t.Helper()
	var vols []model.Volume
	for range n {
		vols = append(vols, model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova", GroupID: &g.ID, ConsumesQuota: true})
	}
	out, err := s.svc.Create(context.Background(), vols, nil, image)
	if err != nil {
		s.t.Fatal(err)
	}
	s.available(out)
	return out
}

// homes of volumes, which have one.
func (s *site) homes(vols []model.Volume) (out []string) {
	s.t.Helper()
	for _, v := range vols {
		v, err := s.store.Volume(context.Background(), v.ID, "")
		if err != nil || v.Home == nil {
			s.t.Fatalf("volume %s: home %v, %v", v.ID, v.Home, err)
		}
		out = append(out, *v.Home)
	}
	return out
}

// The volumes of a consistent group live with the first of them that is attached, whoever
// asks for the others, and however many at once.
func TestConsistentGroupLivesOnOneHost(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2", "n3")
	vols := s.grouped(s.group(true), 6, anImage())
	var wg sync.WaitGroup
	for i, v := range vols {
		id, host := s.reserve(v.ID), []string{"n1", "n2", "n3"}[i%3]
		wg.Go(func() {
			c := model.Connector{Host: host, Initiator: "iqn.test:" + host}
			if _, err := s.svc.Connect(context.Background(), id, c, []byte(`{"host":"`+host+`","initiator":"iqn.test:`+host+`"}`), "rw"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	homes := s.homes(vols)
	for _, h := range homes {
		if h != homes[0] {
			t.Fatalf("homes %v", homes)
		}
	}
	free := s.grouped(s.group(false), 2, nil)
	for i, host := range []string{"n1", "n2"} {
		if _, _, err := s.connect(free[i].ID, host); err != nil {
			t.Error(err)
		}
	}
	if homes := s.homes(free); homes[0] == homes[1] {
		t.Errorf("a group that is not consistent is kept on %v", homes)
	}
}

// writtenGroup is a consistent group of two volumes with data on n1, and one without.
func (s *site) writtenGroup() (model.Group, []model.Volume) {
	s.t.Helper()
	g := s.group(true)
	vols := s.grouped(g, 3, nil)
	for _, v := range vols[:2] {
		att, _, err := s.connect(v.ID, "n1")
		if err == nil {
			_, err = s.svc.Disconnect(context.Background(), att)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return g, vols
}

func (s *site) groupSnapshotIs(id uuid.UUID, want model.GroupStatus) {
	s.t.Helper()
	s.until("group snapshot to be "+string(want), func() bool {
		p, err := s.store.GroupSnapshot(context.Background(), id, "")
		if errors.Is(err, model.ErrNotFound) {
			return want == "gone"
		}
		return err == nil && p.Status == want
	})
}

func (s *site) groupIs(id uuid.UUID, want model.GroupStatus) model.Group {
	s.t.Helper()
	var g model.Group
	s.until("group to be "+string(want), func() bool {
		var err error
		g, err = s.store.Group(context.Background(), id, "")
		if errors.Is(err, model.ErrNotFound) {
			return want == "gone"
		}
		return err == nil && g.Status == want
	})
	return g
}

func (s *site) snapshotsOf(group uuid.UUID) []model.Snapshot {
	s.t.Helper()
	sns, err := s.store.ListSnapshots(context.Background(), model.ListQuery{Filters: []model.Filter{{Column: "group_snapshot_id", Op: "=", Value: group.String()}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return sns
}

// A group's life: snapshot, a group from that and from the group, and all of it gone.
func TestGroupFromFirstToLast(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	g, vols := s.writtenGroup()
	p, err := s.svc.SnapshotGroup(ctx, model.GroupSnapshot{GroupID: g.ID, ProjectID: "p", UserID: "u"})
	if err != nil || p.Status != model.GroupCreating {
		t.Fatalf("%+v, %v", p, err)
	}
	together := 0
	for _, sn := range s.snapshotsOf(p.ID) {
		if sn.Together != nil && *sn.Together == p.ID {
			together++
		} else if sn.Home != nil {
			t.Errorf("a snapshot by itself: %+v", sn)
		}
	}
	if together != 2 {
		t.Errorf("%d snapshots are made together, want the two with data", together)
	}
	s.groupSnapshotIs(p.ID, model.GroupAvailable)
	for _, sn := range s.snapshotsOf(p.ID) {
		if err := s.svc.Delete(ctx, sn.VolumeID, model.DeleteOptions{Cascade: true}); !errors.Is(err, model.ErrConflict) {
			t.Errorf("delete of a volume in a group: %v", err)
		}
	}
	var copies []model.Group
	for _, from := range []model.Group{{GroupSnapshotID: &p.ID}, {SourceGroupID: &g.ID}} {
		from.ProjectID, from.UserID = "p", "u"
		made, err := s.svc.CopyGroup(ctx, from)
		if err != nil || made.GroupTypeID != g.GroupTypeID || made.AvailabilityZone == nil || *made.AvailabilityZone != "nova" {
			t.Fatalf("%+v, %v", made, err)
		}
		made = s.groupIs(made.ID, model.GroupAvailable)
		if len(made.Volumes) != len(vols) {
			t.Errorf("%d volumes in the copy", len(made.Volumes))
		}
		for _, id := range made.Volumes {
			s.volumeIs(id, model.VolumeAvailable)
		}
		copies = append(copies, made)
	}
	if err := s.svc.DeleteGroup(ctx, g.ID, true); !errors.Is(err, model.ErrInvalid) || !strings.Contains(err.Error(), "existing snapshots") {
		t.Errorf("delete of a group with a snapshot: %v", err)
	}
	if err := s.svc.DeleteGroupSnapshot(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	s.groupSnapshotIs(p.ID, "gone")
	if sns := s.snapshotsOf(p.ID); len(sns) > 0 {
		t.Errorf("left: %+v", sns)
	}
	for _, g := range append(copies, g) {
		if err := s.svc.DeleteGroup(ctx, g.ID, false); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("delete without its volumes: %v", err)
		}
		if err := s.svc.DeleteGroup(ctx, g.ID, true); err != nil {
			t.Fatal(err)
		}
		s.groupIs(g.ID, "gone")
	}
	for _, v := range vols {
		s.volumeIs(v.ID, "gone")
	}
	if n := s.thinsOf("n1"); n != 0 {
		t.Errorf("%d thin devices are left", n)
	}
	used, err := s.store.Usage(ctx, "p")
	for name, n := range used {
		if err != nil || n != 0 {
			t.Errorf("used of %s: %d, %v", name, n, err)
		}
	}
}

// When one copy can't be made, none is available.
func TestGroupSnapshotFails(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	g, _ := s.writtenGroup()
	s.mu.Lock()
	s.agents["n1"].noCopies = true
	s.mu.Unlock()
	p, err := s.svc.SnapshotGroup(ctx, model.GroupSnapshot{GroupID: g.ID, ProjectID: "p", UserID: "u"})
	if err != nil {
		t.Fatal(err)
	}
	s.groupSnapshotIs(p.ID, model.GroupError)
	for _, sn := range s.snapshotsOf(p.ID) {
		if want := map[bool]model.SnapshotStatus{true: model.SnapshotError, false: model.SnapshotAvailable}[sn.Home != nil]; sn.Status != want {
			t.Errorf("%+v, want %s", sn, want)
		}
	}
	if _, err := s.svc.CopyGroup(ctx, model.Group{GroupSnapshotID: &p.ID, ProjectID: "p", UserID: "u"}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("a group from it: %v", err)
	}
	if err := s.svc.DeleteGroupSnapshot(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	s.groupSnapshotIs(p.ID, "gone")
}

// A volume of a group that is deleted while it is uploaded takes the upload with it.
func TestGroupGoesWhileUploaded(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	g, vols := s.writtenGroup()
	s.ends(model.TaskStateWorking, "")
	s.upload(vols[0].ID, true, model.VolumeAvailable)
	if err := s.svc.DeleteGroup(context.Background(), g.ID, true); err != nil {
		t.Fatal(err)
	}
	s.groupIs(g.ID, "gone")
	s.noTasks()
}
