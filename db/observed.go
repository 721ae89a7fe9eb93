package db

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

// report is one [model.Observed] on its way into the database, with what it is compared to.
type report struct {
	*Tx
	o       model.Observed
	images  map[string]model.ObservedImage
	volumes map[string]model.ObservedVolume

	isNew   bool
	node    model.Node // as it was
	members []model.Member
	stored  []storedVolume
	snaps   []storedSnapshot
	dropped []uuid.UUID
	tasks   []model.Task
	groups  []uuid.UUID // that volumes of this node are made in
	changes model.Changes
}

type storedVolume struct {
	ID           uuid.UUID          `db:"id"`
	Status       model.VolumeStatus `db:"status"`
	Materialized bool               `db:"materialized"`
	SizeGiB      int64              `db:"size_gib"`
	ThinID       *int64             `db:"thin_id"`
	SourceThin   *int64             `db:"source_thin"`
	GroupID      *uuid.UUID         `db:"group_id"`
}

// madeBy tells whether a report says that the volume's thin device was made: this one, not
// the one that it had before it was reverted.
func (v storedVolume) madeBy(o model.ObservedVolume) bool {
	return o.Materialized && v.ThinID != nil && (o.ThinID == 0 || int64(o.ThinID) == *v.ThinID)
}

type storedSnapshot struct {
	ID           uuid.UUID            `db:"id"`
	Status       model.SnapshotStatus `db:"status"`
	Materialized bool                 `db:"materialized"`
	Group        *uuid.UUID           `db:"group_snapshot_id"`
}

// SaveObserved records a report and tells what changed that somebody has to act upon.
//
// It writes the node's row (made on first sight; alive, last_seen), its members' counters
// and states, its volumes' materialized flags, the progress of imports. PathLost, PathBack, Rooted,
// NodeNew, NodeBack and PoolLost are told once, at the change; Imported, ImportFailed,
// Drained, Left, Deleted, Unmanaged, SnapshotsDeleted, TasksEnded and TasksGone with each report until somebody has acted.
//
// What is gone must be said in so many words: Left and Deleted take an entry with state
// absent in a report on the node's newest document, since the agent that reports on an
// older one may yet bring the thing back. A volume's absence counts only in its own pool.
//
// A node that shows another pool than before keeps the old one's name, which makes its
// agent refuse the new one, until an operator acts ([Store.ForgetPool]); its volumes that had
// data get status error.
func (s *Store) SaveObserved(ctx context.Context, o model.Observed) (model.Changes, error) {
	var out model.Changes
	err := s.Tx(ctx, func(t *Tx) error {
		r := &report{Tx: t, o: o, images: map[string]model.ObservedImage{}, volumes: map[string]model.ObservedVolume{}}
		for _, i := range o.Images {
			r.images[i.ID] = i
		}
		for _, v := range o.Volumes {
			r.volumes[v.ID] = v
		}
		if err := r.save(); err != nil {
			return err
		}
		out = r.changes
		return nil
	})
	if err != nil {
		return model.Changes{}, fmt.Errorf("report of node %s: %w", o.Host, err)
	}
	return out, nil
}

