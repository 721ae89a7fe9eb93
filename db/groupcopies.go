package db

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// CopyGroup makes a group from a group snapshot (GroupSnapshotID) or from another group
// (SourceGroupID), with a volume for each of the snapshots or volumes, or none, and returns the
// volumes too. It is available when they all are. Volumes of a consistent group that are
// copied from a group are so at one moment. An empty source is ErrInvalid, one that can't be copied from
// ErrConflict, too many for a quota are a *[model.QuotaError].
func (s *Store) CopyGroup(ctx context.Context, g model.Group) (model.Group, []model.Volume, error) {
	if g.ID == uuid.Nil {
		g.ID = uuid.New()
	}
	var vols []model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		if err := t.lockProject(g.ProjectID); err != nil {
			return err
		}
		wanted, together, err := t.sourceOf(&g)
		if err != nil {
			return err
		}
		claims := []claim{{Claim: model.GroupClaim()}}
		for i := range wanted {
			claims = append(claims, claim{Claim: model.VolumeClaim(wanted[i].SizeGiB), kind: wanted[i].VolumeTypeID})
		}
		if err := s.reserve(t, g.ProjectID, claims...); err != nil {
			return err
		}
		g.Status = model.GroupCreating
		if err := t.insertGroup(&g); err != nil {
			return err
		}
		rows := make([]newVolume, len(wanted))
		for i := range wanted {
			if rows[i], err = t.copyOf(wanted[i]); err != nil {
				return err
			}
			if together && rows[i].SourceThin != nil {
				rows[i].Together = &g.ID
			}
		}
		if vols, err = t.insertVolumes(rows); err != nil {
			return err
		}
		return t.settleGroups([]uuid.UUID{g.ID})
	})
	if err != nil {
		return g, nil, err
	}
	made, err := s.Group(ctx, g.ID, "")
	return made, vols, err
}

// sourceOf reads what the new group is made from: its types and zone, and its volumes as they are to
// be made.
func (t *Tx) sourceOf(g *model.Group) (vols []model.Volume, together bool, err error) {
	from := g.SourceGroupID
	if g.GroupSnapshotID != nil {
		if err := t.get(&from, "SELECT group_id FROM group_snapshots WHERE id = $1", *g.GroupSnapshotID); err != nil {
			return nil, false, fmt.Errorf("group snapshot %s: %w", g.GroupSnapshotID, err)
		}
	}
	source, err := t.lockGroup(*from)
	if err != nil {
		return nil, false, err
	}
	g.GroupTypeID, g.VolumeTypes, g.AvailabilityZone = source.GroupTypeID, source.VolumeTypes, source.AvailabilityZone
	if g.GroupSnapshotID != nil {
		vols, err = t.fromSnapshots(*g.GroupSnapshotID)
		if err == nil && len(vols) == 0 {
			err = say(model.ErrInvalid, "Invalid Group: Group snapshot is empty. No group will be created.")
		}
	} else if vols, err = t.lockMembers(source.ID); err == nil && len(vols) == 0 {
		err = say(model.ErrInvalid, "Invalid Group: Source Group is empty. No group will be created.")
	} else if err == nil {
		together, err = source.Together(vols)
	}
	for i := range vols {
		v := &vols[i]
		made := model.Volume{
			ProjectID: g.ProjectID, UserID: g.UserID, SizeGiB: v.SizeGiB, AvailabilityZone: v.AvailabilityZone, VolumeTypeID: v.VolumeTypeID,
			Multiattach: v.Multiattach, Bootable: v.Bootable, ImageMetadata: v.ImageMetadata, ConsumesQuota: true,
			SnapshotID: v.SnapshotID, SourceVolID: v.SourceVolID, GroupID: &g.ID, Placed: v.Placed,
		}
		if g.SourceGroupID != nil {
			id := v.ID
			made.SnapshotID, made.SourceVolID = nil, &id
		}
		vols[i] = made
	}
	return vols, together, err
}

// fromSnapshots are volumes as those of a group snapshot were, with its snapshots as their source.
func (t *Tx) fromSnapshots(id uuid.UUID) ([]model.Volume, error) {
	var snaps []model.Snapshot
	err := t.list(&snaps, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.group_snapshot_id = $1 ORDER BY s.id", id)
	if err != nil {
		return nil, fmt.Errorf("snapshots of group snapshot %s: %w", id, err)
	}
	vols := make([]model.Volume, 0, len(snaps))
	for i := range snaps {
		sn := &snaps[i]
		vs, err := volumesWhere(t.ctx, t.q, "v.id = $1", sn.VolumeID)
		v, err := one(vs, err, "volume", sn.VolumeID)
		if err != nil {
			return nil, err
		}
		v.SizeGiB, v.VolumeTypeID, v.Bootable, v.ImageMetadata = sn.SizeGiB, sn.VolumeTypeID, sn.Bootable, sn.ImageMetadata
		v.SnapshotID, v.SourceVolID = &sn.ID, nil
		vols = append(vols, v)
	}
	return vols, nil
}
