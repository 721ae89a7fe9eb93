package db

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// CinderQuotas returns Cinder's own limits (cinder/common/config.py, [DEFAULT] quota_*).
func CinderQuotas() map[string]int64 {
	return map[string]int64{
		"volumes": 10, "snapshots": 10, "gigabytes": 1000, "per_volume_gigabytes": -1,
		"backups": 10, "backup_gigabytes": 1000, "groups": 10,
	}
}

const (
	usageQuery = `SELECT v.n AS volumes, s.n AS snapshots, v.gib + s.gib AS gib FROM
		(SELECT count(*) AS n, COALESCE(sum(size_gib), 0) AS gib FROM volumes WHERE project_id = $1 AND consumes_quota) v,
		(SELECT count(*) AS n, COALESCE(sum(size_gib), 0) AS gib FROM snapshots WHERE project_id = $1 AND consumes_quota) s`
	limitsQuery = `SELECT resource, hard_limit FROM (
			SELECT 0 AS rank, resource, hard_limit FROM quota_classes WHERE class_name = 'default'
			UNION ALL SELECT 1, resource, hard_limit FROM quotas WHERE project_id = $1) q ORDER BY rank`
)

type usageRow struct {
	Volumes   int64 `db:"volumes"`
	Snapshots int64 `db:"snapshots"`
	GiB       int64 `db:"gib"`
}

func (u usageRow) usage() map[string]int64 {
	return map[string]int64{"volumes": u.Volumes, "snapshots": u.Snapshots, "gigabytes": u.GiB}
}

type limitRow struct {
	Resource string `db:"resource"`
	Limit    int64  `db:"hard_limit"`
}

func (s *Store) limits(rows []limitRow) map[string]int64 {
	out := CinderQuotas()
	maps.Copy(out, s.opts.QuotaDefaults)
	for _, r := range rows {
		out[r.Resource] = r.Limit
	}
	return out
}

// Usage of a project: volumes, snapshots and gigabytes of both, counted as they are now.
func (s *Store) Usage(ctx context.Context, projectID string) (map[string]int64, error) {
	var u usageRow
	if err := s.get(ctx, &u, usageQuery, projectID); err != nil {
		return nil, fmt.Errorf("usage of project %s: %w", projectID, err)
	}
	return u.usage(), nil
}

// Limits of a project: its quotas over those of class default, over the options' defaults,
// over Cinder's. -1 is none.
func (s *Store) Limits(ctx context.Context, projectID string) (map[string]int64, error) {
	var rows []limitRow
	if err := s.list(ctx, &rows, limitsQuery, projectID); err != nil {
		return nil, fmt.Errorf("limits of project %s: %w", projectID, err)
	}
	return s.limits(rows), nil
}

// quota returns a *[model.QuotaError] if the volumes, which count against their
// projects' quotas, are more than those leave. Until the transaction ends nobody else
// can add any to these projects, so what was counted holds. It comes before any other lock.
func (s *Store) quota(t *Tx, vols []model.Volume) error {
	of := map[string][]model.Volume{}
	for _, v := range vols {
		if v.ConsumesQuota {
			of[v.ProjectID] = append(of[v.ProjectID], v)
		}
	}
	for _, project := range slices.Sorted(maps.Keys(of)) {
		// A statement of its own: those after it see what the last holder has committed.
		if err := t.exec("SELECT pg_advisory_xact_lock(hashtextextended('quota of project ' || $1, 0))", project); err != nil {
			return fmt.Errorf("lock of project %s: %w", project, err)
		}
		var rows []limitRow
		if err := t.list(&rows, limitsQuery, project); err != nil {
			return fmt.Errorf("limits of project %s: %w", project, err)
		}
		var u usageRow
		if err := t.get(&u, usageQuery, project); err != nil {
			return fmt.Errorf("usage of project %s: %w", project, err)
		}
		if err := model.CheckQuota(s.limits(rows), u.usage(), of[project]); err != nil {
			return err
		}
	}
	return nil
}
