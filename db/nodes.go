package db

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

const nodeColumns = `n.host, n.address, n.initiator, n.origin, n.compute, n.availability_zone, n.rack, n.backend, n.enabled,
	n.disabled_reason, n.frozen, n.draining, n.alive, n.last_seen, n.boot_id, n.version, n.generation, n.applied, n.pool_uuid,
	n.pool_total, n.pool_free, n.pool_state, n.image_free, n.cache_driver, n.cache_reason, n.target_helper, n.backups, n.problems,
	COALESCE(tn.next, 1) AS next_thin, n.created_at, n.updated_at`

const selectNodes = "SELECT " + nodeColumns + " FROM nodes n LEFT JOIN thin_numbers tn ON tn.host = n.host"

// Node returns one node.
func (s *Store) Node(ctx context.Context, host string) (model.Node, error) {
	var ns []model.Node
	err := s.list(ctx, &ns, selectNodes+" WHERE n.host = $1", host)
	return one(ns, err, "node", host)
}

// Nodes returns all nodes by host.
func (s *Store) Nodes(ctx context.Context) ([]model.Node, error) {
	var ns []model.Node
	return ns, s.list(ctx, &ns, selectNodes+" ORDER BY n.host")
}

// Nodes returns all nodes by host.
func (t *Tx) Nodes() ([]model.Node, error) {
	var ns []model.Node
	return ns, t.list(&ns, selectNodes+" ORDER BY n.host")
}

// NodesOf returns those of the hosts that are known, by host.
func (t *Tx) NodesOf(hosts ...string) ([]model.Node, error) {
	var ns []model.Node
	return ns, t.list(&ns, selectNodes+" WHERE n.host = ANY($1) ORDER BY n.host", pq.Array(hosts))
}

// LoseNodes marks nodes not seen since the given time as not alive and returns them.
func (s *Store) LoseNodes(ctx context.Context, before time.Time) ([]string, error) {
	var hosts []string
	err := s.list(ctx, &hosts, `WITH lost AS (
			SELECT host FROM nodes WHERE alive AND (last_seen IS NULL OR last_seen < $1) ORDER BY host FOR NO KEY UPDATE)
		UPDATE nodes n SET alive = false, updated_at = now() FROM lost WHERE n.host = lost.host RETURNING n.host`, before)
	if err != nil {
		return nil, fmt.Errorf("lost nodes: %w", err)
	}
	return hosts, nil
}

// SetNodeEnabled lets a node take new volumes and images, or not, and why not.
func (s *Store) SetNodeEnabled(ctx context.Context, host string, enabled bool, reason *string) error {
	if enabled {
		reason = nil
	}
	n, err := s.affected(ctx, "UPDATE nodes SET enabled = $2, disabled_reason = $3, updated_at = now() WHERE host = $1", host, enabled, reason)
	return neededN(n, err, "node", host)
}

// SetNodeFrozen freezes or thaws a node.
func (s *Store) SetNodeFrozen(ctx context.Context, host string, frozen bool) error {
	n, err := s.affected(ctx, "UPDATE nodes SET frozen = $2, updated_at = now() WHERE host = $1", host, frozen)
	return neededN(n, err, "node", host)
}

// SetNodeDraining has a node drain, or not any more. It is disabled as long.
func (s *Store) SetNodeDraining(ctx context.Context, host string, on bool) error {
	n, err := s.affected(ctx, `UPDATE nodes SET draining = $2, enabled = NOT $2, disabled_reason = CASE WHEN $2 THEN 'it drains' END, updated_at = now()
		WHERE host = $1`, host, on)
	return neededN(n, err, "node", host)
}

// ForgetPool lets a node's agent take the pool that it finds, whatever it was before: for
// an operator who has replaced a disk. What was in the old pool is lost with it.
func (s *Store) ForgetPool(ctx context.Context, host string) error {
	return s.Tx(ctx, func(t *Tx) error {
		n, err := t.affected("UPDATE nodes SET pool_uuid = '', pool_state = '', updated_at = now() WHERE host = $1", host)
		_ = t.Bump(host)
		if err := neededN(n, err, "node", host); err != nil {
			return err
		}
		return t.forgetUnmanaged("host = $1", host)
	})
}

// Allocated sums the sizes of volumes (GiB) and counts them by the host that they are shown on.
func (s *Store) Allocated(ctx context.Context) (map[string]model.Allocation, error) {
	var rows []struct {
		Home  string `db:"home"`
		Count int    `db:"count"`
		GiB   int64  `db:"gib"`
	}
	err := s.list(ctx, &rows, `SELECT COALESCE(home, placed) AS home, count(*) AS count, sum(size_gib) AS gib FROM volumes
		WHERE COALESCE(home, placed) IS NOT NULL GROUP BY 1`)
	if err != nil {
		return nil, fmt.Errorf("allocated: %w", err)
	}
	out := make(map[string]model.Allocation, len(rows))
	for _, r := range rows {
		out[r.Home] = model.Allocation{Volumes: r.Count, GiB: r.GiB}
	}
	return out, nil
}

