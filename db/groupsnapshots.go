package db

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const groupSnapshotColumns = `p.id, p.group_id, p.group_type_id, ` + legacyGroup + `, p.project_id, p.user_id, p.name, p.description,
	p.status, p.created_at, p.updated_at`

const groupSnapshotFrom = " FROM group_snapshots p JOIN group_types y ON y.id = p.group_type_id"

func groupSnapshots() lister {
	return lister{
		selects: groupSnapshotColumns, from: groupSnapshotFrom, id: "p.id", project: "p.project_id",
		columns: map[string]column{
			"id":            {sql: "p.id", kind: id},
			"project_id":    {sql: "p.project_id"},
			"user_id":       {sql: "p.user_id"},
			"name":          {sql: "p.name", nullable: true},
			"description":   {sql: "p.description", nullable: true},
			"status":        {sql: "p.status"},
			"group_id":      {sql: "p.group_id", kind: id},
			"group_type_id": {sql: "p.group_type_id", kind: id},
			"legacy":        {sql: "(y.name = '" + model.LegacyGroupType + "')", kind: boolean, noSort: true},
			"created_at":    {sql: "p.created_at", kind: stamp},
			"updated_at":    {sql: "p.updated_at", kind: stamp, nullable: true},
		},
	}
}

// ListGroupSnapshots returns a page of group snapshots.
func (s *Store) ListGroupSnapshots(ctx context.Context, q model.ListQuery) ([]model.GroupSnapshot, error) {
	var ps []model.GroupSnapshot
	return ps, s.rows(ctx, &ps, groupSnapshots(), q)
}

// GroupSnapshot returns one; projectID "" sees all.
func (s *Store) GroupSnapshot(ctx context.Context, id uuid.UUID, projectID string) (model.GroupSnapshot, error) {
	var ps []model.GroupSnapshot
	err := s.list(ctx, &ps, "SELECT "+groupSnapshotColumns+groupSnapshotFrom+" WHERE p.id = $1 AND ($2 = '' OR p.project_id = $2)", id, projectID)
	return one(ps, err, "group snapshot", id)
}

// CreateGroupSnapshot takes a snapshot of each of the group's volumes, or none, and returns
// the snapshots too. It is available when they all are. Those of a consistent group are made
// together. What [model.Group.MaySnapshot] refuses is ErrInvalid, too many for a quota are a
// *[model.QuotaError].
func (s *Store) CreateGroupSnapshot(ctx context.Context, p model.GroupSnapshot) (out model.GroupSnapshot, snaps []model.Snapshot, err error) {
	if p.ID == uuid.Nil {
		p.ID = uuid.New()
	}
	err = s.Tx(ctx, func(t *Tx) error {
		snaps = nil
		if err := t.lockProject(p.ProjectID); err != nil {
			return err
		}
		g, err := t.lockGroup(p.GroupID)
		if err != nil {
			return err
		}
		members, err := t.lockMembers(g.ID)
		if err != nil {
			return err
		}
		together, err := g.MaySnapshot(members)
		if err != nil {
			return err
		}
		for _, v := range members {
			snaps = append(snaps, model.Snapshot{
				VolumeID: v.ID, ProjectID: p.ProjectID, UserID: p.UserID, Name: p.Name, Description: p.Description,
				GroupSnapshotID: &p.ID, ConsumesQuota: true,
			})
		}
		if err := s.quotaOfSnapshots(t, snaps); err != nil {
			return err
		}
		err = t.exec(`INSERT INTO group_snapshots (id, group_id, group_type_id, project_id, user_id, name, description, status)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'creating')`, p.ID, g.ID, g.GroupTypeID, p.ProjectID, p.UserID, p.Name, p.Description)
		if err != nil {
			return fmt.Errorf("group snapshot %s: %w", p.ID, err)
		}
		for i := range snaps {
			if together && !members[i].Pristine() {
				snaps[i].Together = &p.ID
			}
			if err := t.insertSnapshot(&snaps[i], &members[i]); err != nil {
				return err
			}
		}
		return t.settleGroupSnapshots([]uuid.UUID{p.ID})
	})
	if err != nil {
		return out, nil, err
	}
	out, err = s.GroupSnapshot(ctx, p.ID, "")
	return out, snaps, err
}

// ResetGroupSnapshot writes a group snapshot's status, unguarded (reset_status).
func (s *Store) ResetGroupSnapshot(ctx context.Context, id uuid.UUID, status model.GroupStatus) error {
	moved, err := move(ctx, s.db, change{of: groupSnapshotStatus, where: "id = ?", args: []any{id}, to: string(status)})
	return needed(moved, err, "group snapshot", id)
}

