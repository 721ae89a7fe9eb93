package db

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// newVolume is a row to insert with its place in the batch.
type newVolume struct {
	model.Volume

	Seq int `db:"seq"`
}

// insertVolumes: sqlx repeats the parentheses for each row. Rows of a batch are made a
// microsecond apart, so that lists by time show them in order.
const insertVolumes = `INSERT INTO volumes (id, project_id, user_id, name, description, size_gib, status, attach_status,
	migration_status, availability_zone, volume_type_id, bootable, multiattach, readonly, consumes_quota, image_id,
	snapshot_id, source_volid, group_id, encryption_key_id, metadata, admin_metadata, image_metadata, launched_at, created_at)
VALUES (:id, :project_id, :user_id, :name, :description, :size_gib, :status, :attach_status,
	:migration_status, :availability_zone, :volume_type_id, :bootable, :multiattach, :readonly, :consumes_quota, :image_id,
	:snapshot_id, :source_volid, :group_id, :encryption_key_id, :metadata, :admin_metadata, :image_metadata,
	CASE WHEN :status = 'available' THEN now() END, now() + :seq * interval '1 microsecond')`

// insertBatch rows go into one statement; the protocol's limit is 65535 parameters.
const insertBatch = 1000

// CreateVolumes inserts all volumes or none and returns the rows as written, in order.
// Without an image they are available at once. With one, its row is made if it is not
// there (queued, with a job import-image: once, however many ask at the same time), and
// the volumes are available if the image is active, downloading otherwise. An image in
// error is tried again from the start; one that is being removed is kept if its root
// still stands, else imported again. Volumes smaller than the image are ErrInvalid.
//
// Quotas are checked in the same transaction, so that requests at the same time can't
// exceed them together; too many volumes are a *[model.QuotaError]. (Its Fit counts the
// volumes of the first project that has too many.)
func (s *Store) CreateVolumes(ctx context.Context, vols []model.Volume, image *model.Image) ([]model.Volume, error) {
	if len(vols) == 0 {
		return nil, nil
	}
	var out []model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		if err := s.quota(t, vols); err != nil {
			return err
		}
		status := model.VolumeAvailable
		if image != nil {
			img, err := t.wantImage(*image)
			if err != nil {
				return err
			}
			if img.Status != model.ImageActive {
				status = model.VolumeDownloading
			}
			for _, v := range vols {
				if v.Bytes() < img.VirtualBytes {
					return tooSmall(img.VirtualBytes, v.SizeGiB)
				}
			}
		}
		rows := make([]newVolume, len(vols))
		for i, v := range vols {
			rows[i] = newVolume{v, i}
			rows[i].complete(status, image)
		}
		var err error
		out, err = t.insertVolumes(rows)
		return err
	})
	if err != nil && !errors.As(err, new(*said)) && !errors.As(err, new(*model.QuotaError)) {
		err = fmt.Errorf("create volumes: %w", err)
	}
	return out, err
}

func (v *newVolume) complete(status model.VolumeStatus, image *model.Image) {
	if v.ID == uuid.Nil {
		v.ID = uuid.New()
	}
	v.Status, v.AttachStatus = status, model.AttachDetached
	def(&v.AvailabilityZone, "nova")
	v.ImageID = nil
	if image != nil {
		v.ImageID = &image.ID
	}
}

func (t *Tx) insertVolumes(rows []newVolume) ([]model.Volume, error) {
	keys := make([]uuid.UUID, len(rows))
	for i := range rows {
		keys[i] = rows[i].ID
	}
	for chunk := range slices.Chunk(rows, insertBatch) {
		if _, err := t.q.NamedExecContext(t.ctx, insertVolumes, chunk); err != nil {
			return nil, refers(translate(t.ctx, err), "volume type")
		}
	}
	var out []model.Volume
	err := t.list(&out, "SELECT "+volumeColumns+volumeFrom+" WHERE v.id = ANY($1::uuid[]) ORDER BY v.created_at", ids(keys))
	return out, err
}

// tooSmall is in Cinder's words (cinder/volume/flows/api/create_volume.py).
func tooSmall(virtualBytes int64, gib int) error {
	return say(model.ErrInvalid, "Size of specified image %dGB is larger than volume size %dGB.", (virtualBytes+1<<30-1)>>30, gib)
}

