package db

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const unmanagedColumns = `u.id, u.kind, u.volume_id, u.host, u.thin_id, u.image_id, u.size_gib, u.bootable, u.image_metadata, u.created_at`

// Storage returns in one snapshot what is known of a node's pool; of none, if host is "", what is
// in no pool.
func (s *Store) Storage(ctx context.Context, host string) (model.Storage, error) {
	var st model.Storage
	snapshot := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.tx(ctx, snapshot, func(t *Tx) error {
		st = model.Storage{}
		if host != "" {
			if err := t.get(&st.PoolUUID, "SELECT pool_uuid FROM nodes WHERE host = $1", host); err != nil {
				return err
			}
		}
		if err := t.list(&st.Volumes, "SELECT id, thin_id, size_gib FROM volumes WHERE home = $1 ORDER BY id", host); err != nil {
			return err
		}
		if err := t.list(&st.Snapshots, "SELECT id, volume_id, thin_id, size_gib FROM snapshots WHERE home = $1 ORDER BY id", host); err != nil {
			return err
		}
		if err := t.list(&st.Others, otherThins+" ORDER BY 1", host); err != nil {
			return err
		}
		return t.list(&st.Unmanaged, "SELECT "+unmanagedColumns+" FROM unmanaged u WHERE u.host = $1 OR u.host IS NULL ORDER BY u.created_at, u.id", host)
	})
	if err != nil {
		return st, fmt.Errorf("storage of node %s: %w", host, err)
	}
	return st, nil
}

// otherThins are the numbers of thin devices at a host that are neither volumes nor snapshots.
// A member of a tree has four for its cache.
const otherThins = `SELECT thin_id FROM tasks WHERE host = $1 AND thin_id IS NOT NULL
	UNION SELECT thin_id FROM dropped_thins WHERE host = $1
	UNION SELECT thin_base + i FROM tree_members, generate_series(0, 3) AS i WHERE host = $1 AND thin_base > 0`

// Adopt inserts a volume that is kept on a thin device which was there before, or that is again
// what it was before it was unmanaged. It is available.
//
// A thin device that something has got meanwhile is ErrConflict, too much for the project's
// quotas a *[model.QuotaError].
func (s *Store) Adopt(ctx context.Context, v model.Volume, a model.Adoption) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		row := newVolume{v}
		row.SizeGiB = a.SizeGiB
		if err := s.quota(t, []model.Volume{row.Volume}); err != nil {
			return err
		}
		row.complete(model.VolumeAvailable, nil)
		if a.Was != nil {
			if err := t.rememberedAs(a, &row.Volume); err != nil {
				return err
			}
		}
		if a.Host != nil {
			if err := t.claimThin(*a.Host, *a.ThinID); err != nil {
				return err
			}
			row.Home, row.ThinID, row.Materialized = a.Host, a.ThinID, true
		}
		made, err := t.insertVolumes([]newVolume{row})
		if err != nil {
			return err
		}
		out = made[0]
		if a.Host != nil {
			return t.Bump(*a.Host)
		}
		return nil
	})
	return out, err
}

// rememberedAs gives a volume what it was, and forgets that.
func (t *Tx) rememberedAs(a model.Adoption, v *model.Volume) error {
	if a.Was.ImageID != nil {
		img, err := t.LockImage(*a.Was.ImageID)
		if err != nil {
			return err
		}
		if img.Status != model.ImageActive {
			return say(model.ErrConflict, "Image %s, which it was made from, is %s.", img.ID, img.Status)
		}
	}
	n, err := t.affected("DELETE FROM unmanaged WHERE id = $1", a.Was.ID)
	if err != nil {
		return fmt.Errorf("unmanaged %s: %w", a.Was.ID, err)
	}
	if n == 0 {
		return say(model.ErrConflict, "It has been managed meanwhile.")
	}
	v.ImageID, v.Bootable, v.ImageMetadata = a.Was.ImageID, a.Was.Bootable || v.Bootable, a.Was.ImageMetadata
	return nil
}

