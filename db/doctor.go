package db

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Census reads in one snapshot what [model.Census] says. Rows that only rest are counted, not read, but
// usage and thin numbers are summed up over all of them: about 1 s with 100,000 volumes in use and 50,000 snapshots.
func (s *Store) Census(ctx context.Context) (model.Census, error) {
	var c model.Census
	snapshot := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.tx(ctx, snapshot, func(t *Tx) error {
		c = model.Census{}
		return t.census(&c)
	})
	if err != nil {
		return model.Census{}, fmt.Errorf("census: %w", err)
	}
	return c, nil
}

func (t *Tx) census(c *model.Census) error {
	if err := t.list(&c.Nodes, selectNodes+" ORDER BY n.host"); err != nil {
		return err
	}
	if err := t.list(&c.Images, "SELECT "+imageColumns+" FROM images i ORDER BY i.created_at, i.id"); err != nil {
		return err
	}
	if err := t.list(&c.Services, `SELECT host, "binary", disabled, disabled_reason, last_seen, created_at FROM services ORDER BY "binary", host`); err != nil {
		return err
	}
	if err := t.list(&c.Leases, "SELECT name, holder, expires_at FROM leases ORDER BY name"); err != nil {
		return err
	}
	if err := t.get(&c.Volumes, "SELECT count(*) FROM volumes"); err != nil {
		return err
	}
	if err := t.get(&c.Snapshots, "SELECT count(*) FROM snapshots"); err != nil {
		return err
	}
	if err := t.homes(c); err != nil {
		return err
	}
	for _, l := range []struct {
		what, query string
		into        any
		length      func() int
	}{
		{"jobs", "SELECT " + jobColumns + " FROM jobs j ORDER BY j.run_at, j.id LIMIT $1", &c.Jobs, func() int { return len(c.Jobs) }},
		{"tasks", "SELECT " + taskColumns + " FROM tasks k ORDER BY k.created_at, k.id LIMIT $1", &c.Tasks, func() int { return len(c.Tasks) }},
		{"what is being worked on", passing, &c.Passing, func() int { return len(c.Passing) }},
		{"attachments", crooked, &c.Crooked, func() int { return len(c.Crooked) }},
		{"idle relays and images", idle, &c.Idle, func() int { return len(c.Idle) }},
		{"shared thin numbers", sharedThins, &c.Shared, func() int { return len(c.Shared) }},
		{"thin numbers", thinsAhead, &c.Ahead, func() int { return len(c.Ahead) }},
		{"usage", usageDrift + " LIMIT $1", &c.Usage, func() int { return len(c.Usage) }},
	} {
		if err := t.list(l.into, l.query, model.CensusLimit); err != nil {
			return fmt.Errorf("%s: %w", l.what, err)
		}
		if l.length() == model.CensusLimit {
			c.More = append(c.More, l.what)
		}
	}
	return nil
}

// homes counts volumes by their homes, and those that somebody has.
func (t *Tx) homes(c *model.Census) error {
	var rows []struct {
		Home     string `db:"home"`
		Count    int    `db:"count"`
		Attached int    `db:"attached"`
	}
	err := t.list(&rows, `SELECT home, count(*) AS count, count(*) FILTER (WHERE status IN ('in-use', 'attaching', 'detaching')) AS attached
		FROM volumes WHERE home IS NOT NULL GROUP BY home`)
	if err != nil {
		return fmt.Errorf("homes: %w", err)
	}
	c.Homes, c.Attached = make(map[string]int, len(rows)), make(map[string]int, len(rows))
	for _, r := range rows {
		c.Homes[r.Home], c.Attached[r.Home] = r.Count, r.Attached
	}
	return nil
}

