package v3

import (
	"maps"
	"net/http"
	"slices"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) quotaRoutes() []route {
	refuse := func(what, rule string) handler {
		return func(c *call) error {
			if err := c.allow(rule); err != nil {
				return err
			}
			return unsupported(what)
		}
	}
	return []route{
		{method: "GET", path: "/limits", h: a.limits},
		{method: "GET", path: "/os-quota-sets/{id}", h: a.showQuotas},
		{method: "GET", path: "/os-quota-sets/{id}/defaults", h: a.defaultQuotas},
		{method: "PUT", path: "/os-quota-sets/{id}", h: refuse("Changing quotas", "volume_extension:quotas:update")},
		{method: "DELETE", path: "/os-quota-sets/{id}", h: refuse("Changing quotas", "volume_extension:quotas:delete")},
		{method: "GET", path: "/os-quota-class-sets/{id}", h: a.quotaClass},
		{method: "PUT", path: "/os-quota-class-sets/{id}", h: refuse("Changing quotas", "volume_extension:quota_classes:update")},
	}
}

// quotaKeys are shown even if the store knows nothing of them, with Cinder's defaults.
func quotaKeys() map[string]int64 {
	return map[string]int64{
		"volumes": 10, "per_volume_gigabytes": -1, "snapshots": 10, "gigabytes": 1000,
		"backups": 10, "backup_gigabytes": 1000, "groups": 10,
	}
}

// quotasOf a project, "" for the defaults: all keys, and three for each volume type.
func (a *API) quotasOf(c *call, project string) (map[string]int64, error) {
	limits, err := a.Store.Limits(c.ctx(), project)
	if err != nil {
		return nil, err
	}
	out := quotaKeys()
	types, err := a.allTypes(c)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		for _, k := range []string{"volumes_", "gigabytes_", "snapshots_"} {
			out[k+t.Name] = -1
		}
	}
	maps.Copy(out, limits)
	return out, nil
}

// quotaFault is Cinder's answer (cinder/exception.py) to volumes beyond a quota.
func quotaFault(e *model.QuotaError) *fault.Fault {
	over := func(format string, args ...any) *fault.Fault {
		return fault.New(http.StatusRequestEntityTooLarge, format, args...)
	}
	switch e.Resource {
	case "per_volume_gigabytes":
		return over("VolumeSizeExceedsLimit: Requested volume size %dG is larger than maximum allowed limit %dG.", e.Requested, e.Limit)
	case "gigabytes":
		return over("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. "+
			"Requested %dG, quota is %dG and %dG has been consumed.", e.Requested, e.Limit, e.Used)
	}
	return over("VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota '%s'.", e.Limit, e.Resource)
}

func (a *API) limits(c *call) error {
	project := c.id.ProjectID
	if c.mv >= 39 && c.id.Admin {
		q := c.r.URL.Query()
		for _, k := range []string{"tenant_id", "project_id"} {
			if p := q.Get(k); p != "" {
				project = p
			}
		}
	}
	if err := c.allowOn("limits_extension:used_limits", project); err != nil {
		return err
	}
	limits, err := a.quotasOf(c, project)
	if err != nil {
		return err
	}
	used, err := a.Store.Usage(c.ctx(), project)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"limits": view.Object{"rate": []any{}, "absolute": view.Object{
		"maxTotalVolumes": limits["volumes"], "maxTotalSnapshots": limits["snapshots"],
		"maxTotalVolumeGigabytes": limits["gigabytes"], "maxTotalBackups": limits["backups"],
		"maxTotalBackupGigabytes": limits["backup_gigabytes"],
		"totalVolumesUsed":        used["volumes"], "totalGigabytesUsed": used["gigabytes"],
		"totalSnapshotsUsed": used["snapshots"], "totalBackupsUsed": used["backups"],
		"totalBackupGigabytesUsed": used["backup_gigabytes"],
	}}})
}

func (a *API) showQuotas(c *call) error {
	project := c.vars["id"]
	if err := policy.Check(c.id, "volume_extension:quotas:show", policy.Target{ProjectID: project}); err != nil {
		return err
	}
	usage := false
	if s := c.r.URL.Query().Get("usage"); s != "" {
		var ok bool
		if usage, ok = schema.Truth(s); !ok {
			return fault.InvalidInput("Invalid value '%s' for usage", s)
		}
	}
	limits, err := a.quotasOf(c, project)
	if err != nil {
		return err
	}
	set := view.Object{"id": project}
	for k, v := range limits {
		set[k] = v
	}
	if usage {
		used, err := a.Store.Usage(c.ctx(), project)
		if err != nil {
			return err
		}
		for k, v := range limits {
			set[k] = view.Object{"limit": v, "in_use": used[k], "reserved": 0}
		}
	}
	return c.json(http.StatusOK, view.Object{"quota_set": set})
}

func (a *API) defaultQuotas(c *call) error {
	if err := policy.Check(c.id, "volume_extension:quotas:show", policy.Target{ProjectID: c.vars["id"]}); err != nil {
		return err
	}
	return a.quotaDefaults(c, "quota_set")
}

func (a *API) quotaClass(c *call) error {
	if err := c.allow("volume_extension:quota_classes:get"); err != nil {
		return err
	}
	return a.quotaDefaults(c, "quota_class_set")
}

func (a *API) quotaDefaults(c *call, key string) error {
	limits, err := a.quotasOf(c, "")
	if err != nil {
		return err
	}
	set := view.Object{"id": c.vars["id"]}
	for k, v := range limits {
		set[k] = v
	}
	return c.json(http.StatusOK, view.Object{key: set})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
