package db

import (
	"context"
	"fmt"
	"maps"
)

// CinderQuotas returns Cinder's own limits (cinder/common/config.py, [DEFAULT] quota_*).
func CinderQuotas() map[string]int64 {
	return map[string]int64{
		"volumes": 10, "snapshots": 10, "gigabytes": 1000, "per_volume_gigabytes": -1,
		"backups": 10, "backup_gigabytes": 1000, "groups": 10,
	}
}

// Usage of a project: volumes, snapshots and gigabytes of both, counted as they are now.
func (s *Store) Usage(ctx context.Context, projectID string) (map[string]int64, error) {
	var u struct {
		Volumes   int64 `db:"volumes"`
		Snapshots int64 `db:"snapshots"`
		GiB       int64 `db:"gib"`
	}
	err := s.get(ctx, &u, `SELECT v.n AS volumes, s.n AS snapshots, v.gib + s.gib AS gib FROM
		(SELECT count(*) AS n, COALESCE(sum(size_gib), 0) AS gib FROM volumes WHERE project_id = $1 AND consumes_quota) v,
		(SELECT count(*) AS n, COALESCE(sum(size_gib), 0) AS gib FROM snapshots WHERE project_id = $1 AND consumes_quota) s`, projectID)
	if err != nil {
		return nil, fmt.Errorf("usage of project %s: %w", projectID, err)
	}
	return map[string]int64{"volumes": u.Volumes, "snapshots": u.Snapshots, "gigabytes": u.GiB}, nil
}

// Limits of a project: its quotas over those of class default, over the options' defaults,
// over Cinder's. -1 is none.
func (s *Store) Limits(ctx context.Context, projectID string) (map[string]int64, error) {
	out := CinderQuotas()
	maps.Copy(out, s.opts.QuotaDefaults)
	var rows []struct {
		Resource string `db:"resource"`
		Limit    int64  `db:"hard_limit"`
	}
	err := s.list(ctx, &rows, `SELECT resource, hard_limit FROM (
			SELECT 0 AS rank, resource, hard_limit FROM quota_classes WHERE class_name = 'default'
			UNION ALL SELECT 1, resource, hard_limit FROM quotas WHERE project_id = $1) q ORDER BY rank`, projectID)
	if err != nil {
		return nil, fmt.Errorf("limits of project %s: %w", projectID, err)
	}
	for _, r := range rows {
		out[r.Resource] = r.Limit
	}
	return out, nil
}
