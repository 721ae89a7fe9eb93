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

// classDefault is the quota class that counts for every project.
const classDefault = "default"

const (
	// limitsQuery: later rows go over earlier ones.
	limitsQuery = `SELECT resource, hard_limit FROM (
			SELECT 0 AS rank, resource, hard_limit FROM quota_classes WHERE class_name = 'default'
			UNION ALL SELECT 1, resource, hard_limit FROM quotas WHERE project_id = $1) q ORDER BY rank`
	// lockProject is held until the transaction ends.
	lockProject = "SELECT pg_advisory_xact_lock(hashtextextended('quota of project ' || $1, 0))"
	// quotaQuery is all that a check needs, in one row: the project's usage by volume type,
	// its limits, and the names of the types that are asked for.
	quotaQuery = `SELECT
		(SELECT jsonb_agg(u) FROM (
			SELECT t.name, sum(c.volumes) AS volumes, sum(c.snapshots) AS snapshots, sum(c.gib) AS gigabytes, sum(c.backups) AS backups,
				sum(c.backup_gib) AS backup_gigabytes, sum(c.groups) AS groups, count(*) AS parts
			FROM usage_changes c LEFT JOIN volume_types t ON t.id = c.volume_type_id WHERE c.project_id = $1 GROUP BY c.volume_type_id, t.name) AS u) AS usage,
		(SELECT jsonb_agg(jsonb_build_object('resource', resource, 'limit', hard_limit)) FROM (` + limitsQuery + `) AS l) AS limits,
		(SELECT jsonb_object_agg(id, name) FROM volume_types WHERE id = ANY($2::uuid[])) AS names`
	// addUp makes one row for each volume type of a project's changes of usage; whoever runs
	// it holds the project's lock. Rows that others have not committed yet are neither seen
	// nor lost.
	addUp = `WITH gone AS (DELETE FROM usage_changes WHERE project_id = $1 RETURNING *)
		INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib, backups, backup_gib, groups)
		SELECT $1, volume_type_id, sum(volumes), sum(snapshots), sum(gib), sum(backups), sum(backup_gib), sum(groups) FROM gone GROUP BY volume_type_id
		HAVING (sum(volumes), sum(snapshots), sum(gib), sum(backups), sum(backup_gib), sum(groups)) <> (0, 0, 0, 0, 0, 0)`
	// maxParts is how many changes of a project, beside a few for each volume type, are left
	// for its checks to add up.
	maxParts = 64
)

// usageRow is a project's usage of one volume type, or of none.
type usageRow struct {
	Name            *string `json:"name"`
	Volumes         int64   `json:"volumes"`
	Snapshots       int64   `json:"snapshots"`
	Gigabytes       int64   `json:"gigabytes"`
	Backups         int64   `json:"backups"`
	BackupGigabytes int64   `json:"backup_gigabytes"`
	Groups          int64   `json:"groups"`
	Parts           int     `json:"parts"` // changes that these are the sums of
}

type limitRow struct {
	Resource string `db:"resource" json:"resource"`
	Limit    int64  `db:"hard_limit" json:"limit"`
}

// quotaRow is the answer to quotaQuery.
type quotaRow struct {
	Usage  model.JSON `db:"usage"`
	Limits model.JSON `db:"limits"`
	Names  model.JSON `db:"names"`
}

// quotaState is what a check looks at.
type quotaState struct {
	used, limits map[string]int64
	names        map[uuid.UUID]string // of volume types
	parts, types int
}

func (s *Store) quotaState(q quotaRow) (quotaState, error) {
	var usage []usageRow
	var limits []limitRow
	st := quotaState{used: map[string]int64{}, names: map[uuid.UUID]string{}}
	for _, x := range []struct {
		from model.JSON
		to   any
	}{{q.Usage, &usage}, {q.Limits, &limits}, {q.Names, &st.names}} {
		if len(x.from) == 0 {
			continue
		}
		if err := json.Unmarshal(x.from, x.to); err != nil {
			return st, fmt.Errorf("quota: %w", err)
		}
	}
	for _, u := range usage {
		st.parts += u.Parts
		c := model.Claim{
			model.QuotaVolumes: u.Volumes, model.QuotaSnapshots: u.Snapshots, model.QuotaGigabytes: u.Gigabytes,
			model.QuotaBackups: u.Backups, model.QuotaBackupsSizes: u.BackupGigabytes, model.QuotaGroups: u.Groups,
		}
		name := ""
		if u.Name != nil {
			name = *u.Name
		}
		for r, n := range c.OfType(name) {
			st.used[r] += n
		}
	}
	st.limits, st.types = s.limits(limits), len(usage)
	return st, nil
}

