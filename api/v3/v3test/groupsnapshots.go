package v3test

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

func (s *Store) groupSnapshot(id uuid.UUID) (*model.GroupSnapshot, error) {
	for i := range s.GroupSnapshotRows {
		if s.GroupSnapshotRows[i].ID == id {
			return &s.GroupSnapshotRows[i], nil
		}
	}
	return nil, fmt.Errorf("group snapshot %s: %w", id, model.ErrNotFound)
}

func (s *Store) copyOfGroupSnapshot(p *model.GroupSnapshot) model.GroupSnapshot {
	c := *p
	if y, err := s.groupTypeByID(p.GroupTypeID); err == nil {
		c.Legacy = y.Name == model.LegacyGroupType
	}
	return c
}

// ListGroupSnapshots implements v3.Store.
func (s *Store) ListGroupSnapshots(_ context.Context, q model.ListQuery) ([]model.GroupSnapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := make([]model.GroupSnapshot, 0, len(s.GroupSnapshotRows))
	for i := range s.GroupSnapshotRows {
		rows = append(rows, s.copyOfGroupSnapshot(&s.GroupSnapshotRows[i]))
	}
	return list(rows, q, func(p *model.GroupSnapshot) fields {
		return fields{id: p.ID, project: p.ProjectID, created: p.CreatedAt, columns: map[string]string{
			"id": p.ID.String(), "project_id": p.ProjectID, "user_id": p.UserID, "name": text(p.Name), "description": text(p.Description),
			"status": string(p.Status), "group_id": p.GroupID.String(), "group_type_id": p.GroupTypeID.String(), "legacy": strconv.FormatBool(p.Legacy),
			"updated_at": stamp(p.UpdatedAt),
		}}
	})
}

// GroupSnapshot implements v3.Store.
func (s *Store) GroupSnapshot(_ context.Context, id uuid.UUID, projectID string) (model.GroupSnapshot, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.GroupSnapshot{}, err
	}
	p, err := s.groupSnapshot(id)
	if err == nil && projectID != "" && p.ProjectID != projectID {
		err = fmt.Errorf("group snapshot %s: %w", id, model.ErrNotFound)
	}
	if err != nil {
		return model.GroupSnapshot{}, err
	}
	return s.copyOfGroupSnapshot(p), nil
}

// ResetGroupSnapshot implements v3.Store.
func (s *Store) ResetGroupSnapshot(_ context.Context, id uuid.UUID, status model.GroupStatus) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	p, err := s.groupSnapshot(id)
	if err == nil {
		t := s.tick()
		p.Status, p.UpdatedAt = status, &t
	}
	return err
}

// SnapshotGroup implements v3.Scheduler: snapshots are available at once.
func (s *Scheduler) SnapshotGroup(_ context.Context, p model.GroupSnapshot) (model.GroupSnapshot, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("snapshot group", p.GroupID)
	if err != nil {
		return p, err
	}
	g, err := s.Store.group(p.GroupID)
	if err != nil {
		return p, err
	}
	full, members := s.Store.copyOfGroup(g), s.Store.members(g.ID)
	if _, err := full.MaySnapshot(members); err != nil {
		return p, err
	}
	var claims []model.Claim
	for i := range members {
		claims = append(claims, model.SnapshotClaim(members[i].SizeGiB).OfType(s.Store.typeName(members[i].VolumeTypeID)))
	}
	if err := model.CheckQuota(s.Store.limits(s.Store.QuotaRows[p.ProjectID]), s.Store.usage(p.ProjectID), claims); err != nil {
		return p, err
	}
	p.Status, p.CreatedAt = model.GroupAvailable, s.Store.tick()
	s.Store.GroupSnapshotRows = append(s.Store.GroupSnapshotRows, p)
	for i := range members {
		v := &members[i]
		s.Store.SnapshotRows = append(s.Store.SnapshotRows, model.Snapshot{
			ID: uuid.New(), VolumeID: v.ID, ProjectID: p.ProjectID, UserID: p.UserID, Name: p.Name, Description: p.Description, GroupSnapshotID: &p.ID,
			ConsumesQuota: true, SizeGiB: v.SizeGiB, ImageID: v.ImageID, VolumeTypeID: v.VolumeTypeID, Bootable: v.Bootable, ImageMetadata: v.ImageMetadata,
			Status: model.SnapshotAvailable, Progress: "100%", CreatedAt: s.Store.tick(),
		})
	}
	return s.Store.copyOfGroupSnapshot(&p), nil
}

