package db

import (
	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

// Messages of copies that could not be made (cinder/message/message_field.py).
const (
	msgCopy     = "VOLUME_VOLUME_001_001"          // schedule allocate volume: unknown error
	msgSnapshot = "VOLUME_VOLUME_SNAPSHOT_009_013" // create snapshot: failed to create
)

// saveCopies: volumes that have begun as a copy of another thin device, and volumes that
// have grown.
func (r *report) saveCopies() error {
	var made, failed, grown []uuid.UUID
	why := map[uuid.UUID]string{}
	for _, v := range r.stored {
		o, told := r.volumes[v.ID.String()]
		if !told || !r.ourPool() {
			continue
		}
		copying := v.SourceThin != nil && (v.Status == model.VolumeCreating || v.Status == model.VolumeReverting)
		switch {
		case copying && v.madeBy(o):
			made = append(made, v.ID)
		case copying && o.State == model.DeviceError && r.current():
			failed = append(failed, v.ID)
			why[v.ID] = o.Error
		case v.Status == model.VolumeExtending && o.State == model.DeviceReady && o.Bytes == v.SizeGiB<<30:
			grown = append(grown, v.ID)
		}
	}
	if len(made) > 0 {
		moved, err := r.move(change{
			of: volumeStatus, where: "id = ANY(?::uuid[]) AND home = ? AND materialized", args: []any{ids(made), r.o.Host},
			from: words(model.VolumeCreating, model.VolumeReverting), to: string(model.VolumeAvailable),
			set: setVolume + ", launched_at = COALESCE(launched_at, now())", setArgs: []any{nil},
		})
		if err != nil {
			return err
		}
		// The snapshots that were reverted to: at most one of a volume is being restored.
		_, err = r.move(change{
			of: snapshotStatus, where: "volume_id = ANY(?::uuid[])", args: []any{pq.Array(moved)},
			from: words(model.SnapshotRestoring), to: string(model.SnapshotAvailable),
		})
		if err != nil {
			return err
		}
	}
	for _, id := range failed {
		if err := r.failVolumes(msgCopy, "schedule allocate volume:"+why[id], []uuid.UUID{id}); err != nil {
			return err
		}
	}
	r.changes.Extended = grown
	if len(made)+len(failed) == 0 {
		return nil
	}
	return r.settleGroups(r.groups)
}

// holdGroups locks the groups whose volumes are being made here.
func (r *report) holdGroups() error {
	var of []*uuid.UUID
	for _, v := range r.stored {
		if v.Status == model.VolumeCreating {
			of = append(of, v.GroupID)
		}
	}
	if r.groups = distinct(of); len(r.groups) == 0 {
		return nil
	}
	return r.exec("SELECT 1 FROM volume_groups WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE", ids(r.groups))
}

func (r *report) saveSnapshots() error {
	var ended []*uuid.UUID // group snapshots of those that are made or have failed
	for _, sn := range r.snaps {
		o, told := r.volumes[sn.ID.String()]
		if !told || !r.ourPool() {
			continue
		}
		switch {
		case sn.Status == model.SnapshotDeleting:
			if o.State == model.DeviceAbsent && r.current() {
				r.changes.SnapshotsDeleted = append(r.changes.SnapshotsDeleted, sn.ID)
			}
		case o.Materialized && !sn.Materialized:
			_, err := r.move(change{
				of: snapshotStatus, where: "id = ? AND home = ?", args: []any{sn.ID, r.o.Host},
				from: words(model.SnapshotCreating, model.SnapshotError), to: string(model.SnapshotAvailable),
				set: "materialized = true, progress = '100%', error = NULL",
			})
			if err != nil {
				return err
			}
			ended = append(ended, sn.Group)
		case sn.Status == model.SnapshotCreating && o.State == model.DeviceError && r.current():
			if err := r.failSnapshot(sn.ID, o.Error); err != nil {
				return err
			}
			ended = append(ended, sn.Group)
		}
	}
	if err := r.settleGroupSnapshots(distinct(ended)); err != nil {
		return err
	}
	var gone []uuid.UUID
	for _, id := range r.dropped {
		if o, told := r.volumes[id.String()]; told && o.State == model.DeviceAbsent && r.current() && r.ourPool() {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	_ = r.Bump(r.o.Host)
	return r.exec("DELETE FROM dropped_thins WHERE id = ANY($1::uuid[])", ids(gone))
}

func (r *report) failSnapshot(id uuid.UUID, why string) error {
	moved, err := r.move(change{
		of: snapshotStatus, where: "id = ?", args: []any{id}, from: words(model.SnapshotCreating),
		to: string(model.SnapshotError), set: "error = ?", setArgs: []any{why},
	})
	if err != nil || len(moved) == 0 {
		return err
	}
	return r.exec(`INSERT INTO messages (id, project_id, resource_type, resource_uuid, event_id, user_message)
		SELECT $2, project_id, 'VOLUME_SNAPSHOT', id, $3, $4 FROM snapshots WHERE id = $1`,
		id, uuid.New(), msgSnapshot, "create snapshot:"+why)
}
