package db

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// origin is what a volume is copied from: a snapshot or another volume.
type origin struct {
	what     string // for messages
	size     int
	image    *uuid.UUID
	pristine bool
	home     *string
	thin     *int64
}

// CreateCopies inserts volumes made from a snapshot (SnapshotID) or from another volume
// (SourceVolID), all or none, and returns the rows as written, in order. A copy of what
// nothing was ever written to is a new volume of the same image, or blank, and has no home.
// Any other is creating until its home, which is the source's, has made its thin device.
//
// A source that is not there is ErrNotFound, one in a status that can't be copied from
// ErrConflict, a volume smaller than it ErrInvalid, too many are a *[model.QuotaError].
func (s *Store) CreateCopies(ctx context.Context, vols []model.Volume) ([]model.Volume, error) {
	var out []model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		if err := s.quota(t, vols); err != nil {
			return err
		}
		homes, err := t.groupHomes(vols)
		if err != nil {
			return err
		}
		if err := t.holdGroups(vols); err != nil {
			return err
		}
		rows := make([]newVolume, len(vols))
		for i := range vols {
			if rows[i], err = t.copyOf(vols[i]); err != nil {
				return err
			}
			if home := rows[i].Home; home != nil && vols[i].GroupID != nil {
				if want := homes[*vols[i].GroupID]; want != nil && *want != *home {
					return model.ErrOtherHome
				}
			}
		}
		out, err = t.insertVolumes(rows)
		return err
	})
	return out, err
}

// groupHomes are where the volumes of consistent groups must be, which are locked.
func (t *Tx) groupHomes(vols []model.Volume) (map[uuid.UUID]*string, error) {
	homes := map[uuid.UUID]*string{}
	for i := range vols {
		g := vols[i].GroupID
		if g == nil {
			continue
		}
		if _, known := homes[*g]; known {
			continue
		}
		home, err := t.GroupHome(*g)
		if err != nil {
			return nil, err
		}
		homes[*g] = home
	}
	return homes, nil
}

// copyOf is the row of a volume made from v's snapshot or source volume.
func (t *Tx) copyOf(v model.Volume) (newVolume, error) {
	o, status, err := t.lockOrigin(&v)
	if err != nil {
		return newVolume{}, err
	}
	if v.SizeGiB < o.size {
		return newVolume{}, say(model.ErrInvalid, "Volume size '%d'GB cannot be smaller than the %s size %dGB. They must be >= original %s size.", v.SizeGiB, o.what, o.size, o.what)
	}
	row := newVolume{v}
	row.complete(status, nil)
	row.ImageID = o.image
	if o.pristine {
		return row, nil
	}
	thin, err := t.takeThin(*o.home, 1)
	if err != nil {
		return row, err
	}
	row.Home, row.Placed, row.ThinID, row.SourceThin = o.home, nil, &thin, o.thin
	return row, t.Bump(*o.home)
}

// lockOrigin locks what v is to be copied from, its image first, and returns the status
// that v begins with.
func (t *Tx) lockOrigin(v *model.Volume) (origin, model.VolumeStatus, error) {
	var image *uuid.UUID
	query, key := "SELECT image_id FROM volumes WHERE id = $1", v.SourceVolID
	if v.SnapshotID != nil {
		query, key = "SELECT image_id FROM snapshots WHERE id = $1", v.SnapshotID
	}
	if err := t.get(&image, query, *key); err != nil {
		return origin{}, "", fmt.Errorf("source %s: %w", *key, err)
	}
	ready := model.VolumeAvailable
	if image != nil {
		img, err := t.LockImage(*image)
		if err != nil {
			return origin{}, "", err
		}
		switch img.Status {
		case model.ImageActive:
		case model.ImageQueued, model.ImageImporting:
			ready = model.VolumeDownloading
		default:
			return origin{}, "", say(model.ErrConflict, "Image %s, which the source is made from, is %s.", img.ID, img.Status)
		}
	}
	o, err := t.origin(v)
	if err != nil {
		return o, "", err
	}
	if !o.pristine {
		ready = model.VolumeCreating
	}
	return o, ready, nil
}

func (t *Tx) origin(v *model.Volume) (origin, error) {
	if v.SnapshotID != nil {
		sn, err := t.LockSnapshot(*v.SnapshotID)
		if err != nil {
			return origin{}, err
		}
		if sn.Status != model.SnapshotAvailable {
			return origin{}, say(model.ErrConflict, "Originating snapshot status must be one of 'available' values")
		}
		return origin{"snapshot", sn.SizeGiB, sn.ImageID, sn.ThinID == nil, sn.Home, sn.ThinID}, nil
	}
	src, err := t.LockVolume(*v.SourceVolID)
	if err != nil {
		return origin{}, err
	}
	if !slices.Contains([]model.VolumeStatus{model.VolumeAvailable, model.VolumeInUse, model.VolumeDownloading}, src.Status) {
		return origin{}, say(model.ErrConflict, "Originating volume status must be one of 'available', 'in-use' values")
	}
	return origin{"source volume", src.SizeGiB, src.ImageID, src.Pristine(), src.Home, src.ThinID}, nil
}

// Revert makes a volume that is available begin anew as a copy of its latest snapshot, and
// moves both to their statuses of that work (reverting, restoring). The thin device that it
// had is dropped. Nothing of the data is touched before the node has the new document.
func (t *Tx) Revert(volume, snapshot uuid.UUID) (model.Volume, error) {
	v, err := t.LockVolume(volume)
	if err != nil {
		return v, err
	}
	sn, err := t.LockSnapshot(snapshot)
	if err != nil {
		return v, err
	}
	switch {
	case v.Status != model.VolumeAvailable || sn.Status != model.SnapshotAvailable:
		return v, say(model.ErrConflict, "Volume %s is %s and snapshot %s is %s; both must be available.", volume, v.Status, snapshot, sn.Status)
	case sn.VolumeID != volume || sn.SizeGiB != v.SizeGiB:
		return v, say(model.ErrInvalid, "Snapshot %s is not one of volume %s in its size now.", snapshot, volume)
	}
	if err := t.dropThin(&v); err != nil {
		return v, err
	}
	if v.ImageID != nil && (sn.ImageID == nil || *sn.ImageID != *v.ImageID) { // it was given another image since
		if err := t.addJob(model.JobReleaseImage, *v.ImageID); err != nil {
			return v, err
		}
	}
	if sn.ThinID == nil { // as it was before anybody wrote to it
		err := t.exec("UPDATE volumes SET image_id = $2, home = NULL, placed = COALESCE(home, placed), thin_id = NULL, source_thin = NULL, together = NULL, materialized = false, updated_at = now() WHERE id = $1",
			volume, sn.ImageID)
		if err != nil {
			return v, fmt.Errorf("volume %s: %w", volume, err)
		}
		return t.LockVolume(volume)
	}
	thin, err := t.takeThin(*sn.Home, 1)
	if err != nil {
		return v, err
	}
	err = t.exec(`UPDATE volumes SET home = $2, thin_id = $3, source_thin = $4, together = NULL, image_id = $5, materialized = false, updated_at = now()
		WHERE id = $1`, volume, *sn.Home, thin, *sn.ThinID, sn.ImageID)
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", volume, err)
	}
	if err := t.SetVolumeStatus(volume, model.VolumeReverting, v.AttachStatus, nil); err != nil {
		return v, err
	}
	if err := t.moveSnapshot(snapshot, model.SnapshotMove{To: model.SnapshotRestoring}); err != nil {
		return v, err
	}
	_ = t.Bump(*sn.Home)
	return t.LockVolume(volume)
}
