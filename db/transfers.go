package db

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const transferColumns = `x.id, x.volume_id, x.name, x.salt, x.key_hash, x.no_snapshots, x.source_project_id,
	x.destination_project_id, x.accepted, x.created_at, x.updated_at`

// transferFrom: a transfer belongs to the project that has the volume now.
const transferFrom = " FROM transfers x JOIN volumes v ON v.id = x.volume_id"

func transfers() lister {
	return lister{
		selects: transferColumns, from: transferFrom, id: "x.id", project: "v.project_id",
		columns: map[string]column{
			"id":                     {sql: "x.id", kind: id},
			"project_id":             {sql: "v.project_id", noSort: true},
			"volume_id":              {sql: "x.volume_id", kind: id},
			"name":                   {sql: "x.name", nullable: true},
			"no_snapshots":           {sql: "x.no_snapshots", kind: boolean},
			"source_project_id":      {sql: "x.source_project_id"},
			"destination_project_id": {sql: "x.destination_project_id", nullable: true},
			"accepted":               {sql: "x.accepted", kind: boolean},
			"created_at":             {sql: "x.created_at", kind: stamp},
			"updated_at":             {sql: "x.updated_at", kind: stamp, nullable: true},
		},
	}
}

// CreateTransfer offers a volume that is available, and so are its snapshots unless they
// stay; else ErrConflict in Cinder's words. The volume's status becomes awaiting-transfer. An older offer
// of it, which can be there if its status was reset, ends. The source project is the volume's.
func (s *Store) CreateTransfer(ctx context.Context, x model.Transfer) (model.Transfer, error) {
	if x.ID == uuid.Nil {
		x.ID = uuid.New()
	}
	var out model.Transfer
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(x.VolumeID)
		if err != nil {
			return err
		}
		moved, err := t.move(change{
			of: volumeStatus, where: "id = ?", args: []any{v.ID}, from: words(model.VolumeAvailable), to: string(model.VolumeAwaitingTransfer),
			set: setVolume, setArgs: []any{nil},
		})
		switch {
		case err != nil:
			return fmt.Errorf("volume %s: %w", v.ID, err)
		case len(moved) == 0:
			return say(model.ErrConflict, "Invalid volume: status must be available")
		}
		if !x.NoSnapshots {
			if _, err := t.lockSnapshotsOf(v.ID, "Invalid snapshot: snapshot: %[1]s status must be available"); err != nil {
				return err
			}
		}
		if err := t.endTransfers(v.ID); err != nil {
			return err
		}
		var xs []model.Transfer
		err = t.list(&xs, `INSERT INTO transfers AS x (id, volume_id, name, salt, key_hash, no_snapshots, source_project_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING `+transferColumns, x.ID, v.ID, x.Name, x.Salt, x.KeyHash, x.NoSnapshots, v.ProjectID)
		out, err = one(xs, err, "transfer", x.ID)
		return err
	})
	if err != nil && !errors.As(err, new(*said)) {
		err = fmt.Errorf("transfer of volume %s: %w", x.VolumeID, err)
	}
	return out, err
}

// endTransfers of a volume that are open. They stay as history.
func (t *Tx) endTransfers(volume uuid.UUID) error {
	if err := t.exec("UPDATE transfers SET ended_at = now() WHERE volume_id = $1 AND ended_at IS NULL", volume); err != nil {
		return fmt.Errorf("transfers of volume %s: %w", volume, err)
	}
	return nil
}

// lockSnapshotsOf a volume: how many there are and their GiB. One that is not available is
// ErrConflict with the message, whose argument is its id.
func (t *Tx) lockSnapshotsOf(volume uuid.UUID, message string) (snaps []model.Snapshot, err error) {
	err = t.list(&snaps, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.volume_id = $1 ORDER BY s.id FOR NO KEY UPDATE OF s", volume)
	if err != nil {
		return nil, fmt.Errorf("snapshots of volume %s: %w", volume, err)
	}
	i := slices.IndexFunc(snaps, func(sn model.Snapshot) bool { return sn.Status != model.SnapshotAvailable })
	if i >= 0 {
		return nil, say(model.ErrConflict, message, snaps[i].ID)
	}
	return snaps, nil
}

// Transfer returns an open transfer; projectID "" sees all, others those of their volumes.
func (s *Store) Transfer(ctx context.Context, id uuid.UUID, projectID string) (model.Transfer, error) {
	var xs []model.Transfer
	err := s.list(ctx, &xs, "SELECT "+transferColumns+transferFrom+
		" WHERE x.id = $1 AND x.ended_at IS NULL AND ($2 = '' OR v.project_id = $2)", id, projectID)
	return one(xs, err, "transfer", id)
}

// ListTransfers returns a page of open transfers.
func (s *Store) ListTransfers(ctx context.Context, q model.ListQuery) ([]model.Transfer, error) {
	var xs []model.Transfer
	return xs, s.rows(ctx, &xs, transfers(), q, func(p *page) { p.where = append(p.where, "x.ended_at IS NULL") })
}

// lockTransfer locks the volume of an open transfer, then the transfer, and returns both.
func (t *Tx) lockTransfer(id uuid.UUID) (model.Transfer, model.Volume, error) {
	var of uuid.UUID
	if err := t.get(&of, "SELECT volume_id FROM transfers WHERE id = $1 AND ended_at IS NULL", id); err != nil {
		return model.Transfer{}, model.Volume{}, fmt.Errorf("transfer %s: %w", id, err)
	}
	v, err := t.LockVolume(of)
	if err != nil {
		return model.Transfer{}, v, err
	}
	var xs []model.Transfer
	err = t.list(&xs, "SELECT "+transferColumns+" FROM transfers x WHERE x.id = $1 AND x.ended_at IS NULL FOR UPDATE", id)
	x, err := one(xs, err, "transfer", id)
	return x, v, err
}

// DeleteTransfer takes an offer back: the volume is available again, unless somebody has
// moved it from awaiting-transfer meanwhile.
func (s *Store) DeleteTransfer(ctx context.Context, id uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		_, v, err := t.lockTransfer(id)
		if err != nil {
			return err
		}
		_, err = t.move(change{
			of: volumeStatus, where: "id = ?", args: []any{v.ID}, from: words(model.VolumeAwaitingTransfer), to: string(model.VolumeAvailable),
			set: setVolume, setArgs: []any{nil},
		})
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.ID, err)
		}
		return t.endTransfers(v.ID)
	})
}