// DeleteGroupSnapshot has a group snapshot that is available or failed, and its snapshots,
// become deleting, and returns these: its row goes with that of the last
// ([Store.DeleteSnapshotRow]), at once if it has none. ErrConflict in any other status and
// while a group is made from it.
func (s *Store) DeleteGroupSnapshot(ctx context.Context, id uuid.UUID) ([]model.Snapshot, error) {
	var snaps []model.Snapshot
	err := s.Tx(ctx, func(t *Tx) error {
		snaps = nil
		err := t.list(&snaps, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.group_snapshot_id = $1 ORDER BY s.id FOR NO KEY UPDATE OF s", id)
		if err != nil {
			return fmt.Errorf("snapshots of group snapshot %s: %w", id, err)
		}
		var copied bool
		if err := t.get(&copied, "SELECT EXISTS (SELECT 1 FROM volume_groups WHERE group_snapshot_id = $1 AND status = 'creating')", id); err != nil {
			return fmt.Errorf("group snapshot %s: %w", id, err)
		}
		moved, err := t.move(change{
			of: groupSnapshotStatus, where: "id = ? AND NOT ?", args: []any{id, copied},
			from: words(model.GroupAvailable, model.GroupError), to: string(model.GroupDeleting),
		})
		if err != nil {
			return fmt.Errorf("group snapshot %s: %w", id, err)
		}
		if len(moved) == 0 {
			return say(model.ErrConflict, "Invalid GroupSnapshot: GroupSnapshot status must be available or error, and no Group can be currently using it as source for its creation.")
		}
		for i := range snaps {
			if err := t.moveSnapshot(snaps[i].ID, model.SnapshotMove{To: model.SnapshotDeleting}); err != nil {
				return err
			}
			if snaps[i].Home != nil {
				_ = t.Bump(*snaps[i].Home)
			}
		}
		return t.endGroupSnapshot(id)
	})
	return snaps, err
}

// endGroupSnapshot removes a group snapshot that is deleting when its last snapshot is gone.
func (t *Tx) endGroupSnapshot(id uuid.UUID) error {
	// A statement of its own: who removes another of the snapshots has committed then.
	if err := t.exec("SELECT 1 FROM group_snapshots WHERE id = $1 FOR UPDATE", id); err != nil {
		return fmt.Errorf("group snapshot %s: %w", id, err)
	}
	err := t.exec(`DELETE FROM group_snapshots p WHERE id = $1 AND status = 'deleting'
		AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.group_snapshot_id = p.id)`, id)
	if err != nil {
		return fmt.Errorf("group snapshot %s: %w", id, err)
	}
	return nil
}

// settled is a group or group snapshot all of whose members are made, or have failed.
type settled struct {
	ID     uuid.UUID `db:"id"`
	Failed bool      `db:"failed"`
}

// settleGroupSnapshots ends the creation of those whose snapshots are all made. It comes after
// whatever has moved their snapshots.
func (t *Tx) settleGroupSnapshots(of []uuid.UUID) error {
	return t.settle(groupSnapshotStatus, of, `SELECT p.id, COALESCE(bool_or(s.status LIKE 'error%'), false) AS failed
		FROM group_snapshots p LEFT JOIN snapshots s ON s.group_snapshot_id = p.id
		WHERE p.id = ANY($1::uuid[]) GROUP BY p.id HAVING NOT COALESCE(bool_or(s.status = 'creating'), false)`)
}

// settleGroups ends the creation of groups that were made from others and whose volumes are
// all made.
func (t *Tx) settleGroups(of []uuid.UUID) error {
	return t.settle(groupStatus, of, `SELECT g.id, COALESCE(bool_or(v.status LIKE 'error%'), false) AS failed
		FROM volume_groups g LEFT JOIN volumes v ON v.group_id = g.id
		WHERE g.id = ANY($1::uuid[]) GROUP BY g.id HAVING NOT COALESCE(bool_or(v.status = 'creating'), false)`)
}

func (t *Tx) settle(status statusOf, of []uuid.UUID, query string) error {
	if len(of) == 0 {
		return nil
	}
	table := map[statusOf]string{groupStatus: "volume_groups", groupSnapshotStatus: "group_snapshots"}[status]
	// A statement of its own: members that others have moved are committed then.
	err := t.exec("SELECT 1 FROM "+table+" WHERE id = ANY($1::uuid[]) AND status = 'creating' ORDER BY id FOR NO KEY UPDATE", ids(of))
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	var done []settled
	if err := t.list(&done, query, ids(of)); err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	to := map[model.GroupStatus][]uuid.UUID{}
	for _, d := range done {
		s := model.GroupAvailable
		if d.Failed {
			s = model.GroupError
		}
		to[s] = append(to[s], d.ID)
	}
	for _, s := range []model.GroupStatus{model.GroupAvailable, model.GroupError} {
		if len(to[s]) == 0 {
			continue
		}
		_, err := t.move(change{of: status, where: "id = ANY(?::uuid[])", args: []any{ids(to[s])}, from: words(model.GroupCreating), to: string(s)})
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// distinct ids that are not nil.
func distinct(of []*uuid.UUID) []uuid.UUID {
	var out []uuid.UUID
	for _, id := range of {
		if id != nil && !slices.Contains(out, *id) {
			out = append(out, *id)
		}
	}
	return out
}
