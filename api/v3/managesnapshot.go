package v3

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// manageSnapshot makes a snapshot again of one that was unmanaged.
func (a *API) manageSnapshot(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	in, err := body.Object("snapshot")
	if err != nil {
		return err
	}
	if err := body.Only("snapshot"); err != nil {
		return err
	}
	if err := in.Only("description", "metadata", "name", "volume_id", "ref"); err != nil {
		return err
	}
	if err := in.Require("ref", "volume_id"); err != nil {
		return err
	}
	var ref model.ManageRef // null names nothing
	if in.Has("ref") {
		if ref, err = manageRef(in); err != nil {
			return err
		}
	}
	volume, err := in.UUID("volume_id")
	if err != nil {
		return err
	}
	if volume == nil {
		return in.Invalid("volume_id", "None is not of type 'string'")
	}
	sn := model.Snapshot{ID: uuid.New(), VolumeID: *volume, ProjectID: c.id.ProjectID, UserID: c.id.UserID, ConsumesQuota: true}
	if sn.Name, err = nameOf(in, "name", "name"); err != nil {
		return err
	}
	if sn.Description, err = nameOf(in, "description", "description"); err != nil {
		return err
	}
	m, err := in.Metadata("metadata")
	if err != nil {
		return err
	}
	sn.Metadata = writable(m)
	v, err := a.volumeByID(c, volume.String(), "snapshot_extension:snapshot_manage")
	if err != nil {
		return err
	}
	made, err := a.Scheduler.ManageSnapshot(c.ctx(), sn, ref)
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	// As Cinder answers, who has not looked yet.
	made.Status, made.Progress, made.SizeGiB, made.UpdatedAt = model.SnapshotCreating, "0%", v.SizeGiB, nil
	return c.json(http.StatusAccepted, view.Object{"snapshot": c.view().SnapshotSummary(&made)})
}

// unmanageSnapshot forgets a snapshot and leaves its data where they are.
func (a *API) unmanageSnapshot(c *call, _ *schema.Object) error {
	sn, err := a.snapshot(c, "snapshot_extension:snapshot_unmanage")
	if err != nil {
		return err
	}
	err = a.Scheduler.UnmanageSnapshot(c.ctx(), sn.ID, []model.SnapshotStatus{model.SnapshotAvailable, model.SnapshotError})
	if isState(err) {
		return fault.BadRequest("Invalid snapshot: Snapshot status must be available or error and must not be part of a group.")
	}
	if err != nil {
		return notFound(err, noSnapshot, sn.ID)
	}
	return c.empty(http.StatusAccepted)
}