// DeleteGroupSnapshot implements v3.Scheduler: it is gone at once.
func (s *Scheduler) DeleteGroupSnapshot(_ context.Context, id uuid.UUID) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("delete group snapshot", id)
	if err != nil {
		return err
	}
	p, err := s.Store.groupSnapshot(id)
	if err != nil {
		return err
	}
	if p.Status != model.GroupAvailable && p.Status != model.GroupError {
		return said{model.ErrConflict, "Invalid GroupSnapshot: GroupSnapshot status must be available or error, and no Group can be currently using it as source for its creation."}
	}
	s.Store.SnapshotRows = slices.DeleteFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.GroupSnapshotID != nil && *sn.GroupSnapshotID == id })
	s.Store.GroupSnapshotRows = slices.DeleteFunc(s.Store.GroupSnapshotRows, func(p model.GroupSnapshot) bool { return p.ID == id })
	return nil
}

// CopyGroup implements v3.Scheduler: the copies are available at once.
func (s *Scheduler) CopyGroup(_ context.Context, g model.Group) (model.Group, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("copy group", g.ID)
	if err != nil {
		return g, err
	}
	from, empty := g.SourceGroupID, "Invalid Group: Source Group is empty. No group will be created."
	snapshots := map[uuid.UUID]uuid.UUID{} // by volume
	if g.GroupSnapshotID != nil {
		empty = "Invalid Group: Group snapshot is empty. No group will be created."
		p, err := s.Store.groupSnapshot(*g.GroupSnapshotID)
		if err != nil {
			return g, err
		}
		from = &p.GroupID
		for _, sn := range s.Store.SnapshotRows {
			if sn.GroupSnapshotID != nil && *sn.GroupSnapshotID == p.ID {
				snapshots[sn.VolumeID] = sn.ID
			}
		}
	}
	source, err := s.Store.group(*from)
	if err != nil {
		return g, err
	}
	var vols []model.Volume
	for _, v := range s.Store.members(source.ID) {
		made := model.Volume{
			ID: uuid.New(), ProjectID: g.ProjectID, UserID: g.UserID, SizeGiB: v.SizeGiB, AvailabilityZone: v.AvailabilityZone,
			VolumeTypeID: v.VolumeTypeID, Status: model.VolumeAvailable, AttachStatus: model.AttachDetached, ConsumesQuota: true, GroupID: &g.ID,
			Bootable: v.Bootable, Multiattach: v.Multiattach,
		}
		sn, snapped := snapshots[v.ID]
		switch {
		case g.GroupSnapshotID == nil:
			made.SourceVolID = &v.ID
		case snapped:
			made.SnapshotID = &sn
		default:
			continue
		}
		vols = append(vols, made)
	}
	if len(vols) == 0 {
		return g, said{model.ErrInvalid, empty}
	}
	claims := []model.Claim{model.GroupClaim()}
	for i := range vols {
		claims = append(claims, model.VolumeClaim(vols[i].SizeGiB).OfType(s.Store.typeName(vols[i].VolumeTypeID)))
	}
	if err := model.CheckQuota(s.Store.limits(s.Store.QuotaRows[g.ProjectID]), s.Store.usage(g.ProjectID), claims); err != nil {
		return g, err
	}
	g.GroupTypeID, g.VolumeTypes, g.AvailabilityZone = source.GroupTypeID, slices.Clone(source.VolumeTypes), source.AvailabilityZone
	out := s.Store.addGroup(g)
	for i := range vols {
		vols[i].CreatedAt = s.Store.tick()
		s.Store.VolumeRows = append(s.Store.VolumeRows, vols[i])
	}
	return out, nil
}

// DeleteGroup implements v3.Scheduler: it is gone at once.
func (s *Scheduler) DeleteGroup(_ context.Context, id uuid.UUID, volumes bool) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("delete group", id)
	if err != nil {
		return err
	}
	g, err := s.Store.group(id)
	if err != nil {
		return err
	}
	full := s.Store.copyOfGroup(g)
	use := model.GroupUse{Volumes: s.Store.members(id)}
	for _, p := range s.Store.GroupSnapshotRows {
		if p.GroupID == id {
			use.GroupSnapshots++
		}
	}
	for _, sn := range s.Store.SnapshotRows {
		use.Snapshotted = use.Snapshotted || slices.Contains(full.Volumes, sn.VolumeID)
	}
	if err := full.MayDelete(use, volumes); err != nil {
		return err
	}
	s.Store.VolumeRows = slices.DeleteFunc(s.Store.VolumeRows, func(v model.Volume) bool { return v.GroupID != nil && *v.GroupID == id })
	s.Store.GroupRows = slices.DeleteFunc(s.Store.GroupRows, func(g model.Group) bool { return g.ID == id })
	return nil
}