// SharesOf tells what each project has on a node, ordered by project.
func (s *Store) SharesOf(ctx context.Context, host string) ([]model.Share, error) {
	var out []model.Share
	err := s.list(ctx, &out, `SELECT v.project_id, count(*) AS volumes, sum(v.size_gib) AS gib,
			COALESCE(sum(t.n), 0)::bigint AS snapshots, COALESCE(sum(t.gib), 0)::bigint AS snapshot_gib
		FROM volumes v LEFT JOIN LATERAL (SELECT count(*) AS n, sum(s.size_gib) AS gib FROM snapshots s WHERE s.volume_id = v.id) t ON true
		WHERE v.home = $1 GROUP BY v.project_id ORDER BY v.project_id`, host)
	if err != nil {
		return nil, fmt.Errorf("shares of %s: %w", host, err)
	}
	return out, nil
}

// NodeState reads in one snapshot all that the document for a host is computed from.
func (s *Store) NodeState(ctx context.Context, host string) (model.NodeState, error) {
	var st model.NodeState
	snapshot := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.tx(ctx, snapshot, func(t *Tx) error {
		var err error
		st, err = t.nodeState(host)
		return err
	})
	if err != nil {
		return model.NodeState{}, fmt.Errorf("state of node %s: %w", host, err)
	}
	return st, nil
}

func (t *Tx) nodeState(host string) (model.NodeState, error) {
	st := model.NodeState{
		Images: map[uuid.UUID]model.Image{}, Parents: map[uuid.UUID]model.Node{},
		Fallbacks: map[uuid.UUID]model.Node{}, Children: map[uuid.UUID][]model.ChildMember{},
	}
	if err := t.list(&st.Members, "SELECT "+memberColumns+" FROM tree_members m WHERE m.host = $1 ORDER BY m.image_id", host); err != nil {
		return st, err
	}
	var images []model.Image
	if err := t.list(&images, "SELECT "+imageColumns+" FROM images i JOIN tree_members m ON m.image_id = i.id WHERE m.host = $1", host); err != nil {
		return st, err
	}
	for _, i := range images {
		st.Images[i.ID] = i
	}
	var children []model.Member
	if err := t.list(&children, "SELECT "+memberColumns+" FROM tree_members m WHERE m.parent = $1 OR m.fallback = $1 OR m.observed_parent = $1 ORDER BY m.image_id, m.host", host); err != nil {
		return st, err
	}
	if err := t.neighbours(host, &st, children); err != nil {
		return st, err
	}
	var err error
	var vs []model.Volume
	if err = t.list(&vs, "SELECT "+volumeColumns+volumeFrom+" WHERE v.home = $1 ORDER BY v.id", host); err != nil {
		return st, err
	}
	st.Volumes = vs
	if err = t.list(&st.Snapshots, "SELECT "+snapshotColumns+" FROM snapshots s WHERE s.home = $1 ORDER BY s.id", host); err != nil {
		return st, err
	}
	if err = t.list(&st.Dropped, "SELECT id, host, thin_id FROM dropped_thins WHERE host = $1 ORDER BY id", host); err != nil {
		return st, err
	}
	if err = t.list(&st.Tasks, "SELECT "+taskColumns+" FROM tasks k WHERE k.host = $1 AND k.status <> 'queued' ORDER BY k.id", host); err != nil {
		return st, err
	}
	return st, attach(t.ctx, t.q, vs, " AND a.connector IS NOT NULL")
}

// neighbours fills the node itself and the nodes its members name.
func (t *Tx) neighbours(host string, st *model.NodeState, children []model.Member) error {
	hosts := []string{host}
	for _, m := range st.Members {
		for _, h := range []*string{m.Parent, m.Fallback} {
			if h != nil {
				hosts = append(hosts, *h)
			}
		}
	}
	for _, c := range children {
		hosts = append(hosts, c.Host)
	}
	slices.Sort(hosts)
	var ns []model.Node
	if err := t.list(&ns, selectNodes+" WHERE n.host = ANY($1)", pq.Array(slices.Compact(hosts))); err != nil {
		return err
	}
	nodes := make(map[string]model.Node, len(ns))
	for _, n := range ns {
		nodes[n.Host] = n
	}
	var ok bool
	if st.Node, ok = nodes[host]; !ok {
		return model.ErrNotFound
	}
	for _, m := range st.Members {
		if m.Parent != nil {
			st.Parents[m.ImageID] = nodes[*m.Parent]
		}
		if m.Fallback != nil {
			if n, ok := nodes[*m.Fallback]; ok {
				st.Fallbacks[m.ImageID] = n
			}
		}
	}
	for _, c := range children {
		st.Children[c.ImageID] = append(st.Children[c.ImageID], model.ChildMember{Member: c, Node: nodes[c.Host]})
	}
	return nil
}
