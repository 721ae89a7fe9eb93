package db

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// AdoptSnapshot inserts a snapshot, of the volume that it names, that is again what it was before
// it was unmanaged. It is available. ErrConflict and quotas are as with [Store.Adopt]; what can't be
// a snapshot of that volume is ErrInvalid.
func (s *Store) AdoptSnapshot(ctx context.Context, sn model.Snapshot, a model.Adoption) (model.Snapshot, error) {
	var out model.Snapshot
	err := s.Tx(ctx, func(t *Tx) error {
		out = sn
		rows := []model.Snapshot{sn}
		if err := s.quotaOfSnapshots(t, rows); err != nil {
			return err
		}
		var was model.Volume
		if err := t.rememberedAs(a, &was); err != nil {
			return err
		}
		v, err := t.LockVolume(sn.VolumeID)
		if err != nil {
			return err
		}
		switch {
		case !sameID(was.ImageID, v.ImageID):
			return say(model.ErrInvalid, "It holds what was written over another image than that of volume %s.", v.ID)
		case a.Host != nil && v.Home != nil && *v.Home != *a.Host:
			return say(model.ErrInvalid, "It is on %s, volume %s on %s.", *a.Host, v.ID, *v.Home)
		case a.SizeGiB > v.SizeGiB:
			return say(model.ErrInvalid, "It has %d GiB, volume %s %d.", a.SizeGiB, v.ID, v.SizeGiB)
		}
		if a.Host != nil {
			if err := t.claimThin(*a.Host, *a.ThinID); err != nil {
				return err
			}
			_ = t.Bump(*a.Host)
		}
		out.SizeGiB, out.VolumeTypeID = a.SizeGiB, v.VolumeTypeID
		out.ImageID, out.Bootable, out.ImageMetadata = was.ImageID, was.Bootable, was.ImageMetadata
		out.Home, out.ThinID, out.Materialized = a.Host, a.ThinID, a.Host != nil
		out.Status, out.Progress = model.SnapshotAvailable, "100%"
		return t.putSnapshot(&out)
	})
	return out, err
}

func sameID(a, b *uuid.UUID) bool { return a == b || a != nil && b != nil && *a == *b }

// AdoptSnapshotFailed inserts a snapshot that could not be managed, with the reason. It counts against
// no quota.
func (s *Store) AdoptSnapshotFailed(ctx context.Context, sn model.Snapshot, reason string) (model.Snapshot, error) {
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(sn.VolumeID)
		if err != nil {
			return err
		}
		sn.SizeGiB, sn.VolumeTypeID, sn.ConsumesQuota = v.SizeGiB, v.VolumeTypeID, false
		sn.Status, sn.Progress, sn.Error = model.SnapshotError, "0%", &reason
		return t.putSnapshot(&sn)
	})
	return sn, err
}

func (t *Tx) putSnapshot(sn *model.Snapshot) error {
	if sn.ID == uuid.Nil {
		sn.ID = uuid.New()
	}
	err := t.get(&sn.CreatedAt, `INSERT INTO snapshots (id, volume_id, project_id, user_id, name, description, size_gib, status, progress,
			metadata, consumes_quota, home, thin_id, materialized, image_id, volume_type_id, bootable, image_metadata, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) RETURNING created_at`,
		sn.ID, sn.VolumeID, sn.ProjectID, sn.UserID, sn.Name, sn.Description, sn.SizeGiB, sn.Status, sn.Progress,
		orEmpty(sn.Metadata), sn.ConsumesQuota, sn.Home, sn.ThinID, sn.Materialized, sn.ImageID, sn.VolumeTypeID, sn.Bootable,
		orEmpty(sn.ImageMetadata), sn.Error)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", sn.ID, err)
	}
	return nil
}

// UnmanageSnapshot removes a snapshot whose status is one of from, else ErrConflict, and remembers
// what it was; its thin device stays, which has no device of its own in any case. It returns its home.
func (s *Store) UnmanageSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) (home *string, err error) {
	err = s.Tx(ctx, func(t *Tx) error {
		sn, err := t.LockSnapshot(id)
		if err != nil {
			return err
		}
		switch {
		case !slices.Contains(from, sn.Status):
			return say(model.ErrConflict, "Snapshot %s status must be %s, but it is %s.", id, strings.Join(words(from...), " or "), sn.Status)
		case sn.GroupSnapshotID != nil:
			return say(model.ErrConflict, "Snapshot %s is part of a group snapshot.", id)
		case sn.Home != nil && !sn.Materialized:
			return say(model.ErrConflict, "The thin device of snapshot %s was never made.", id)
		}
		if err := t.exec("DELETE FROM snapshots WHERE id = $1", id); err != nil {
			return fmt.Errorf("snapshot %s: %w", id, err)
		}
		if home = sn.Home; home != nil {
			_ = t.Bump(*home)
		}
		return t.remember(model.Unmanaged{
			ID: id, Kind: model.KindSnapshot, VolumeID: &sn.VolumeID, Host: sn.Home, ThinID: sn.ThinID,
			ImageID: sn.ImageID, SizeGiB: sn.SizeGiB, Bootable: sn.Bootable, ImageMetadata: sn.ImageMetadata,
		})
	})
	return home, err
}