// claimThin sees that nothing else has a thin device, and that its number is never given. The
// lock on the node's numbers keeps others from getting it meanwhile.
func (t *Tx) claimThin(host string, thin int64) error {
	if thin >= model.MaxAdopted {
		return say(model.ErrInvalid, "Thin device %d has too high a number, it must be below %d.", thin, model.MaxAdopted)
	}
	err := t.exec(`INSERT INTO thin_numbers AS t (host, next) VALUES ($1, $2 + 1)
		ON CONFLICT (host) DO UPDATE SET next = GREATEST(t.next, $2 + 1)`, host, thin)
	if err != nil {
		return fmt.Errorf("thin numbers of %s: %w", host, refers(err, "node"))
	}
	var taken bool
	err = t.get(&taken, `SELECT $2 IN (SELECT thin_id FROM volumes WHERE home = $1 UNION SELECT thin_id FROM snapshots WHERE home = $1
		UNION SELECT thin_id FROM unmanaged WHERE host = $1 UNION `+otherThins+`)`, host, thin)
	if err != nil {
		return fmt.Errorf("thin device %d of %s: %w", thin, host, err)
	}
	if taken {
		return say(model.ErrConflict, "Thin device %d of %s belongs to something else by now.", thin, host)
	}
	return nil
}

// AdoptFailed inserts a volume that could not be managed, with the reason. It counts against no quota.
func (s *Store) AdoptFailed(ctx context.Context, v model.Volume, reason string) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		row := newVolume{v}
		row.complete(model.VolumeErrorManaging, nil)
		row.SizeGiB, row.ConsumesQuota, row.Error = 0, false, &reason
		made, err := t.insertVolumes([]newVolume{row})
		if err == nil {
			out = made[0]
		}
		return err
	})
	return out, err
}

// FinishUnmanage removes a volume that is unmanaging, whose devices are down, and remembers what
// it was; its thin device stays. ErrConflict if it has another status.
func (s *Store) FinishUnmanage(ctx context.Context, id uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if v.Status != model.VolumeUnmanaging {
			return say(model.ErrConflict, "Volume %s status must be unmanaging, but it is %s.", id, v.Status)
		}
		if err := t.exec("DELETE FROM attachments WHERE volume_id = $1", id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if err := t.endTransfers(id); err != nil {
			return err
		}
		if v.Home != nil && v.Pristine() {
			if err := t.dropThin(&v); err != nil { // which is empty, if it is there
				return err
			}
		}
		if err := t.exec("DELETE FROM volumes WHERE id = $1", id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		u := model.Unmanaged{
			ID: id, Kind: model.KindVolume, ImageID: v.ImageID, SizeGiB: v.SizeGiB, Bootable: v.Bootable, ImageMetadata: v.ImageMetadata,
		}
		if v.Home == nil {
			return t.remember(u)
		}
		_ = t.Bump(*v.Home)
		if !v.Pristine() {
			u.Host, u.ThinID = v.Home, v.ThinID
		}
		return t.remember(u)
	})
}

func (t *Tx) remember(u model.Unmanaged) error {
	err := t.exec(`INSERT INTO unmanaged (id, kind, volume_id, host, thin_id, image_id, size_gib, bootable, image_metadata)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		u.ID, u.Kind, u.VolumeID, u.Host, u.ThinID, u.ImageID, u.SizeGiB, u.Bootable, orEmpty(u.ImageMetadata))
	if err != nil {
		return fmt.Errorf("unmanaged %s: %w", u.ID, err)
	}
	return nil
}

// ForgetUnmanaged removes rows whose thin devices are gone from a host's pool, and lets go of
// their images. Rows of other hosts are left alone.
func (s *Store) ForgetUnmanaged(ctx context.Context, host string, which []uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		return t.forgetUnmanaged("host = $1 AND id = ANY($2::uuid[])", host, ids(which))
	})
}

func (t *Tx) forgetUnmanaged(where string, args ...any) error {
	var images []*uuid.UUID
	if err := t.list(&images, "DELETE FROM unmanaged WHERE "+where+" RETURNING image_id", args...); err != nil {
		return fmt.Errorf("unmanaged: %w", err)
	}
	for _, image := range images {
		if image == nil {
			continue
		}
		if err := t.addJob(model.JobReleaseImage, *image); err != nil {
			return err
		}
	}
	return nil
}
