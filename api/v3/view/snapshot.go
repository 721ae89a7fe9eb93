package view

import "github.com/vmthunder/vmthunder/db/model"

// Snapshot is a snapshot as create, update and plain lists show it; detail adds what
// show and detailed lists have (cinder/api/v3/views/snapshots.py).
func (c Context) Snapshot(s *model.Snapshot, detail bool) Object {
	metadata := s.Metadata
	if metadata == nil {
		metadata = model.StringMap{}
	}
	o := Object{
		"id": s.ID, "created_at": Time(s.CreatedAt), "updated_at": TimeOrNil(s.UpdatedAt), "name": s.Name,
		"description": s.Description, "volume_id": s.VolumeID, "status": s.Status, "size": s.SizeGiB, "metadata": metadata,
	}
	if !detail {
		return o
	}
	if c.Version >= 14 {
		o["group_snapshot_id"] = s.GroupSnapshotID
	}
	if c.Version >= 41 {
		o["user_id"] = s.UserID
	}
	if c.Version >= 65 {
		o["consumes_quota"] = s.ConsumesQuota
	}
	o["os-extended-snapshot-attributes:project_id"] = s.ProjectID
	o["os-extended-snapshot-attributes:progress"] = s.Progress
	return o
}