// AcceptTransfer gives the volume, and its snapshots unless they stay, to a project and a
// user there, in one transaction with the check of the project's quotas: too much for them
// is a *[model.QuotaError]. A volume that is not awaiting-transfer, or a snapshot that is not available, is
// ErrConflict in Cinder's words, a transfer that has ended ErrNotFound. The key is the caller's to check.
func (s *Store) AcceptTransfer(ctx context.Context, id uuid.UUID, projectID, userID string) (model.Transfer, error) {
	var out model.Transfer
	err := s.Tx(ctx, func(t *Tx) error {
		// The lock of the project comes before that of the volume, so what is to be counted
		// is read before it is locked. In awaiting-transfer it can't change.
		seen, snaps, err := t.offered(id)
		if err != nil {
			return err
		}
		if err := s.reserve(t, projectID, together(seen, snaps)...); err != nil {
			return err
		}
		x, v, err := t.lockTransfer(id)
		if err != nil {
			return err
		}
		out = x
		return t.handOver(x, v, len(snaps), projectID, userID)
	})
	if err != nil && !errors.As(err, new(*said)) && !errors.As(err, new(*model.QuotaError)) {
		err = fmt.Errorf("accept transfer %s: %w", id, err)
	}
	return out, err
}

// offered is what a transfer brings.
func (t *Tx) offered(id uuid.UUID) (model.Volume, []model.Snapshot, error) {
	vs, err := volumesWhere(t.ctx, t.q, "v.id = (SELECT volume_id FROM transfers WHERE id = $1 AND ended_at IS NULL)", id)
	v, err := one(vs, err, "transfer", id)
	if err != nil {
		return v, nil, err
	}
	var snaps []model.Snapshot
	err = t.list(&snaps, "SELECT "+snapshotColumns+` FROM snapshots s JOIN transfers x ON x.volume_id = s.volume_id
		WHERE x.id = $1 AND x.ended_at IS NULL AND NOT x.no_snapshots ORDER BY s.id`, id)
	if err != nil {
		return v, nil, fmt.Errorf("snapshots of volume %s: %w", v.ID, err)
	}
	return v, snaps, nil
}

// together is what a volume and the snapshots that come with it count against quotas.
func together(v model.Volume, snaps []model.Snapshot) []claim {
	var out []claim
	if v.ConsumesQuota {
		out = append(out, claim{Claim: model.VolumeClaim(v.SizeGiB), kind: v.VolumeTypeID})
	}
	for i := range snaps {
		if sn := &snaps[i]; sn.ConsumesQuota {
			out = append(out, claim{Claim: model.SnapshotClaim(sn.SizeGiB), kind: sn.VolumeTypeID})
		}
	}
	return out
}

// handOver writes the new owner of what is locked.
func (t *Tx) handOver(x model.Transfer, v model.Volume, counted int, projectID, userID string) error {
	switch {
	case v.GroupID != nil: // it would go with a group that is another project's
		return say(model.ErrConflict, "Invalid volume: Volume %s must not be part of a consistency group.", v.ID)
	case v.Status == model.VolumeMaintenance:
		return say(model.ErrConflict, "Invalid volume: The volume cannot accept transfer in maintenance mode.")
	case v.Status != model.VolumeAwaitingTransfer:
		return say(model.ErrConflict, "Invalid volume: Transfer %s: Volume id %s expected in awaiting-transfer state.", x.ID, v.ID)
	}
	_, err := t.move(change{
		of: volumeStatus, where: "id = ?", args: []any{v.ID}, from: words(model.VolumeAwaitingTransfer), to: string(model.VolumeAvailable),
		set: setVolume + ", project_id = ?, user_id = ?", setArgs: []any{nil, projectID, userID},
	})
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	if !x.NoSnapshots {
		snaps, err := t.lockSnapshotsOf(v.ID, "Invalid snapshot: Transfer "+x.ID.String()+": Snapshot %[1]s is not in the expected available state.")
		if err != nil {
			return err
		}
		if len(snaps) > counted {
			return say(model.ErrConflict, "Invalid volume: Volume %s has been given a snapshot meanwhile.", v.ID)
		}
		if err := t.exec("UPDATE snapshots SET project_id = $2, user_id = $3, updated_at = now() WHERE volume_id = $1", v.ID, projectID, userID); err != nil {
			return fmt.Errorf("snapshots of volume %s: %w", v.ID, err)
		}
	}
	err = t.exec("UPDATE transfers SET accepted = true, destination_project_id = $2, ended_at = now() WHERE id = $1", x.ID, projectID)
	if err != nil {
		return fmt.Errorf("transfer %s: %w", x.ID, err)
	}
	return nil
}
