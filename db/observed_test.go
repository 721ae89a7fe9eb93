package db_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestReportsOfANode(t *testing.T) {
	w := newWorld(t)
	o := report("h1")
	o.Problems, o.Unknown, o.Rack, o.ImageFreeBytes = []string{"clock"}, []string{"vmt-x"}, "r7", 5
	if c := w.report(o); !c.NodeNew || c.NodeBack || !c.NeedsDocument || c.PoolLost {
		t.Errorf("first: %+v", c)
	}
	n, err := w.Node(w.ctx, "h1")
	w.must(err)
	if !n.Alive || n.LastSeen == nil || !n.Enabled || n.Rack != "r7" || n.AvailabilityZone != "nova" || n.PoolUUID != "pool-h1" || n.PoolFree != 90*gib || n.ImageFree != 5 || n.Applied != 0 || n.Generation != 1 || string(n.Problems) != `["clock", "unknown: vmt-x"]` {
		t.Errorf("%+v", n)
	}
	o.Generation, o.Settled = 1, true
	if c := w.report(o); c.NodeNew || c.NodeBack || c.NeedsDocument || !c.Settled {
		t.Errorf("second: %+v", c)
	}
	w.tx(func(t *db.Tx) error { return t.Bump("h1") })
	if c := w.report(o); !c.NeedsDocument {
		t.Errorf("behind: %+v", c)
	}
	if n, _ = w.Node(w.ctx, "h1"); n.Applied != 1 || n.Generation != 2 {
		t.Errorf("applied %d of %d", n.Applied, n.Generation)
	}
	w.must(w.SetNodeEnabled(w.ctx, "h1", false, new("broken fan")))
	w.must(w.SetNodeFrozen(w.ctx, "h1", true))
	o.BootID = "boot-2"
	if c := w.report(o); !c.NodeBack {
		t.Errorf("rebooted: %+v", c)
	}
	lost, err := w.LoseNodes(w.ctx, time.Now().Add(time.Hour))
	w.must(err)
	again, err := w.LoseNodes(w.ctx, time.Now().Add(time.Hour))
	w.must(err)
	if n, _ = w.Node(w.ctx, "h1"); !slices.Equal(lost, []string{"h1"}) || again != nil || n.Alive || n.Enabled || *n.DisabledReason != "broken fan" || !n.Frozen {
		t.Errorf("lost %v, then %v: %+v", lost, again, n)
	}
	if c := w.report(o); !c.NodeBack {
		t.Errorf("was lost: %+v", c)
	}
	if lost, err = w.LoseNodes(w.ctx, time.Now().Add(-time.Hour)); lost != nil || err != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
	// The same first report, twice at once.
	var g errgroup.Group
	fresh := make([]bool, 4)
	for i := range fresh {
		g.Go(func() error { c, err := w.SaveObserved(w.ctx, report("h2")); fresh[i] = c.NodeNew; return err })
	}
	w.must(g.Wait())
	if first := slices.Index(fresh, true); first < 0 || slices.Contains(fresh[first+1:], true) {
		t.Errorf("new: %v, want one", fresh)
	}
}