func (s *Store) limits(rows []limitRow) map[string]int64 {
	out := model.CinderQuotas()
	maps.Copy(out, s.opts.QuotaDefaults)
	for _, r := range rows {
		out[r.Resource] = r.Limit
	}
	return out
}

// Usage of a project by resource, as it is now; gigabytes are those of volumes and snapshots.
func (s *Store) Usage(ctx context.Context, projectID string) (map[string]int64, error) {
	var qs []quotaRow
	err := s.list(ctx, &qs, quotaQuery, projectID, ids(nil))
	q, err := one(qs, err, "usage of project", projectID)
	if err != nil {
		return nil, err
	}
	st, err := s.quotaState(q)
	return st.used, err
}

// Limits of a project: its quotas over those of class default, over the options' defaults,
// over Cinder's. -1 is none. Project "" has the defaults.
func (s *Store) Limits(ctx context.Context, projectID string) (map[string]int64, error) {
	var rows []limitRow
	if err := s.list(ctx, &rows, limitsQuery, projectID); err != nil {
		return nil, fmt.Errorf("limits of project %s: %w", projectID, err)
	}
	return s.limits(rows), nil
}

// SetQuotas gives a project limits of its own by resource, -1 for none. One below what the
// project has already is a *[model.BelowUsage], and nothing is written; as in Cinder, this is
// looked at only where the project had a limit of its own before.
func (s *Store) SetQuotas(ctx context.Context, projectID string, limits map[string]int64) error {
	return s.Tx(ctx, func(t *Tx) error {
		if err := t.lockProject(projectID); err != nil {
			return err
		}
		st, err := s.readQuota(t, projectID, nil)
		if err != nil {
			return err
		}
		var own []string
		if err := t.list(&own, "SELECT resource FROM quotas WHERE project_id = $1", projectID); err != nil {
			return fmt.Errorf("quotas of project %s: %w", projectID, err)
		}
		for _, r := range slices.Sorted(maps.Keys(limits)) {
			if l := limits[r]; l >= 0 && l < st.used[r] && r != model.QuotaPerVolume && slices.Contains(own, r) {
				return &model.BelowUsage{Resource: r, Limit: l, Used: st.used[r]}
			}
		}
		return t.putLimits("INSERT INTO quotas (project_id, resource, hard_limit)", "(project_id, resource)", projectID, limits)
	})
}

// DeleteQuotas takes a project's own limits away. One that has none is no error.
func (s *Store) DeleteQuotas(ctx context.Context, projectID string) error {
	if _, err := s.affected(ctx, "DELETE FROM quotas WHERE project_id = $1", projectID); err != nil {
		return fmt.Errorf("quotas of project %s: %w", projectID, err)
	}
	return nil
}

// ClassLimits of a quota class: its own over those of class default and the defaults.
func (s *Store) ClassLimits(ctx context.Context, class string) (map[string]int64, error) {
	var rows []limitRow
	err := s.list(ctx, &rows, "SELECT resource, hard_limit FROM quota_classes WHERE class_name IN ($1, $2) ORDER BY class_name = $1", class, classDefault)
	if err != nil {
		return nil, fmt.Errorf("limits of quota class %s: %w", class, err)
	}
	return s.limits(rows), nil
}

// SetClassLimits gives a quota class limits by resource, -1 for none. Those of class default
// count for every project that has none of its own.
func (s *Store) SetClassLimits(ctx context.Context, class string, limits map[string]int64) error {
	return s.Tx(ctx, func(t *Tx) error {
		return t.putLimits("INSERT INTO quota_classes (class_name, resource, hard_limit)", "(class_name, resource)", class, limits)
	})
}

func (t *Tx) putLimits(into, key, of string, limits map[string]int64) error {
	resources := slices.Sorted(maps.Keys(limits))
	values := make([]int64, len(resources))
	for i, r := range resources {
		values[i] = limits[r]
	}
	err := t.exec(into+" SELECT $1, resource, hard_limit FROM unnest($2::text[], $3::bigint[]) AS x (resource, hard_limit) ON CONFLICT "+key+
		" DO UPDATE SET hard_limit = EXCLUDED.hard_limit", of, pq.Array(resources), pq.Array(values))
	if err != nil {
		return fmt.Errorf("limits of %s: %w", of, err)
	}
	return nil
}

// claim is what something new counts, and its volume type.
type claim struct {
	model.Claim

	kind *uuid.UUID
	// retyped: it counts already, but not for this volume type.
	retyped bool
}

// lockProject keeps all others from adding anything to a project until the transaction
// ends. It comes before any other lock.
func (t *Tx) lockProject(project string) error {
	// A statement of its own: those after it see what the last holder has committed.
	if err := t.execPrepared(lockProject, project); err != nil {
		return fmt.Errorf("lock of project %s: %w", project, err)
	}
	return nil
}

