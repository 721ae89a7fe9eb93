package db

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Reimage has a volume whose status is one of from begin anew from an image, else
// ErrConflict. What was written to it is dropped; nothing is copied, so with an image that
// is here it is done at once, and otherwise when that is ([Store.FinishImport]): the volume
// is downloading meanwhile. Its snapshots keep what they hold. A volume that is too small
// is ErrInvalid. A job tells the instance that has it reserved.
func (s *Store) Reimage(ctx context.Context, id uuid.UUID, image model.Image, metadata model.StringMap, from []model.VolumeStatus) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		img, err := t.wantImage(image)
		if err != nil {
			return err
		}
		v, err := t.LockVolume(id)
		switch {
		case err != nil:
			return err
		case !slices.Contains(from, v.Status):
			return say(model.ErrConflict, "Volume %s status must be %s, but current status is %s.", id, strings.Join(words(from...), " or "), v.Status)
		case v.Bytes() < img.VirtualBytes:
			return tooSmall(img.VirtualBytes, v.SizeGiB)
		}
		if err := t.dropThin(&v); err != nil {
			return err
		}
		err = t.exec(`UPDATE volumes SET image_id = $2, bootable = true, image_metadata = $3, home = NULL, placed = COALESCE(home, placed), thin_id = NULL, source_thin = NULL, together = NULL,
			materialized = false, updated_at = now() WHERE id = $1`, id, img.ID, metadata)
		if err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		status, attach := atRest(&v)
		if img.Status != model.ImageActive {
			status = model.VolumeDownloading
		} else if err := t.addJob(model.JobTellReimaged, id); err != nil {
			return err
		}
		if err := t.SetVolumeStatus(id, status, attach, nil); err != nil {
			return err
		}
		if v.ImageID != nil && *v.ImageID != img.ID {
			if err := t.addJob(model.JobReleaseImage, *v.ImageID); err != nil {
				return err
			}
		}
		out, err = t.LockVolume(id)
		return err
	})
	return out, err
}

// atRest is the status of a volume that nothing but its attachments keeps busy.
func atRest(v *model.Volume) (model.VolumeStatus, model.AttachStatus) {
	of := make([]model.AttachStatus, len(v.Attachments))
	for i, a := range v.Attachments {
		of[i] = a.Status
	}
	return model.StatusFromAttachments(of)
}

// dropThin has the volume's home delete what was written to it, if anything was. The row
// must get another thin device, or none, in the same transaction.
func (t *Tx) dropThin(v *model.Volume) error {
	if v.ThinID == nil {
		return nil
	}
	// Even one that is not known to have been made may have been, just now.
	if err := t.exec("INSERT INTO dropped_thins (id, host, thin_id) VALUES ($1, $2, $3)", uuid.New(), *v.Home, *v.ThinID); err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return t.Bump(*v.Home)
}

// finishReimages gives volumes that waited for their image, which is here now, and that an
// instance has reserved, back to it.
func (t *Tx) finishReimages(image uuid.UUID) error {
	var reserved []uuid.UUID
	err := t.list(&reserved, `SELECT id FROM volumes v WHERE image_id = $1 AND status = 'downloading' AND source_thin IS NULL
		AND EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = v.id) ORDER BY id FOR NO KEY UPDATE`, image)
	if err != nil || len(reserved) == 0 {
		return err
	}
	_, err = t.move(change{
		of: volumeStatus, where: "id = ANY(?::uuid[])", args: []any{ids(reserved)}, from: words(model.VolumeDownloading),
		to: string(model.VolumeReserved), set: setVolume + ", attach_status = ?", setArgs: []any{nil, model.AttachReserved},
	})
	if err != nil {
		return err
	}
	for _, id := range reserved {
		if err := t.addJob(model.JobTellReimaged, id); err != nil {
			return err
		}
	}
	return nil
}