func TestReportsOfAnImport(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	id := uuid.New()
	w.create(image(id), vol(5))
	w.tx(func(t *db.Tx) error {
		_ = t.Bump("h1")
		if err := t.SetImage(id, model.ImageImporting, nil); err != nil {
			return err
		}
		return t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRoot, State: model.MemberJoining})
	})
	see := func(o model.Observed, i model.ObservedImage) model.Changes {
		i.ID, i.Role = id.String(), model.RoleRoot
		o.Images = []model.ObservedImage{i}
		return w.report(o)
	}
	see(w.current("h1"), model.ObservedImage{State: model.DeviceImporting, Phase: "downloading", Done: 3, Total: 9, VirtualBytes: 4 * gib})
	if i := w.image(id); i.Phase != "downloading" || i.Done != 3 || i.Total != 9 || i.VirtualBytes != 4*gib || i.Status != model.ImageImporting {
		t.Errorf("%+v", i)
	}
	// An old report may be about the attempt before.
	failed := model.ObservedImage{State: model.DeviceError, Error: "no space"}
	if c := see(report("h1"), failed); len(c.ImportFailed) != 0 {
		t.Errorf("an old report: %+v", c)
	}
	if c := see(w.current("h1"), failed); c.ImportFailed[id] != "no space" || len(c.Imported) != 0 {
		t.Errorf("%+v", c)
	}
	ready := model.ObservedImage{State: model.DeviceReady, VirtualBytes: 4 * gib, DeviceBytes: 4 * gib}
	for range 2 { // until somebody acts
		if c := see(w.current("h1"), ready); !slices.Equal(c.Imported, []uuid.UUID{id}) || len(c.ImportFailed) != 0 {
			t.Errorf("%+v", c)
		}
	}
	ms, _ := w.Members(w.ctx, id)
	if ms[0].State != model.MemberActive {
		t.Errorf("%+v", ms)
	}
	w.must(w.FinishImport(w.ctx, id, 4*gib, 4*gib))
	if c := see(w.current("h1"), ready); len(c.Imported) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestReportsOfMembers(t *testing.T) {
	w := newWorld(t)
	id := w.active("h0", gib)
	w.node("h1")
	put := func(state model.MemberState) {
		w.tx(func(t *db.Tx) error {
			_ = t.Bump("h1")
			return t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRelay, State: state, Parent: new("h0")})
		})
	}
	see := func(o model.Observed, i model.ObservedImage) model.Changes {
		i.ID, i.Role = id.String(), model.RoleRelay
		o.Images = []model.ObservedImage{i}
		return w.report(o)
	}
	member := func() model.Member {
		ms, err := w.Members(w.ctx, id)
		w.must(err)
		return ms[1] // h1 is before h2
	}
	put(model.MemberJoining)
	if c := see(w.current("h1"), model.ObservedImage{State: model.DeviceBuilding, Error: "waits for h0"}); member().State != model.MemberJoining || len(c.PathLost) != 0 {
		t.Errorf("building: %+v %+v", c, member())
	}
	c := see(w.current("h1"), model.ObservedImage{State: model.DeviceReady, Parent: "h0", CacheMade: true, UpstreamBytes: 1, ReadBytes: 2, ServedBytes: 3, CacheHits: 4, CacheMisses: 5})
	if m := member(); m.State != model.MemberActive || !m.CacheMade || m.ObservedParent != "h0" || m.UpstreamBytes != 1 || m.ReadBytes != 2 || m.ServedBytes != 3 || m.CacheHits != 4 || m.CacheMisses != 5 || m.Error != "" || len(c.PathBack) != 0 {
		t.Errorf("ready: %+v %+v", c, m)
	}
	lost := model.ObservedImage{State: model.DevicePathLost, Parent: "h0"}
	for want := 1; want >= 0; want-- { // told once
		if c := see(w.current("h1"), lost); len(c.PathLost) != want || member().State != model.MemberPathLost || !member().CacheMade {
			t.Errorf("path lost: %+v %+v", c, member())
		}
	}
	if c := see(w.current("h1"), model.ObservedImage{State: model.DeviceReady}); !slices.Equal(c.PathBack, []uuid.UUID{id}) || member().State != model.MemberActive {
		t.Errorf("path back: %+v", c)
	}
	// A parent that it has let go gets a new document, and knew it as a child until then.
	w.node("h2")
	w.tx(func(t *db.Tx) error {
		return errors.Join(t.PutMember(model.Member{ImageID: id, Host: "h2", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h0")}),
			t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h2")}))
	})
	see(w.current("h1"), model.ObservedImage{State: model.DeviceReady, Parent: "h0"})
	st, err := w.NodeState(w.ctx, "h0")
	w.must(err)
	if len(st.Children[id]) != 2 {
		t.Errorf("children of h0: %+v", st.Children)
	}
	before := w.generation("h0")
	for range 2 {
		see(w.current("h1"), model.ObservedImage{State: model.DeviceReady, Parent: "h2"})
	}
	st, err = w.NodeState(w.ctx, "h0")
	w.must(err)
	if g := w.generation("h0"); g != before+1 || len(st.Children[id]) != 1 {
		t.Errorf("generation of h0 %d after %d, children %+v", g, before, st.Children)
	}
	w.tx(func(t *db.Tx) error { return t.DeleteMember(id, "h1") })
	put(model.MemberDraining)
	if c := see(w.current("h1"), model.ObservedImage{State: model.DeviceReady, Children: []string{"iqn"}}); len(c.Drained) != 0 {
		t.Errorf("a child is logged in: %+v", c)
	}
	if c := see(w.current("h1"), model.ObservedImage{State: model.DeviceReady}); !slices.Equal(c.Drained, []uuid.UUID{id}) || member().State != model.MemberDraining {
		t.Errorf("drained: %+v", c)
	}
	put(model.MemberLeaving)
	gone := model.ObservedImage{State: model.DeviceAbsent}
	if c := see(report("h1"), gone); len(c.Left) != 0 {
		t.Errorf("an old report: %+v", c)
	}
	if c := w.report(w.current("h1")); len(c.Left) != 0 {
		t.Errorf("silence: %+v", c)
	}
	if c := see(w.current("h1"), gone); !slices.Equal(c.Left, []uuid.UUID{id}) {
		t.Errorf("left: %+v", c)
	}
}

func TestReportsOfVolumes(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	v := w.create(nil, vol(1))[0]
	w.tx(func(t *db.Tx) error { _, err := t.SetHome(v.ID, "h1"); return err })
	see := func(o model.Observed, s model.DeviceState, made bool) model.Changes {
		o.Volumes = []model.ObservedVolume{{ID: v.ID.String(), State: s, Materialized: made}}
		return w.report(o)
	}
	see(w.current("h1"), model.DeviceReady, true)
	see(w.current("h1"), model.DeviceInactive, false)
	if !w.volume(v.ID).Materialized {
		t.Error("its data is forgotten")
	}
	if c := see(w.current("h1"), model.DeviceAbsent, false); len(c.Deleted) != 0 {
		t.Errorf("nobody wants it deleted: %+v", c)
	}
	old := w.current("h1")
	_, err := w.MoveVolume(w.ctx, v.ID, model.VolumeMove{From: model.Deletable, To: model.VolumeDeleting})
	w.must(err)
	if c := see(old, model.DeviceAbsent, false); len(c.Deleted) != 0 || !c.NeedsDocument {
		t.Errorf("an old report is no proof: %+v", c)
	}
	if c := w.report(w.current("h1")); len(c.Deleted) != 0 {
		t.Errorf("silence is no proof: %+v", c)
	}
	other := w.current("h1")
	other.Pool = model.ObservedPool{State: "missing"}
	if c := see(other, model.DeviceAbsent, false); len(c.Deleted) != 0 || c.PoolLost {
		t.Errorf("a missing pool is no proof: %+v", c)
	}
	for range 2 {
		if c := see(w.current("h1"), model.DeviceAbsent, false); !slices.Equal(c.Deleted, []uuid.UUID{v.ID}) {
			t.Errorf("gone: %+v", c)
		}
	}
}

func TestPoolLost(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	vs := w.create(nil, vol(1), vol(1), vol(1))
	w.tx(func(t *db.Tx) error {
		for _, v := range vs {
			if _, err := t.SetHome(v.ID, "h1"); err != nil {
				return err
			}
		}
		return nil
	})
	a, err := w.reserve(vs[0].ID, nil)
	w.must(err)
	w.attaching(a)
	w.must(w.CompleteAttachment(w.ctx, a.ID))
	o := w.current("h1")
	o.Volumes = []model.ObservedVolume{{ID: vs[0].ID.String(), State: model.DeviceReady, Materialized: true}, {ID: vs[1].ID.String(), State: model.DeviceInactive, Materialized: true}}
	w.report(o)
	foreign := w.current("h1")
	foreign.Pool.UUID = "another"
	foreign.Volumes = []model.ObservedVolume{{ID: vs[2].ID.String(), Materialized: true}}
	if c := w.report(foreign); !c.PoolLost {
		t.Errorf("%+v", c)
	}
	w.states(vs[0].ID, "error", "attached")
	w.states(vs[1].ID, "error", "detached")
	w.states(vs[2].ID, "available", "detached") // had no data
	if w.volume(vs[2].ID).Materialized || w.volume(vs[0].ID).Error == nil {
		t.Error("what another pool shows is not ours; or no reason is given")
	}
	if n := w.count("SELECT count(*) FROM messages"); n != 2 {
		t.Errorf("%d messages", n)
	}
	if c := w.report(foreign); c.PoolLost {
		t.Error("told twice")
	}
	n, err := w.Node(w.ctx, "h1")
	w.must(err)
	if n.PoolUUID != "pool-h1" || n.PoolState != "foreign" {
		t.Errorf("%+v", n)
	}
	w.must(w.ForgetPool(w.ctx, "h1"))
	w.report(foreign)
	if n, _ = w.Node(w.ctx, "h1"); n.PoolUUID != "another" || n.PoolState != "rw" {
		t.Errorf("after an operator has acted: %+v", n)
	}
}

// A report that was under way while a volume was reverted speaks of the thin device that the
// volume had before: the new one is not made by it.
func TestLateReportOfAReverted(t *testing.T) {
	w := newWorld(t)
	w.node("n1")
	v := w.create(nil, vol(1))[0]
	w.tx(func(t *db.Tx) error { _, err := t.SetHome(v.ID, "n1"); return err })
	made := func(id uuid.UUID, thin int64) model.ObservedVolume {
		return model.ObservedVolume{ID: id.String(), State: model.DeviceInactive, Materialized: true, ThinID: uint32(thin)}
	}
	before := *w.volume(v.ID).ThinID
	o := w.current("n1")
	o.Volumes = []model.ObservedVolume{made(v.ID, before)}
	w.report(o)
	snaps, err := w.CreateSnapshots(t.Context(), []model.Snapshot{{VolumeID: v.ID, ProjectID: "p", UserID: "u"}}, []model.VolumeStatus{model.VolumeAvailable})
	w.must(err)
	sn := snaps[0]
	o = w.current("n1")
	o.Volumes = []model.ObservedVolume{made(v.ID, before), made(sn.ID, *sn.ThinID)}
	w.report(o)
	w.tx(func(t *db.Tx) error { _, err := t.Revert(v.ID, sn.ID); return err })
	for _, generation := range []int64{o.Generation, w.generation("n1")} {
		o.Generation = generation
		w.report(o)
		if now := w.volume(v.ID); now.Status != model.VolumeReverting || now.Materialized || *now.ThinID == before {
			t.Errorf("after a late report: %+v", now)
		}
	}
	o = w.current("n1")
	o.Volumes = []model.ObservedVolume{made(v.ID, *w.volume(v.ID).ThinID), made(sn.ID, *sn.ThinID)}
	w.report(o)
	if now := w.volume(v.ID); now.Status != model.VolumeAvailable || !now.Materialized {
		t.Errorf("when it was made: %+v", now)
	}
}
