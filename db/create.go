package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// newVolume is a row to insert.
type newVolume struct{ model.Volume }

// volumeRow is what is written of a new volume, by the names of the columns. Rows go over
// as one argument, so that one statement does for any number of them.
type volumeRow struct {
	ID               uuid.UUID          `json:"id"`
	ProjectID        string             `json:"project_id"`
	UserID           string             `json:"user_id"`
	Name             *string            `json:"name"`
	Description      *string            `json:"description"`
	SizeGiB          int                `json:"size_gib"`
	Status           model.VolumeStatus `json:"status"`
	AttachStatus     model.AttachStatus `json:"attach_status"`
	MigrationStatus  *string            `json:"migration_status"`
	AvailabilityZone string             `json:"availability_zone"`
	VolumeTypeID     *uuid.UUID         `json:"volume_type_id"`
	Bootable         bool               `json:"bootable"`
	Multiattach      bool               `json:"multiattach"`
	ReadOnly         bool               `json:"readonly"`
	ConsumesQuota    bool               `json:"consumes_quota"`
	ImageID          *uuid.UUID         `json:"image_id"`
	SnapshotID       *uuid.UUID         `json:"snapshot_id"`
	SourceVolID      *uuid.UUID         `json:"source_volid"`
	GroupID          *uuid.UUID         `json:"group_id"`
	EncryptionKeyID  *uuid.UUID         `json:"encryption_key_id"`
	Metadata         model.StringMap    `json:"metadata"`
	AdminMetadata    model.StringMap    `json:"admin_metadata"`
	ImageMetadata    model.StringMap    `json:"image_metadata"`
	Home             *string            `json:"home"`
	Placed           *string            `json:"placed"`
	ThinID           *int64             `json:"thin_id"`
	SourceThin       *int64             `json:"source_thin"`
	Materialized     bool               `json:"materialized"`
	Error            *string            `json:"error"`
	Together         *uuid.UUID         `json:"together"`
	RequestID        string             `json:"request_id"`
}

func (v *newVolume) row() volumeRow {
	return volumeRow{
		ID: v.ID, ProjectID: v.ProjectID, UserID: v.UserID, Name: v.Name, Description: v.Description, SizeGiB: v.SizeGiB,
		Status: v.Status, AttachStatus: v.AttachStatus, MigrationStatus: v.MigrationStatus, AvailabilityZone: v.AvailabilityZone,
		VolumeTypeID: v.VolumeTypeID, Bootable: v.Bootable, Multiattach: v.Multiattach, ReadOnly: v.ReadOnly,
		ConsumesQuota: v.ConsumesQuota, ImageID: v.ImageID, SnapshotID: v.SnapshotID, SourceVolID: v.SourceVolID,
		GroupID: v.GroupID, EncryptionKeyID: v.EncryptionKeyID, Metadata: orEmpty(v.Metadata), AdminMetadata: orEmpty(v.AdminMetadata),
		ImageMetadata: orEmpty(v.ImageMetadata), Home: v.Home, Placed: v.Placed, ThinID: v.ThinID, SourceThin: v.SourceThin, Together: v.Together,
		Materialized: v.Materialized, Error: v.Error, RequestID: v.RequestID,
	}
}

func orEmpty(m model.StringMap) model.StringMap {
	if m == nil {
		return model.StringMap{}
	}
	return m
}

// insertVolumes takes an array of volumeRow. Rows of a batch are made a microsecond apart,
// so that lists by time show them in order.
var insertVolumes = func() string {
	t := reflect.TypeFor[volumeRow]()
	columns := make([]string, t.NumField())
	for i := range columns {
		columns[i] = t.Field(i).Tag.Get("json")
	}
	return "INSERT INTO volumes AS v (" + strings.Join(columns, ", ") + ", launched_at, created_at) SELECT r." + strings.Join(columns, ", r.") +
		`, CASE WHEN r.status = 'available' THEN now() END, now() + (r.ordinality - 1) * interval '1 microsecond'
		FROM jsonb_populate_recordset(NULL::volumes, $1::jsonb) WITH ORDINALITY AS r
		RETURNING ` + strings.Replace(volumeColumns, "t.name", "(SELECT t.name FROM volume_types t WHERE t.id = v.volume_type_id)", 1)
}()

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
	s.prepare(ctx, lockProject, quotaQuery, heldImage, insertVolumes)
	err := s.Tx(ctx, func(t *Tx) error {
		if err := s.quota(t, vols); err != nil {
			return err
		}
		if err := t.holdGroups(vols); err != nil {
			return err
		}
		status := model.VolumeAvailable
		if image != nil {
			img, err := t.holdImage(*image)
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
			rows[i] = newVolume{v}
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
	v.ImageID, v.Home, v.ThinID, v.SourceThin, v.Together, v.Materialized, v.Error = nil, nil, nil, nil, nil, false, nil
	if image != nil {
		v.ImageID = &image.ID
	}
}

// AddVolume inserts a blank volume in a status, if the project's quotas have room for it;
// else the error is a *[model.QuotaError]. It locks the project, so it comes before any other
// lock.
func (t *Tx) AddVolume(v model.Volume, status model.VolumeStatus) (model.Volume, error) {
	if err := t.store.quota(t, []model.Volume{v}); err != nil {
		return v, err
	}
	row := newVolume{v}
	row.complete(status, nil)
	out, err := t.insertVolumes([]newVolume{row})
	return firstOf(out), err
}

func firstOf[T any](of []T) (first T) {
	if len(of) > 0 {
		first = of[0]
	}
	return first
}

func (t *Tx) insertVolumes(vols []newVolume) ([]model.Volume, error) {
	rows := make([]volumeRow, len(vols))
	for i := range vols {
		rows[i] = vols[i].row()
	}
	doc, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	out := make([]model.Volume, 0, len(rows))
	if err := t.selectPrepared(&out, insertVolumes, string(doc)); err != nil {
		return nil, refers(err, "volume type")
	}
	slices.SortFunc(out, func(a, b model.Volume) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out, nil
}

// tooSmall is in Cinder's words (cinder/volume/flows/api/create_volume.py).
func tooSmall(virtualBytes int64, gib int) error {
	return say(model.ErrInvalid, "Size of specified image %dGB is larger than volume size %dGB.", (virtualBytes+1<<30-1)>>30, gib)
}

// WantImage makes sure that an image is here or on its way, as for volumes made from it,
// and returns its row, locked.
func (t *Tx) WantImage(image model.Image) (model.Image, error) { return t.wantImage(image) }

const heldImage = "SELECT " + imageColumns + " FROM images i WHERE i.id = $1 AND i.status = 'active' FOR SHARE"

// holdImage is wantImage for volumes that an image is to be held for only. Where it is
// active, as it nearly always is, they share the lock: it keeps out who removes the image
// and who places nodes in its tree, but not other volumes.
func (t *Tx) holdImage(image model.Image) (model.Image, error) {
	var is []model.Image
	err := t.selectPrepared(&is, heldImage, image.ID)
	if err != nil {
		return model.Image{}, fmt.Errorf("image %s: %w", image.ID, err)
	}
	if len(is) == 0 {
		return t.wantImage(image)
	}
	return is[0], nil
}

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
