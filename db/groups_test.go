package db_test

import (
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
