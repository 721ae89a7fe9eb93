package db

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

const imageColumns = `i.id, i.name, i.disk_format, i.container_format, i.size_bytes, i.checksum, i.hash_algo, i.hash_value,
	i.min_disk_gib, i.min_ram_mib, i.properties, i.status, i.virtual_bytes, i.device_bytes, i.degree, i.phase, i.done,
	i.total, i.error, i.attempts, i.created_at, i.updated_at`

// Image returns one image of our trees.
func (s *Store) Image(ctx context.Context, id uuid.UUID) (model.Image, error) {
	var is []model.Image
	err := s.list(ctx, &is, "SELECT "+imageColumns+" FROM images i WHERE i.id = $1", id)
	return one(is, err, "image", id)
}

// Images returns all images, oldest first.
func (s *Store) Images(ctx context.Context) ([]model.Image, error) {
	var is []model.Image
	return is, s.list(ctx, &is, "SELECT "+imageColumns+" FROM images i ORDER BY i.created_at, i.id")
}

// LockImage returns the image's row, locked against other placements in its tree.
func (t *Tx) LockImage(id uuid.UUID) (model.Image, error) {
	var is []model.Image
	err := t.list(&is, "SELECT "+imageColumns+" FROM images i WHERE i.id = $1 FOR NO KEY UPDATE", id)
	img, err := one(is, err, "image", id)
	if err == nil {
		t.locked[id] = true
	}
	return img, err
}

func (t *Tx) lockedImage(id uuid.UUID) error {
	if t.locked[id] {
		return nil
	}
	_, err := t.LockImage(id)
	return err
}

// SetImage writes the status of an image that is locked, and why. Going to importing
// counts an attempt.
func (t *Tx) SetImage(id uuid.UUID, status model.ImageStatus, reason *string) error {
	if err := t.lockedImage(id); err != nil {
		return err
	}
	moved, err := t.move(change{
		of: imageStatus, where: "id = ?", args: []any{id}, to: string(status),
		set: "error = ?, attempts = attempts + ?", setArgs: []any{reason, map[bool]int{true: 1}[status == model.ImageImporting]},
	})
	return needed(moved, err, "image", id)
}

// ImageUsed tells whether any volume, of any status, or snapshot is made from the image, or was
// when it was unmanaged, or a task's copy.
// While the image is locked, none can be added.
func (t *Tx) ImageUsed(image uuid.UUID) (bool, error) {
	var used bool
	return used, t.get(&used, `SELECT EXISTS (SELECT 1 FROM volumes WHERE image_id = $1) OR EXISTS (SELECT 1 FROM snapshots WHERE image_id = $1)
		OR EXISTS (SELECT 1 FROM tasks WHERE image_id = $1) OR EXISTS (SELECT 1 FROM unmanaged WHERE image_id = $1)`, image)
}

// DeleteImage removes the row of an image; ErrInUse while it has members, volumes, snapshots
// or tasks.
func (t *Tx) DeleteImage(image uuid.UUID) error {
	if err := t.lockedImage(image); err != nil {
		return err
	}
	n, err := t.affected(`DELETE FROM images WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM volumes WHERE image_id = $1)
		AND NOT EXISTS (SELECT 1 FROM snapshots WHERE image_id = $1) AND NOT EXISTS (SELECT 1 FROM tasks WHERE image_id = $1)
		AND NOT EXISTS (SELECT 1 FROM unmanaged WHERE image_id = $1)
		AND NOT EXISTS (SELECT 1 FROM tree_members WHERE image_id = $1)`, image)
	if err == nil && n == 0 {
		err = model.ErrInUse
	}
	return neededN(1, err, "image", image)
}

// Volumes of an image that wait for it: nothing of theirs is on any node yet. A reserved
// one was reserved while it was downloading, which Cinder allows.
func waiting() []string {
	return words(model.VolumeCreating, model.VolumeDownloading)
}