// WantImage makes sure that an image is here or on its way, as for volumes made from it,
// and returns its row, locked.
func (t *Tx) WantImage(image model.Image) (model.Image, error) { return t.wantImage(image) }

// wantImage makes sure that the image is there or on its way, and returns it locked: its
// import can't end, and nobody can start to remove it, before this transaction does.
func (t *Tx) wantImage(image model.Image) (model.Image, error) {
	img, err := t.ensureImage(image)
	for range 3 {
		if !errors.Is(err, model.ErrNotFound) {
			break
		}
		// It was there, and removed while we waited for its lock.
		img, err = t.ensureImage(image)
	}
	if err != nil {
		return img, err
	}
	switch img.Status {
	case model.ImageQueued:
		return img, t.addJob(model.JobImportImage, img.ID)
	case model.ImageError:
		return t.requeue(img)
	case model.ImageDeleting:
		return t.rescue(img)
	}
	return img, nil
}

func (t *Tx) ensureImage(image model.Image) (model.Image, error) {
	_, err := t.q.NamedExecContext(t.ctx, `INSERT INTO images
		(id, name, disk_format, container_format, size_bytes, checksum, hash_algo, hash_value, min_disk_gib, min_ram_mib, properties, status, degree)
		VALUES (:id, :name, :disk_format, :container_format, :size_bytes, :checksum, :hash_algo, :hash_value, :min_disk_gib, :min_ram_mib, :properties, 'queued', :degree)
		ON CONFLICT (id) DO NOTHING`, image)
	if err != nil {
		return model.Image{}, fmt.Errorf("image %s: %w", image.ID, translate(t.ctx, err))
	}
	return t.LockImage(image.ID)
}

// requeue starts an import from the beginning. The old job, if its taker has not put it
// away yet, is replaced: what it still has to say is about the old attempt.
func (t *Tx) requeue(img model.Image) (model.Image, error) {
	_, err := t.move(change{
		of: imageStatus, where: "id = ?", args: []any{img.ID}, from: words(img.Status), to: string(model.ImageQueued),
		set: "error = NULL, attempts = 0, phase = '', done = 0, total = 0, virtual_bytes = 0, device_bytes = 0",
	})
	if err != nil {
		return img, fmt.Errorf("image %s: %w", img.ID, err)
	}
	if err := t.dropJobs(img.ID.String(), model.JobImportImage, model.JobReleaseImage); err != nil {
		return img, err
	}
	if err := t.addJob(model.JobImportImage, img.ID); err != nil {
		return img, err
	}
	return t.LockImage(img.ID)
}

// rescue takes an image back that is being removed.
func (t *Tx) rescue(img model.Image) (model.Image, error) {
	// Locks every root, then looks: none may be on its way out.
	var roots []model.Member
	err := t.list(&roots, "SELECT "+memberColumns+" FROM tree_members m WHERE m.image_id = $1 AND m.role = 'root' ORDER BY m.host FOR NO KEY UPDATE", img.ID)
	if err != nil {
		return img, fmt.Errorf("image %s: %w", img.ID, err)
	}
	stands := slices.ContainsFunc(roots, func(m model.Member) bool { return m.State != model.MemberLeaving })
	if img.DeviceBytes == 0 || !stands {
		return t.requeue(img)
	}
	if err := t.dropJobs(img.ID.String(), model.JobReleaseImage); err != nil {
		return img, err
	}
	_, err = t.move(change{
		of: memberState, where: "image_id = ? AND role = 'root'", args: []any{img.ID},
		from: words(model.MemberDraining), to: string(model.MemberActive),
	})
	if err != nil {
		return img, fmt.Errorf("image %s: %w", img.ID, err)
	}
	_, err = t.move(change{of: imageStatus, where: "id = ?", args: []any{img.ID}, from: words(model.ImageDeleting), to: string(model.ImageActive)})
	if err != nil {
		return img, fmt.Errorf("image %s: %w", img.ID, err)
	}
	for _, m := range roots {
		_ = t.Bump(m.Host)
	}
	return t.LockImage(img.ID)
}