// passingOf are the columns of [model.Passing], by what they are of. A task that moves a volume is at it
// until its row goes.
const (
	passingVolume = `SELECT 'volume' AS kind, v.id, NULL::uuid AS volume_id, v.status, v.home, COALESCE(v.updated_at, v.created_at) AS since, v.image_id,
		COALESCE((SELECT i.status FROM images i WHERE i.id = v.image_id), '') AS image_status,
		v.home IS NOT NULL AND v.source_thin IS NOT NULL AND NOT v.materialized AS copying, COALESCE(v.migration_status, '') AS migration,
		COALESCE((SELECT string_agg(DISTINCT k.kind, ',') FROM tasks k WHERE k.volume_id = v.id AND k.snapshot_id IS NULL
			AND (k.status IN ('queued', 'running') OR k.kind IN ('migrate', 'serve'))), '') AS tasks,
		(SELECT count(*) FROM snapshots s WHERE s.volume_id = v.id) AS parts
		FROM volumes v`
	passingSnapshot = `SELECT 'snapshot' AS kind, s.id, s.volume_id, s.status, s.home, COALESCE(s.updated_at, s.created_at) AS since, s.image_id,
		'' AS image_status, s.home IS NOT NULL AND s.source_thin IS NOT NULL AND NOT s.materialized AS copying, '' AS migration,
		COALESCE((SELECT string_agg(DISTINCT k.kind, ',') FROM tasks k WHERE k.volume_id = s.volume_id AND k.snapshot_id = s.id
			AND k.status IN ('queued', 'running')), '') AS tasks,
		(SELECT count(*) FROM volumes v WHERE v.id = s.volume_id AND v.status = 'reverting') AS parts
		FROM snapshots s`
	passingBackup = `SELECT 'backup' AS kind, b.id, b.volume_id, b.status, NULL::text AS home, b.updated_at AS since, NULL::uuid AS image_id,
		'' AS image_status, false AS copying, '' AS migration,
		COALESCE((SELECT string_agg(DISTINCT k.kind, ',') FROM tasks k WHERE k.args ->> 'backup_id' IS NOT NULL AND k.args ->> 'backup_id' = b.id::text
			AND k.status IN ('queued', 'running')), '') AS tasks, 0 AS parts
		FROM backups b`
	passing = `(` + passingVolume + ` WHERE v.status IN ('creating', 'downloading', 'attaching', 'detaching', 'extending', 'uploading', 'retyping',
			'maintenance', 'deleting', 'reverting', 'backing-up', 'restoring-backup', 'unmanaging') LIMIT $1)
	UNION ALL (` + passingSnapshot + ` WHERE s.status IN ('creating', 'deleting', 'restoring', 'backing-up', 'unmanaging') LIMIT $1)
	UNION ALL (` + passingBackup + ` WHERE b.status IN ('creating', 'deleting', 'restoring') LIMIT $1)
	UNION ALL (SELECT 'group', g.id, NULL, g.status, NULL, COALESCE(g.updated_at, g.created_at), NULL, '', false, '', '',
			(SELECT count(*) FROM volumes v WHERE v.group_id = g.id AND v.status IN ('creating', 'deleting'))
		FROM volume_groups g WHERE g.status IN ('creating', 'deleting', 'updating') LIMIT $1)
	UNION ALL (SELECT 'group-snapshot', p.id, NULL, p.status, NULL, COALESCE(p.updated_at, p.created_at), NULL, '', false, '', '',
			(SELECT count(*) FROM snapshots s WHERE s.group_snapshot_id = p.id AND s.status IN ('creating', 'deleting'))
		FROM group_snapshots p WHERE p.status IN ('creating', 'deleting') LIMIT $1)
	ORDER BY since, id LIMIT $1`
)

// crooked: in use by nobody, or available while somebody has it. Whoever has reserved one by the older
// attach API may be known by an attachment or not.
const crooked = `SELECT v.id, v.status, v.home, COALESCE(v.updated_at, v.created_at) AS since,
		(SELECT count(*) FROM attachments x WHERE x.volume_id = v.id AND x.attach_status = 'attached') AS attached,
		(SELECT count(*) FROM attachments x WHERE x.volume_id = v.id AND x.attach_status <> 'attached') AS others
	FROM volumes v WHERE v.id IN (
		SELECT i.id FROM volumes i WHERE i.status = 'in-use'
			AND NOT EXISTS (SELECT 1 FROM attachments x WHERE x.volume_id = i.id AND x.attach_status = 'attached')
		UNION ALL SELECT y.volume_id FROM attachments y JOIN volumes w ON w.id = y.volume_id WHERE y.attach_status = 'attached' AND w.status = 'available')
	ORDER BY v.id LIMIT $1`

// idle: nobody needs them, and no job will find that out.
const idle = `SELECT m.image_id, m.host, m.updated_at AS since FROM tree_members m
		WHERE m.role = 'relay' AND NOT m.pinned AND m.state NOT IN ('draining', 'leaving')
			AND NOT EXISTS (SELECT 1 FROM volumes v WHERE v.home = m.host AND v.image_id = m.image_id)
			AND NOT EXISTS (SELECT 1 FROM tasks k WHERE k.host = m.host AND k.image_id = m.image_id)
			AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.kind = 'release-image' AND j.subject = m.image_id::text)
	UNION ALL SELECT i.id, '', i.updated_at FROM images i
		WHERE i.status IN ('active', 'deleting') AND NOT EXISTS (SELECT 1 FROM tree_members m WHERE m.image_id = i.id AND m.role = 'relay')
			AND NOT EXISTS (SELECT 1 FROM volumes v WHERE v.image_id = i.id) AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.image_id = i.id)
			AND NOT EXISTS (SELECT 1 FROM tasks k WHERE k.image_id = i.id) AND NOT EXISTS (SELECT 1 FROM unmanaged u WHERE u.image_id = i.id)
			AND NOT EXISTS (SELECT 1 FROM tree_members m WHERE m.image_id = i.id AND m.state = 'leaving')
			AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.kind = 'release-image' AND j.subject = i.id::text)
	ORDER BY image_id, host LIMIT $1`

