package v3test

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const classDefault = "default"

// typeName of a volume or snapshot, "" if it has none.
func (s *Store) typeName(id *uuid.UUID) string {
	for i := range s.TypeRows {
		if id != nil && s.TypeRows[i].ID == *id {
			return s.TypeRows[i].Name
		}
	}
	return ""
}

// usage of a project by resource.
func (s *Store) usage(project string) map[string]int64 {
	used := map[string]int64{}
	count := func(c model.Claim, kind *uuid.UUID) {
		for r, n := range c.OfType(s.typeName(kind)) {
			if r != model.QuotaPerVolume {
				used[r] += n
			}
		}
	}
	for _, v := range s.VolumeRows {
		if v.ProjectID == project {
			count(model.VolumeClaim(v.SizeGiB), v.VolumeTypeID)
		}
	}
	for i := range s.GroupRows {
		if s.GroupRows[i].ProjectID == project {
			count(model.GroupClaim(), nil)
		}
	}
	for _, sn := range s.SnapshotRows {
		if sn.ProjectID == project {
			count(model.SnapshotClaim(sn.SizeGiB), sn.VolumeTypeID)
		}
	}
	return used
}

func (s *Store) limits(over ...map[string]int64) map[string]int64 {
	out := maps.Clone(s.LimitRows)
	for _, m := range append([]map[string]int64{s.ClassRows[classDefault]}, over...) {
		maps.Copy(out, m)
	}
	return out
}

// fits is a *[model.QuotaError] if a project may not have so many volumes more.
func (s *Store) fits(project string, vols ...model.Volume) error {
	var claims []model.Claim
	for i := range vols {
		claims = append(claims, model.VolumeClaim(vols[i].SizeGiB).OfType(s.typeName(vols[i].VolumeTypeID)))
	}
	return model.CheckQuota(s.limits(s.QuotaRows[project]), s.usage(project), claims)
}

// Usage implements v3.Store.
func (s *Store) Usage(_ context.Context, projectID string) (map[string]int64, error) {
	unlock, err := s.lock()
	defer unlock()
	return s.usage(projectID), err
}

// Limits implements v3.Store.
func (s *Store) Limits(_ context.Context, projectID string) (map[string]int64, error) {
	unlock, err := s.lock()
	defer unlock()
	return s.limits(s.QuotaRows[projectID]), err
}

// SetQuotas implements v3.Store.
func (s *Store) SetQuotas(_ context.Context, projectID string, limits map[string]int64) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	used := s.usage(projectID)
	for _, r := range slices.Sorted(maps.Keys(limits)) {
		if _, own := s.QuotaRows[projectID][r]; own && limits[r] >= 0 && limits[r] < used[r] {
			return &model.BelowUsage{Resource: r, Limit: limits[r], Used: used[r]}
		}
	}
	s.QuotaRows[projectID] = merged(s.QuotaRows[projectID], limits)
	return nil
}

// DeleteQuotas implements v3.Store.
func (s *Store) DeleteQuotas(_ context.Context, projectID string) error {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		delete(s.QuotaRows, projectID)
	}
	return err
}

// ClassLimits implements v3.Store.
func (s *Store) ClassLimits(_ context.Context, class string) (map[string]int64, error) {
	unlock, err := s.lock()
	defer unlock()
	return s.limits(s.ClassRows[class]), err
}

// SetClassLimits implements v3.Store.
func (s *Store) SetClassLimits(_ context.Context, class string, limits map[string]int64) error {
	unlock, err := s.lock()
	defer unlock()
	if err == nil {
		s.ClassRows[class] = merged(s.ClassRows[class], limits)
	}
	return err
}

func merged(a, b map[string]int64) map[string]int64 {
	out := map[string]int64{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}