func (s *Store) readQuota(t *Tx, project string, types []uuid.UUID) (quotaState, error) {
	var qs []quotaRow
	err := t.selectPrepared(&qs, quotaQuery, project, ids(types))
	q, err := one(qs, err, "quota of project", project)
	if err != nil {
		return quotaState{}, err
	}
	return s.quotaState(q)
}

// reserve returns a *[model.QuotaError] if the project's limits have no room for the
// claims. Until the transaction ends nobody else can add anything to the project, so what
// was counted holds; the rows that count are the transaction's to write, and nothing is left
// behind if it fails.
func (s *Store) reserve(t *Tx, project string, claims ...claim) error {
	if err := t.lockProject(project); err != nil {
		return err
	}
	var types []uuid.UUID
	for _, c := range claims {
		if c.kind != nil && !slices.Contains(types, *c.kind) {
			types = append(types, *c.kind)
		}
	}
	st, err := s.readQuota(t, project, types)
	if err != nil {
		return err
	}
	if st.parts > maxParts+4*st.types {
		if err := t.exec(addUp, project); err != nil {
			return fmt.Errorf("usage of project %s: %w", project, err)
		}
	}
	wanted := make([]model.Claim, len(claims))
	for i, c := range claims {
		name := ""
		if c.kind != nil {
			name = st.names[*c.kind]
		}
		wanted[i] = c.OfType(name)
		if c.retyped {
			maps.DeleteFunc(wanted[i], func(r string, _ int64) bool { _, plain := c.Claim[r]; return plain })
		}
	}
	return model.CheckQuota(st.limits, st.used, wanted)
}

// reserveAll is reserve for several projects.
func (s *Store) reserveAll(t *Tx, of map[string][]claim) error {
	for _, project := range slices.Sorted(maps.Keys(of)) {
		if err := s.reserve(t, project, of[project]...); err != nil {
			return err
		}
	}
	return nil
}

// quota reserves volumes; those that do not count against quotas are passed over.
func (s *Store) quota(t *Tx, vols []model.Volume) error {
	of := map[string][]claim{}
	for i := range vols {
		if v := &vols[i]; v.ConsumesQuota {
			of[v.ProjectID] = append(of[v.ProjectID], claim{Claim: model.VolumeClaim(v.SizeGiB), kind: v.VolumeTypeID})
		}
	}
	return s.reserveAll(t, of)
}

// quotaOfType reserves a volume and its snapshots as such of another type.
func (s *Store) quotaOfType(t *Tx, v model.Volume, kind uuid.UUID) error {
	if err := t.lockProject(v.ProjectID); err != nil { // nobody extends it or takes a snapshot now
		return err
	}
	var sizes []int
	if err := t.list(&sizes, "SELECT size_gib FROM snapshots WHERE volume_id = $1 AND consumes_quota", v.ID); err != nil {
		return fmt.Errorf("snapshots of volume %s: %w", v.ID, err)
	}
	var claims []claim
	if v.ConsumesQuota {
		var size int
		if err := t.get(&size, "SELECT size_gib FROM volumes WHERE id = $1", v.ID); err != nil {
			return fmt.Errorf("volume %s: %w", v.ID, err)
		}
		claims = append(claims, claim{Claim: model.VolumeClaim(size), kind: &kind, retyped: true})
	}
	for _, size := range sizes {
		claims = append(claims, claim{Claim: model.SnapshotClaim(size), kind: &kind, retyped: true})
	}
	return s.reserve(t, v.ProjectID, claims...)
}

// quotaOfSnapshots reserves snapshots, whose sizes and types are those of their volumes.
func (s *Store) quotaOfSnapshots(t *Tx, snaps []model.Snapshot) error {
	of := map[string][]claim{}
	for i := range snaps {
		sn := &snaps[i]
		if err := t.lockProject(sn.ProjectID); err != nil { // or the volume may grow meanwhile
			return err
		}
		var vs []struct {
			Size int        `db:"size_gib"`
			Type *uuid.UUID `db:"volume_type_id"`
		}
		err := t.list(&vs, "SELECT size_gib, volume_type_id FROM volumes WHERE id = $1", sn.VolumeID)
		v, err := one(vs, err, "volume", sn.VolumeID)
		if err != nil {
			return err
		}
		sn.SizeGiB, sn.VolumeTypeID = v.Size, v.Type
		if sn.ConsumesQuota {
			of[sn.ProjectID] = append(of[sn.ProjectID], claim{Claim: model.SnapshotClaim(v.Size), kind: v.Type})
		}
	}
	return s.reserveAll(t, of)
}