// thinNumbers are all that rows have. The words are made only where they are asked for.
const thinNumbers = `(SELECT home AS host, thin_id, 'volume' AS what, id FROM volumes WHERE home IS NOT NULL
	UNION ALL SELECT home, thin_id, 'snapshot', id FROM snapshots WHERE home IS NOT NULL
	UNION ALL SELECT host, thin_id, 'task', id FROM tasks WHERE thin_id IS NOT NULL
	UNION ALL SELECT host, thin_id, 'dropped', id FROM dropped_thins
	UNION ALL SELECT host, thin_id, 'unmanaged', id FROM unmanaged WHERE host IS NOT NULL
	UNION ALL SELECT host, thin_base + i, 'cache of image', image_id FROM tree_members, generate_series(0, 3) AS i WHERE thin_base > 0)`

const (
	sharedThins = `SELECT n.host, n.thin_id, string_agg(n.what || ' ' || n.id, ', ' ORDER BY n.what, n.id) AS rows
		FROM (SELECT host, thin_id FROM ` + thinNumbers + ` AS a GROUP BY host, thin_id HAVING count(*) > 1 ORDER BY host, thin_id LIMIT $1) AS s
		JOIN ` + thinNumbers + ` AS n USING (host, thin_id) GROUP BY n.host, n.thin_id ORDER BY n.host, n.thin_id`
	thinsAhead = `SELECT n.host, COALESCE(t.next, 1) AS next, n.used FROM (SELECT host, max(thin_id) AS used FROM ` + thinNumbers + ` AS a GROUP BY host) AS n
		LEFT JOIN thin_numbers t ON t.host = n.host WHERE n.used >= COALESCE(t.next, 1) ORDER BY n.host LIMIT $1`
)

// usageDrift is what rows sum up to, as the triggers count them, less what is written down. It is
// one statement, so changes that others commit meanwhile are in both or in neither.
const usageDrift = `SELECT project_id, volume_type_id, sum(volumes)::bigint AS volumes, sum(snapshots)::bigint AS snapshots, sum(gib)::bigint AS gib,
		sum(backups)::bigint AS backups, sum(backup_gib)::bigint AS backup_gib, sum(groups)::bigint AS groups
	FROM (
		SELECT project_id, volume_type_id, 1 AS volumes, 0 AS snapshots, size_gib::bigint AS gib, 0 AS backups, 0 AS backup_gib, 0 AS groups
			FROM volumes WHERE consumes_quota
		UNION ALL SELECT project_id, x.type, x.sign, 0, x.sign * size_gib, 0, 0, 0
			FROM volumes CROSS JOIN LATERAL (VALUES (retype_to, 1), (NULL, -1)) AS x (type, sign) WHERE retype_to IS NOT NULL AND consumes_quota
		UNION ALL SELECT project_id, volume_type_id, 0, 1, size_gib, 0, 0, 0 FROM snapshots WHERE consumes_quota
		UNION ALL SELECT project_id, NULL, 0, 0, 0, 1, size_gib, 0 FROM backups
		UNION ALL SELECT project_id, NULL, 0, 0, 0, 0, 0, 1 FROM volume_groups
		UNION ALL SELECT project_id, volume_type_id, -volumes, -snapshots, -gib, -backups, -backup_gib, -groups FROM usage_changes) AS all_of_them
	GROUP BY project_id, volume_type_id
	HAVING (sum(volumes), sum(snapshots), sum(gib), sum(backups), sum(backup_gib), sum(groups)) <> (0, 0, 0, 0, 0, 0)
	ORDER BY project_id, volume_type_id`