// save in the order of locks: groups, images, volumes, members, node. Reports of one node are
// taken one by one, which the advisory lock sees to.
func (r *report) save() error {
	if err := r.exec("SELECT pg_advisory_xact_lock(hashtextextended('vmthunder report ' || $1, 0))", r.o.Host); err != nil {
		return err
	}
	for _, step := range []func() error{r.read, r.holdGroups, r.saveImports, r.saveVolumes, r.saveCopies, r.saveSnapshots, r.saveTasks, r.saveMembers, r.saveNode} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// read what there is. Rows that a document speaks of are read before the generation: when
// a row says leaving or deleting, the generation read after it counts that already.
func (r *report) read() error {
	err := r.list(&r.members, "SELECT "+memberColumns+" FROM tree_members m WHERE m.host = $1 ORDER BY m.image_id", r.o.Host)
	if err != nil {
		return err
	}
	if err := r.list(&r.stored, "SELECT id, status, materialized, size_gib, thin_id, source_thin, group_id FROM volumes WHERE home = $1 ORDER BY id", r.o.Host); err != nil {
		return err
	}
	if err := r.list(&r.snaps, "SELECT id, status, materialized, group_snapshot_id FROM snapshots WHERE home = $1 ORDER BY id", r.o.Host); err != nil {
		return err
	}
	if err := r.list(&r.dropped, "SELECT id FROM dropped_thins WHERE host = $1 ORDER BY id", r.o.Host); err != nil {
		return err
	}
	if err := r.list(&r.tasks, "SELECT "+taskColumns+" FROM tasks k WHERE k.host = $1 ORDER BY k.id", r.o.Host); err != nil {
		return err
	}
	var nodes []model.Node
	if err := r.list(&nodes, selectNodes+" WHERE n.host = $1", r.o.Host); err != nil {
		return err
	}
	c := &r.changes
	if len(nodes) == 0 {
		r.isNew, c.NodeNew = true, true
		r.node = model.Node{Host: r.o.Host, Generation: 1}
	} else {
		r.node = nodes[0]
		c.NodeBack = !r.node.Alive || r.node.BootID != r.o.BootID
	}
	c.NeedsDocument = r.o.Generation < r.node.Generation
	c.Settled = r.o.Settled
	// Told once: the state that is written says so from then on.
	c.PoolLost = r.foreignPool() && r.node.PoolState != poolForeign
	return nil
}

const poolForeign = "foreign"

func (r *report) foreignPool() bool {
	return r.node.PoolUUID != "" && r.o.Pool.UUID != "" && r.node.PoolUUID != r.o.Pool.UUID
}

// ourPool tells whether the report speaks of the pool that the volumes are in; what is
// not in another, or in none, proves nothing.
func (r *report) ourPool() bool { return r.node.PoolUUID == "" || r.node.PoolUUID == r.o.Pool.UUID }

// current tells whether the report is on the newest document.
func (r *report) current() bool { return r.o.Generation >= r.node.Generation }

// saveImports: roots that fetch an image.
func (r *report) saveImports() error {
	type progress struct {
		ID      uuid.UUID `json:"id"`
		Phase   string    `json:"phase"`
		Done    int64     `json:"done"`
		Total   int64     `json:"total"`
		Virtual int64     `json:"virtual"`
	}
	roots := map[uuid.UUID]model.ObservedImage{}
	var which []uuid.UUID
	for _, m := range r.members {
		if o, ok := r.images[m.ImageID.String()]; ok && m.Role == model.RoleRoot {
			roots[m.ImageID] = o
			which = append(which, m.ImageID)
		}
	}
	if len(roots) == 0 {
		return nil
	}
	var pending []model.Image
	err := r.list(&pending, "SELECT "+imageColumns+" FROM images i WHERE i.id = ANY($1::uuid[]) AND i.status IN ('queued', 'importing') ORDER BY i.id", ids(which))
	if err != nil {
		return err
	}
	var write []progress
	for _, i := range pending {
		o := roots[i.ID]
		switch {
		case o.State == model.DeviceReady && o.DeviceBytes > 0 && i.Status == model.ImageImporting:
			r.changes.Imported = append(r.changes.Imported, i.ID)
		case o.State == model.DeviceError && r.current():
			// An older report may speak of the attempt before.
			if r.changes.ImportFailed == nil {
				r.changes.ImportFailed = map[uuid.UUID]string{}
			}
			r.changes.ImportFailed[i.ID] = o.Error
		}
		p := progress{ID: i.ID, Phase: o.Phase, Done: o.Done, Total: o.Total, Virtual: max(o.VirtualBytes, i.VirtualBytes)}
		if p != (progress{i.ID, i.Phase, i.Done, i.Total, i.VirtualBytes}) {
			write = append(write, p)
		}
	}
	return r.bulk(len(write), `UPDATE images i SET phase = x.phase, done = x.done, total = x.total, virtual_bytes = x.virtual, updated_at = now()
		FROM jsonb_to_recordset($1::jsonb) AS x (id uuid, phase text, done bigint, total bigint, virtual bigint)
		WHERE i.id = x.id AND i.status IN ('queued', 'importing')`, write)
}

// bulk runs one statement for n rows, given as a JSON array.
func (r *report) bulk(n int, query string, rows any, more ...any) error {
	if n == 0 {
		return nil
	}
	b, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	return r.exec(query, append([]any{string(b)}, more...)...)
}

func (r *report) saveVolumes() error {
	type thinOf struct {
		ID   uuid.UUID `json:"id"`
		Thin int64     `json:"thin"`
	}
	var made []thinOf
	var lost []uuid.UUID
	for _, v := range r.stored {
		o, told := r.volumes[v.ID.String()]
		if told && v.madeBy(o) && !v.Materialized && r.ourPool() {
			made = append(made, thinOf{v.ID, *v.ThinID})
		}
		if told && v.Status == model.VolumeDeleting && o.State == model.DeviceAbsent && r.current() && r.ourPool() {
			r.changes.Deleted = append(r.changes.Deleted, v.ID)
		}
		if told && v.Status == model.VolumeUnmanaging && o.State == model.DeviceInactive && r.current() && r.ourPool() {
			r.changes.Unmanaged = append(r.changes.Unmanaged, v.ID)
		}
		if r.changes.PoolLost && v.Materialized && v.Status != model.VolumeDeleting {
			lost = append(lost, v.ID)
		}
	}
	// Not of one that was given another thin device since it was read.
	err := r.bulk(len(made), `UPDATE volumes v SET materialized = true FROM jsonb_to_recordset($1::jsonb) AS x (id uuid, thin bigint)
		WHERE v.id = x.id AND v.thin_id = x.thin AND v.home = $2`, made, r.o.Host)
	if err != nil {
		return err
	}
	if len(lost) == 0 {
		return nil
	}
	var locked []uuid.UUID
	err = r.list(&locked, "SELECT id FROM volumes WHERE id = ANY($1::uuid[]) AND status <> 'deleting' ORDER BY id FOR NO KEY UPDATE", ids(lost))
	if err != nil {
		return err
	}
	return r.failVolumes(msgLost, "The storage pool that holds the volume's data is missing on its host.", locked)
}

// counters of a member, as the node reports them.
type counters struct {
	Image    uuid.UUID `json:"image"`
	Parent   string    `json:"parent"`
	Upstream int64     `json:"upstream"`
	Read     int64     `json:"read"`
	Served   int64     `json:"served"`
	Hits     int64     `json:"hits"`
	Misses   int64     `json:"misses"`
	Made     bool      `json:"made"`
	Error    string    `json:"error"`
}

func (r *report) saveMembers() error {
	var write []counters
	to := map[model.MemberState][]uuid.UUID{}
	for _, m := range r.members {
		o, told := r.images[m.ImageID.String()]
		switch m.State {
		case model.MemberLeaving:
			if told && o.State == model.DeviceAbsent && r.current() {
				r.changes.Left = append(r.changes.Left, m.ImageID)
			}
		case model.MemberDraining:
			if m.Children == 0 && len(o.Children) == 0 {
				r.changes.Drained = append(r.changes.Drained, m.ImageID)
			}
		case model.MemberImporting:
			if o.State == model.DeviceReady && o.DeviceBytes > 0 {
				to[model.MemberActive] = append(to[model.MemberActive], m.ImageID)
			}
		case model.MemberJoining, model.MemberActive, model.MemberPathLost:
			switch {
			case o.State == model.DeviceReady && m.State != model.MemberActive:
				to[model.MemberActive] = append(to[model.MemberActive], m.ImageID)
			case o.State == model.DevicePathLost && m.State != model.MemberPathLost:
				to[model.MemberPathLost] = append(to[model.MemberPathLost], m.ImageID)
			}
		}
		if !told {
			continue
		}
		is := counters{m.ImageID, o.Parent, o.UpstreamBytes, o.ReadBytes, o.ServedBytes, o.CacheHits, o.CacheMisses, o.CacheMade || m.CacheMade, o.Error}
		if old := m.ObservedParent; old != "" && old != o.Parent && !same(&old, m.Parent) && !same(&old, m.Fallback) {
			_ = r.Bump(old) // it served this node until now, and need not any more
		}
		if is != (counters{m.ImageID, m.ObservedParent, m.UpstreamBytes, m.ReadBytes, m.ServedBytes, m.CacheHits, m.CacheMisses, m.CacheMade, m.Error}) {
			write = append(write, is)
		}
	}
	err := r.bulk(len(write), `UPDATE tree_members m SET observed_parent = x.parent, upstream_bytes = x.upstream, read_bytes = x.read,
			served_bytes = x.served, cache_hits = x.hits, cache_misses = x.misses, cache_made = m.cache_made OR x.made, error = x.error
		FROM jsonb_to_recordset($1::jsonb) AS x (image uuid, parent text, upstream bigint, read bigint, served bigint, hits bigint, misses bigint, made boolean, error text)
		WHERE m.image_id = x.image AND m.host = $2`, write, r.o.Host)
	if err != nil {
		return err
	}
	return r.moveMembers(to)
}

func (r *report) moveMembers(to map[model.MemberState][]uuid.UUID) error {
	before := map[uuid.UUID]model.MemberState{}
	for _, m := range r.members {
		before[m.ImageID] = m.State
	}
	var err error
	if to[model.MemberActive], err = r.alike(to[model.MemberActive], before); err != nil {
		return err
	}
	for _, c := range []struct {
		state model.MemberState
		from  []string
	}{
		{model.MemberActive, words(model.MemberJoining, model.MemberImporting, model.MemberPathLost)},
		{model.MemberPathLost, words(model.MemberJoining, model.MemberActive)},
	} {
		if len(to[c.state]) == 0 {
			continue
		}
		moved, err := r.move(change{
			of: memberState, where: "host = ? AND image_id = ANY(?::uuid[])", args: []any{r.o.Host, ids(to[c.state])},
			from: c.from, to: string(c.state),
		})
		if err != nil {
			return err
		}
		images, err := parseIDs(moved)
		if err != nil {
			return err
		}
		slices.SortFunc(images, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range images {
			switch {
			case c.state == model.MemberPathLost:
				r.changes.PathLost = append(r.changes.PathLost, id)
			case before[id] == model.MemberPathLost:
				r.changes.PathBack = append(r.changes.PathBack, id)
			case before[id] == model.MemberImporting:
				r.changes.Rooted = append(r.changes.Rooted, id)
			}
		}
	}
	return nil
}

// alike leaves out images that the node has imported beside another root in another size: what it
// would serve would be another device.
func (r *report) alike(to []uuid.UUID, before map[uuid.UUID]model.MemberState) ([]uuid.UUID, error) {
	var imported []uuid.UUID
	for _, id := range to {
		if before[id] == model.MemberImporting {
			imported = append(imported, id)
		}
	}
	if len(imported) == 0 {
		return to, nil
	}
	var images []model.Image
	if err := r.list(&images, "SELECT "+imageColumns+" FROM images i WHERE i.id = ANY($1::uuid[])", ids(imported)); err != nil {
		return nil, err
	}
	for _, i := range images {
		if o := r.images[i.ID.String()]; o.DeviceBytes != i.DeviceBytes {
			to = slices.DeleteFunc(to, func(id uuid.UUID) bool { return id == i.ID })
		}
	}
	return to, nil
}

// saveNode writes the node's own row, last: others that want its lock wait least.
func (r *report) saveNode() error {
	o, n := r.o, r.node
	n.Address, n.Initiator, n.Origin, n.Compute, n.Rack = o.Address, o.Initiator, o.Origin, o.Compute, o.Rack
	n.AvailabilityZone, n.Backend = o.AvailabilityZone, o.Backend
	def(&n.AvailabilityZone, "nova")
	n.BootID, n.Version = o.BootID, o.Version
	if o.Settled {
		n.Applied = o.Generation
	}
	n.PoolTotal, n.PoolFree, n.PoolState = o.Pool.TotalBytes, o.Pool.FreeBytes, o.Pool.State
	switch {
	case r.foreignPool():
		n.PoolState = poolForeign
	case o.Pool.UUID != "":
		n.PoolUUID = o.Pool.UUID
	}
	n.ImageFree, n.CacheDriver, n.CacheReason, n.TargetHelper = o.ImageFreeBytes, o.CacheDriver, o.CacheReason, o.TargetHelper
	n.Backups = o.Backups
	problems, err := json.Marshal(append(append([]string{}, o.Problems...), unknown(o.Unknown)...))
	if err != nil {
		return fmt.Errorf("problems: %w", err)
	}
	n.Problems = problems
	if len(r.bumps) > 0 { // take the locks of all nodes in order, ours among them
		hosts := append(slices.Collect(maps.Keys(r.bumps)), n.Host)
		if err := r.exec("SELECT 1 FROM nodes WHERE host = ANY($1) ORDER BY host FOR NO KEY UPDATE", pq.Array(hosts)); err != nil {
			return err
		}
	}
	_, err = r.q.NamedExecContext(r.ctx, `INSERT INTO nodes (host, address, initiator, origin, compute, availability_zone, rack, backend,
			alive, last_seen, boot_id, version, applied, pool_uuid, pool_total, pool_free, pool_state, image_free,
			cache_driver, cache_reason, target_helper, backups, problems)
		VALUES (:host, :address, :initiator, :origin, :compute, :availability_zone, :rack, :backend,
			true, now(), :boot_id, :version, :applied, :pool_uuid, :pool_total, :pool_free, :pool_state, :image_free,
			:cache_driver, :cache_reason, :target_helper, :backups, :problems)
		ON CONFLICT (host) DO UPDATE SET address = EXCLUDED.address, initiator = EXCLUDED.initiator, origin = EXCLUDED.origin,
			compute = EXCLUDED.compute, availability_zone = EXCLUDED.availability_zone, rack = EXCLUDED.rack, backend = EXCLUDED.backend, alive = true,
			last_seen = EXCLUDED.last_seen, boot_id = EXCLUDED.boot_id, version = EXCLUDED.version, applied = EXCLUDED.applied,
			pool_uuid = EXCLUDED.pool_uuid, pool_total = EXCLUDED.pool_total, pool_free = EXCLUDED.pool_free,
			pool_state = EXCLUDED.pool_state, image_free = EXCLUDED.image_free, cache_driver = EXCLUDED.cache_driver,
			cache_reason = EXCLUDED.cache_reason, target_helper = EXCLUDED.target_helper, backups = EXCLUDED.backups, problems = EXCLUDED.problems,
			updated_at = now()`, n)
	return translate(r.ctx, err)
}

// unknown things stand among the problems that an operator reads.
func unknown(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "unknown: " + n
	}
	return out
}
