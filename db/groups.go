package db

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const legacyGroup = "y.name = '" + model.LegacyGroupType + "' AS legacy"

const groupColumns = `g.id, g.project_id, g.user_id, g.name, g.description, g.status, g.availability_zone, g.group_type_id,
	y.group_specs, ` + legacyGroup + `, g.group_snapshot_id, g.source_group_id, g.created_at, g.updated_at,
	(SELECT jsonb_agg(x.volume_type_id ORDER BY x.position) FROM group_volume_types x WHERE x.group_id = g.id) AS volume_types,
	(SELECT jsonb_agg(v.id ORDER BY v.created_at, v.id) FROM volumes v WHERE v.group_id = g.id) AS volumes`

const groupFrom = " FROM volume_groups g JOIN group_types y ON y.id = g.group_type_id"

func groups() lister {
	return lister{
		selects: groupColumns, from: groupFrom, id: "g.id", project: "g.project_id",
		columns: map[string]column{
			"id":                {sql: "g.id", kind: id},
			"project_id":        {sql: "g.project_id"},
			"user_id":           {sql: "g.user_id"},
			"name":              {sql: "g.name", nullable: true},
			"description":       {sql: "g.description", nullable: true},
			"status":            {sql: "g.status"},
			"availability_zone": {sql: "g.availability_zone", nullable: true},
			"group_type_id":     {sql: "g.group_type_id", kind: id},
			"group_snapshot_id": {sql: "g.group_snapshot_id", kind: id, nullable: true},
			"source_group_id":   {sql: "g.source_group_id", kind: id, nullable: true},
			"legacy":            {sql: "(y.name = '" + model.LegacyGroupType + "')", kind: boolean, noSort: true},
			"created_at":        {sql: "g.created_at", kind: stamp},
			"updated_at":        {sql: "g.updated_at", kind: stamp, nullable: true},
		},
	}
}

// ListGroups returns a page of groups.
func (s *Store) ListGroups(ctx context.Context, q model.ListQuery) ([]model.Group, error) {
	var gs []model.Group
	return gs, s.rows(ctx, &gs, groups(), q)
}

// Group returns one group; projectID "" sees all.
func (s *Store) Group(ctx context.Context, id uuid.UUID, projectID string) (model.Group, error) {
	var gs []model.Group
	err := s.list(ctx, &gs, "SELECT "+groupColumns+groupFrom+" WHERE g.id = $1 AND ($2 = '' OR g.project_id = $2)", id, projectID)
	return one(gs, err, "group", id)
}

// lockGroup returns the group's row, locked: no volume comes to it or leaves it meanwhile,
// and no other gets a home.
func (t *Tx) lockGroup(id uuid.UUID) (model.Group, error) {
	// A statement of its own: what is read after it is as the last holder has left it.
	if err := t.exec("SELECT 1 FROM volume_groups WHERE id = $1 FOR NO KEY UPDATE", id); err != nil {
		return model.Group{}, fmt.Errorf("group %s: %w", id, err)
	}
	var gs []model.Group
	err := t.list(&gs, "SELECT "+groupColumns+groupFrom+" WHERE g.id = $1", id)
	return one(gs, err, "group", id)
}

// lockMembers returns the volumes of a group that is locked, with their attachments, locked.
func (t *Tx) lockMembers(group uuid.UUID) ([]model.Volume, error) {
	return volumesWhere(t.ctx, t.q, "v.group_id = $1 ORDER BY v.id FOR NO KEY UPDATE OF v", group)
}

// GroupHome locks a group and returns where the data of its volumes must be: the home of
// those that have one, nil if none has or they may be anywhere.
func (t *Tx) GroupHome(group uuid.UUID) (*string, error) {
	g, err := t.lockGroup(group)
	if err != nil || !g.Consistent() {
		return nil, err
	}
	var homes []string
	err = t.list(&homes, "SELECT home FROM volumes WHERE group_id = $1 AND home IS NOT NULL ORDER BY id LIMIT 1", group)
	if err != nil || len(homes) == 0 {
		return nil, err
	}
	return &homes[0], nil
}

// holdGroups keeps the groups of new volumes from being deleted until the transaction ends,
// and refuses those that are in no status for them.
func (t *Tx) holdGroups(vols []model.Volume) error {
	var held []uuid.UUID
	for i := range vols {
		if g := vols[i].GroupID; g != nil && !slices.Contains(held, *g) {
			held = append(held, *g)
		}
	}
	if len(held) == 0 {
		return nil
	}
	var ok []string
	err := t.list(&ok, "SELECT id FROM volume_groups WHERE id = ANY($1::uuid[]) AND status IN ('available', 'creating') ORDER BY id FOR SHARE", ids(held))
	if err != nil {
		return fmt.Errorf("groups of new volumes: %w", err)
	}
	if len(ok) < len(held) {
		return say(model.ErrInvalid, "Invalid Group: Originating group status must be one of 'available, creating' values")
	}
	return nil
}

// CreateGroup makes a group without volumes, available at once. Too many for the quota are a
// *[model.QuotaError], a type that is gone ErrNotFound.
func (s *Store) CreateGroup(ctx context.Context, g model.Group) (model.Group, error) {
	err := s.Tx(ctx, func(t *Tx) error {
		if err := s.reserve(t, g.ProjectID, claim{Claim: model.GroupClaim()}); err != nil {
			return err
		}
		g.Status = model.GroupAvailable
		return t.insertGroup(&g)
	})
	if err != nil {
		return g, err
	}
	return s.Group(ctx, g.ID, "")
}