// RecountUsage makes a project's usage what its rows sum up to, and returns how many of its volume types
// that was not so for. The difference is added; what is counted meanwhile stays counted.
func (s *Store) RecountUsage(ctx context.Context, project string) (int, error) {
	var n int64
	err := s.Tx(ctx, func(t *Tx) error {
		if err := t.lockProject(project); err != nil { // or two would add it
			return err
		}
		var err error
		n, err = t.affected(`INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib, backups, backup_gib, groups)
			SELECT * FROM (`+usageDrift+`) AS d WHERE d.project_id = $1`, project)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("usage of project %s: %w", project, err)
	}
	return int(n), nil
}

// RaiseThinNumbers makes a node's next thin number one that no row has, and that is above all they have.
func (s *Store) RaiseThinNumbers(ctx context.Context, host string) error {
	err := s.Tx(ctx, func(t *Tx) error {
		return t.exec(`INSERT INTO thin_numbers AS t (host, next) SELECT $1, max(thin_id) + 1 FROM `+thinNumbers+` AS n WHERE host = $1 HAVING count(*) > 0
			ON CONFLICT (host) DO UPDATE SET next = GREATEST(t.next, EXCLUDED.next)`, host)
	})
	if err != nil {
		return fmt.Errorf("thin numbers of %s: %w", host, err)
	}
	return nil
}

// RecountTree writes in an image's tree what follows from the parents: depths of all that reach a root,
// and counts of children. It returns how many members had something else. The image is locked.
func (t *Tx) RecountTree(image uuid.UUID) (int, error) {
	if err := t.lockedImage(image); err != nil {
		return 0, err
	}
	n, err := t.affected(`WITH RECURSIVE down AS (
			SELECT host, 0 AS depth FROM tree_members WHERE image_id = $1 AND parent IS NULL
			UNION ALL SELECT m.host, down.depth + 1 FROM tree_members m JOIN down ON m.parent = down.host WHERE m.image_id = $1),
		counts AS (SELECT parent AS host, count(*) AS children FROM tree_members WHERE image_id = $1 AND parent IS NOT NULL GROUP BY parent)
		UPDATE tree_members m SET depth = COALESCE(d.depth, o.depth), children = COALESCE(c.children, 0), updated_at = now()
		FROM tree_members o LEFT JOIN down d ON d.host = o.host LEFT JOIN counts c ON c.host = o.host
		WHERE o.image_id = $1 AND m.image_id = $1 AND m.host = o.host
			AND (o.depth, o.children) <> (COALESCE(d.depth, o.depth), COALESCE(c.children, 0))`, image)
	if err != nil {
		return 0, fmt.Errorf("tree of image %s: %w", image, err)
	}
	return int(n), nil
}

// PassingOf reads what is done to one volume, snapshot or backup, whatever its status: the rows that it
// depends on are locked by the caller, or it is read once more.
func (t *Tx) PassingOf(kind model.FindingKind, id uuid.UUID) (model.Passing, error) {
	query, ok := map[model.FindingKind]string{
		model.FindVolume: passingVolume + " WHERE v.id = $1", model.FindSnapshot: passingSnapshot + " WHERE s.id = $1",
		model.FindBackup: passingBackup + " WHERE b.id = $1",
	}[kind]
	if !ok {
		return model.Passing{}, fmt.Errorf("a %s is not passing: %w", kind, model.ErrInvalid)
	}
	var ps []model.Passing
	err := t.list(&ps, query, id)
	return one(ps, err, string(kind), id)
}

// ReadTree reads an image and its tree in one snapshot.
func (s *Store) ReadTree(ctx context.Context, image uuid.UUID) (model.Tree, error) {
	var out model.Tree
	snapshot := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.tx(ctx, snapshot, func(t *Tx) error {
		var is []model.Image
		err := t.list(&is, "SELECT "+imageColumns+" FROM images i WHERE i.id = $1", image)
		if out.Image, err = one(is, err, "image", image); err != nil {
			return err
		}
		if out.Members, err = t.Members(image); err != nil {
			return err
		}
		out.Nodes = nil
		err = t.list(&out.Nodes, selectNodes+` WHERE n.host IN (SELECT host FROM tree_members WHERE image_id = $1
			UNION SELECT parent FROM tree_members WHERE image_id = $1) ORDER BY n.host`, image)
		if err != nil {
			return err
		}
		return t.get(&out.Imports, "SELECT EXISTS (SELECT 1 FROM jobs WHERE kind = 'import-image' AND subject = $1)", image.String())
	})
	if err != nil {
		return model.Tree{}, fmt.Errorf("tree of image %s: %w", image, err)
	}
	return out, nil
}

// HomesOf are the hosts that a volume, or an image's tree, is on.
func (s *Store) HomesOf(ctx context.Context, volume, image *uuid.UUID) ([]string, error) {
	var hosts []string
	err := s.list(ctx, &hosts, `SELECT home FROM volumes WHERE id = $1 AND home IS NOT NULL
		UNION SELECT host FROM tree_members WHERE image_id = $2 ORDER BY 1`, volume, image)
	if err != nil {
		return nil, fmt.Errorf("homes: %w", err)
	}
	return hosts, nil
}