// FinishImport makes an importing image active with its sizes (bytes) and its waiting
// volumes available; those too small for it get status error and a message. The nodes of
// its tree get a new document. Doing it twice is no error.
func (s *Store) FinishImport(ctx context.Context, image uuid.UUID, virtualBytes, deviceBytes int64) error {
	return s.Tx(ctx, func(t *Tx) error {
		img, err := t.LockImage(image)
		if err != nil {
			return err
		}
		if img.Status == model.ImageActive && img.DeviceBytes == deviceBytes {
			return nil
		}
		moved, err := t.move(change{
			of: imageStatus, where: "id = ?", args: []any{image}, from: words(model.ImageImporting), to: string(model.ImageActive),
			set:     "virtual_bytes = ?, device_bytes = ?, error = NULL, phase = '', done = total",
			setArgs: []any{virtualBytes, deviceBytes},
		})
		if err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
		if len(moved) == 0 {
			return say(model.ErrConflict, "Image %s must be importing to become active, but it is %s.", image, img.Status)
		}
		var small []struct {
			ID   uuid.UUID `db:"id"`
			Size int       `db:"size_gib"`
		}
		err = t.list(&small, `SELECT id, size_gib FROM volumes WHERE image_id = $1 AND status = ANY($2) AND size_gib::bigint << 30 < $3
			ORDER BY id FOR NO KEY UPDATE`, image, pq.Array(append(waiting(), string(model.VolumeReserved))), virtualBytes)
		if err != nil {
			return fmt.Errorf("volumes of image %s: %w", image, err)
		}
		for _, v := range small {
			if err := t.failVolumes(msgNoSpace, tooSmall(virtualBytes, v.Size).Error(), []uuid.UUID{v.ID}); err != nil {
				return err
			}
		}
		if err := t.finishReimages(image); err != nil {
			return fmt.Errorf("volumes of image %s: %w", image, err)
		}
		_, err = t.move(change{
			of: volumeStatus, where: "image_id = ? AND (source_thin IS NULL OR materialized)", args: []any{image}, from: waiting(), to: string(model.VolumeAvailable),
			set: setVolume + ", launched_at = now()", setArgs: []any{nil},
		})
		if err != nil {
			return fmt.Errorf("volumes of image %s: %w", image, err)
		}
		return t.bumpTree(image)
	})
}

// FailImport sets the image's status error, that of its waiting volumes too with the
// reason, and leaves a user message of the event for each. Its roots leave: they drop what they have of
// it and do not fetch it again and again. ErrConflict if it is not queued or importing.
func (s *Store) FailImport(ctx context.Context, image uuid.UUID, event model.Event, reason string) error {
	return s.Tx(ctx, func(t *Tx) error {
		img, err := t.LockImage(image)
		if err != nil {
			return err
		}
		moved, err := t.move(change{
			of: imageStatus, where: "id = ?", args: []any{image}, from: words(model.ImageQueued, model.ImageImporting),
			to: string(model.ImageError), set: "error = ?", setArgs: []any{reason},
		})
		if err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
		if len(moved) == 0 {
			return say(model.ErrConflict, "Image %s must be queued or importing to fail, but it is %s.", image, img.Status)
		}
		var wait []uuid.UUID
		err = t.list(&wait, "SELECT id FROM volumes WHERE image_id = $1 AND status = ANY($2) AND NOT materialized ORDER BY id FOR NO KEY UPDATE",
			image, pq.Array(append(waiting(), string(model.VolumeReserved))))
		if err != nil {
			return fmt.Errorf("volumes of image %s: %w", image, err)
		}
		if err := t.failVolumes(event, reason, wait); err != nil {
			return err
		}
		_, err = t.move(change{
			of: memberState, where: "image_id = ? AND role = 'root'", args: []any{image},
			from: words(model.MemberJoining, model.MemberImporting, model.MemberActive), to: string(model.MemberLeaving),
			set: "reason = ?", setArgs: []any{"the import failed"},
		})
		if err != nil {
			return fmt.Errorf("members of image %s: %w", image, err)
		}
		return t.bumpTree(image)
	})
}

// failVolumes sets the status of locked volumes to error with the reason, and writes a user
// message for each.
func (t *Tx) failVolumes(event model.Event, reason string, which []uuid.UUID) error {
	if len(which) == 0 {
		return nil
	}
	moved, err := t.move(change{
		of: volumeStatus, where: "id = ANY(?::uuid[])", args: []any{ids(which)}, to: string(model.VolumeError),
		set: setVolume, setArgs: []any{reason},
	})
	if err != nil {
		return fmt.Errorf("volumes to error: %w", err)
	}
	messages := make([]string, len(moved))
	for i := range messages {
		messages[i] = uuid.NewString()
	}
	err = t.exec(`INSERT INTO messages (id, project_id, request_id, resource_type, resource_uuid, event_id, user_message)
		SELECT m.id, v.project_id, v.request_id, 'VOLUME', v.id, $3, $4 FROM unnest($1::uuid[], $2::uuid[]) AS m (id, volume_id) JOIN volumes v ON v.id = m.volume_id`,
		pq.Array(messages), pq.Array(moved), string(event), event.Because(reason))
	if err != nil {
		return fmt.Errorf("messages: %w", err)
	}
	return nil
}

// bumpTree gives all nodes of an image's tree a new document.
func (t *Tx) bumpTree(image uuid.UUID) error {
	var hosts []string
	if err := t.list(&hosts, "SELECT host FROM tree_members WHERE image_id = $1", image); err != nil {
		return fmt.Errorf("members of image %s: %w", image, err)
	}
	slices.Sort(hosts)
	return t.Bump(hosts...)
}
