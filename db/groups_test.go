package db_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// group makes a group of project p1 for volumes of these types.
func (w *world) group(consistent bool, kinds ...uuid.UUID) model.Group {
	w.t.Helper()
	specs := model.StringMap{}
	if consistent {
		specs["consistent_group_snapshot_enabled"] = "<is> True"
	}
	y, err := w.CreateGroupType(w.ctx, model.GroupType{Name: uuid.NewString(), IsPublic: true, Specs: specs})
	w.must(err)
	g, err := w.CreateGroup(w.ctx, model.Group{ProjectID: "p1", UserID: "u1", GroupTypeID: y.ID, VolumeTypes: kinds})
	w.must(err)
	return g
}

// A volume that is in a group does not go to another project: it would go with a group that
// is not its owner's.
func TestGroupedVolumeIsNotAccepted(t *testing.T) {
	w := newWorld(t)
	g := w.group(false)
	in := vol(1)
	in.GroupID = &g.ID
	v := w.create(nil, in)[0]
	x := w.offer(v.ID, false)
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); kinds(err) != "conflict" {
		t.Errorf("accepted: %v", err)
	}
	if got := w.volume(v.ID).ProjectID; got != v.ProjectID {
		t.Errorf("it is %s's now", got)
	}
}