func (t *Tx) insertGroup(g *model.Group) error {
	if g.ID == uuid.Nil {
		g.ID = uuid.New()
	}
	err := t.exec(`INSERT INTO volume_groups (id, project_id, user_id, name, description, status, availability_zone, group_type_id, group_snapshot_id, source_group_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		g.ID, g.ProjectID, g.UserID, g.Name, g.Description, g.Status, g.AvailabilityZone, g.GroupTypeID, g.GroupSnapshotID, g.SourceGroupID)
	if err != nil {
		return refers(fmt.Errorf("group %s: %w", g.ID, err), "group type")
	}
	err = t.exec("INSERT INTO group_volume_types (group_id, volume_type_id, position) SELECT $1, x.id, x.n FROM unnest($2::uuid[]) WITH ORDINALITY AS x (id, n)",
		g.ID, ids(g.VolumeTypes))
	if err != nil {
		return refers(fmt.Errorf("group %s: %w", g.ID, err), "volume type")
	}
	return nil
}

// UpdateGroup changes name, description and members. What [model.Group.Edit] refuses is
// ErrInvalid.
func (s *Store) UpdateGroup(ctx context.Context, id uuid.UUID, p model.GroupPatch) (model.Group, error) {
	err := s.Tx(ctx, func(t *Tx) error {
		g, err := t.lockGroup(id)
		if err != nil {
			return err
		}
		others := map[string]model.Volume{}
		var wanted []uuid.UUID
		for _, text := range p.Add {
			if v, err := uuid.Parse(text); err == nil {
				wanted = append(wanted, v)
			}
		}
		vs, err := volumesWhere(t.ctx, t.q, "(v.group_id = $1 OR v.id = ANY($2::uuid[])) ORDER BY v.id FOR NO KEY UPDATE OF v", id, ids(wanted))
		if err != nil {
			return fmt.Errorf("volumes of group %s: %w", id, err)
		}
		var members []model.Volume
		for _, v := range vs {
			if v.GroupID != nil && *v.GroupID == id {
				members = append(members, v)
			} else {
				others[v.ID.String()] = v
			}
		}
		add, remove, err := g.Edit(p, members, others)
		if err != nil {
			return err
		}
		if err := t.exec("UPDATE volumes SET group_id = $2 WHERE id = ANY($1::uuid[])", ids(add), id); err != nil {
			return fmt.Errorf("group %s: %w", id, err)
		}
		if err := t.exec("UPDATE volumes SET group_id = NULL WHERE id = ANY($1::uuid[])", ids(remove)); err != nil {
			return fmt.Errorf("group %s: %w", id, err)
		}
		moved, err := t.move(change{
			of: groupStatus, where: "id = ?", args: []any{id}, to: string(model.GroupAvailable),
			set: "name = COALESCE(?, name), description = COALESCE(?, description)", setArgs: []any{p.Name, p.Description},
		})
		return needed(moved, err, "group", id)
	})
	if err != nil {
		return model.Group{}, err
	}
	return s.Group(ctx, id, "")
}

// ResetGroup writes a group's status, unguarded (reset_status).
func (s *Store) ResetGroup(ctx context.Context, id uuid.UUID, status model.GroupStatus) error {
	moved, err := move(ctx, s.db, change{of: groupStatus, where: "id = ?", args: []any{id}, to: string(status)})
	return needed(moved, err, "group", id)
}

// DeleteGroup removes a group, at once if it has no volumes. With them they and it become
// deleting: the row of the group goes with that of the last ([Store.DeleteRow]). They are
// returned. What [model.Group.MayDelete] refuses is ErrInvalid.
func (s *Store) DeleteGroup(ctx context.Context, id uuid.UUID, volumes bool) ([]model.Volume, error) {
	var members []model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		g, err := t.lockGroup(id)
		if err != nil {
			return err
		}
		if members, err = t.lockMembers(id); err != nil {
			return err
		}
		use := model.GroupUse{Volumes: members}
		err = t.q.QueryRowxContext(t.ctx, `SELECT
			EXISTS (SELECT 1 FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE v.group_id = $1),
			(SELECT count(*) FROM group_snapshots WHERE group_id = $1),
			EXISTS (SELECT 1 FROM volume_groups WHERE source_group_id = $1 AND status = 'creating')`, id).
			Scan(&use.Snapshotted, &use.GroupSnapshots, &use.Copied)
		if err != nil {
			return fmt.Errorf("group %s: %w", id, translate(t.ctx, err))
		}
		if err := g.MayDelete(use, volumes); err != nil {
			return err
		}
		if len(members) == 0 {
			return t.exec("DELETE FROM volume_groups WHERE id = $1", id)
		}
		for i := range members {
			v := &members[i]
			if err := t.SetVolumeStatus(v.ID, model.VolumeDeleting, model.AttachDetached, nil); err != nil {
				return err
			}
			if v.Home != nil {
				_ = t.Bump(*v.Home)
			}
		}
		moved, err := t.move(change{of: groupStatus, where: "id = ?", args: []any{id}, to: string(model.GroupDeleting)})
		return needed(moved, err, "group", id)
	})
	return members, err
}

// endGroup removes a group that is locked and deleting when its last volume is gone.
func (t *Tx) endGroup(id uuid.UUID) error {
	err := t.exec(`DELETE FROM volume_groups g WHERE id = $1 AND status = 'deleting'
		AND NOT EXISTS (SELECT 1 FROM volumes v WHERE v.group_id = g.id)`, id)
	if err != nil {
		return fmt.Errorf("group %s: %w", id, err)
	}
	return nil
}
