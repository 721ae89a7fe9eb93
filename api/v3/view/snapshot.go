package view

import "github.com/vmthunder/vmthunder/db/model"

// SnapshotSummary is a snapshot as plain lists show it (cinder/api/v3/views/snapshots.py).
func (c Context) SnapshotSummary(s *model.Snapshot) Object {
	metadata := s.Metadata
	if metadata == nil {
		metadata = model.StringMap{}
	}
	return Object{
		"id": s.ID, "created_at": Time(s.CreatedAt), "updated_at": TimeOrNil(s.UpdatedAt), "name": s.Name,
		"description": s.Description, "volume_id": s.VolumeID, "status": s.Status, "size": s.SizeGiB, "metadata": metadata,
	}
}

// Snapshot is a snapshot as create and update show it.
func (c Context) Snapshot(s *model.Snapshot) Object {
	o := c.SnapshotSummary(s)
	if c.Version >= 14 {
		o["group_snapshot_id"] = s.GroupSnapshotID
	}
	if c.Version >= 41 {
		o["user_id"] = s.UserID
	}
	if c.Version >= 65 {
		o["consumes_quota"] = s.ConsumesQuota
	}
	return o
}

// SnapshotDetail is a snapshot as show and detailed lists have it.
func (c Context) SnapshotDetail(s *model.Snapshot) Object {
	o := c.Snapshot(s)
	o["os-extended-snapshot-attributes:project_id"] = s.ProjectID
	o["os-extended-snapshot-attributes:progress"] = s.Progress
	return o
}
