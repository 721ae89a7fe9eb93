package v3

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) quotaRoutes() []route {
	return []route{
		{method: "GET", path: "/limits", h: a.limits},
		{method: "GET", path: "/os-quota-sets/{id}", h: a.showQuotas},
		{method: "GET", path: "/os-quota-sets/{id}/defaults", h: a.defaultQuotas},
		{method: "PUT", path: "/os-quota-sets/{id}", h: a.updateQuotas},
		{method: "DELETE", path: "/os-quota-sets/{id}", h: a.deleteQuotas},
		{method: "GET", path: "/os-quota-class-sets/{id}", h: a.showQuotaClass},
		{method: "PUT", path: "/os-quota-class-sets/{id}", h: a.updateQuotaClass},
	}
}

// quotaKeys are the resources that there are, with the limits that they have if nobody has
// set one: Cinder's, and three for each volume type, whether the caller may see it or not.
func (a *API) quotaKeys(c *call) (map[string]int64, error) {
	out := model.CinderQuotas()
	types, err := a.Store.Types(c.ctx(), model.ListQuery{}, nil)
	if err != nil {
		return nil, err
	}
	for i := range types {
		for _, r := range model.TypeQuotas() {
			out[model.TypeQuota(r, types[i].Name)] = -1
		}
	}
	return out, nil
}

// quotaSet is what a set looks like: all keys with these limits.
func (a *API) quotaSet(c *call, limits map[string]int64, err error) (view.Object, error) {
	if err != nil {
		return nil, err
	}
	keys, err := a.quotaKeys(c)
	if err != nil {
		return nil, err
	}
	set := view.Object{}
	for k, v := range keys {
		if l, ok := limits[k]; ok {
			v = l
		}
		set[k] = v
	}
	return set, nil
}

// projectQuotas is a project's set, "" for the defaults.
func (a *API) projectQuotas(c *call, project string) (view.Object, error) {
	limits, err := a.Store.Limits(c.ctx(), project)
	return a.quotaSet(c, limits, err)
}

// quotaFault is Cinder's answer (cinder/exception.py) to what is beyond a quota.
func quotaFault(e *model.QuotaError) *fault.Fault {
	over := func(format string, args ...any) *fault.Fault {
		return fault.New(http.StatusRequestEntityTooLarge, format, args...)
	}
	of := func(resource string) bool {
		return e.Resource == resource || strings.HasPrefix(e.Resource, model.TypeQuota(resource, ""))
	}
	switch {
	case e.Resource == model.QuotaPerVolume:
		return over("VolumeSizeExceedsLimit: Requested volume size %dG is larger than maximum allowed limit %dG.", e.Requested, e.Limit)
	case e.Resource == model.QuotaBackupsSizes:
		return over("VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. "+
			"Requested %dG, quota is %dG and %dG has been consumed.", e.Requested, e.Limit, e.Used)
	case e.Resource == model.QuotaBackups:
		return over("BackupLimitExceeded: Maximum number of backups allowed (%d) exceeded", e.Limit)
	case e.Resource == model.QuotaGroups:
		return over("GroupLimitExceeded: Maximum number of groups allowed (%d) exceeded", e.Limit)
	case of(model.QuotaGigabytes):
		return over("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed %s quota. "+
			"Requested %dG, quota is %dG and %dG has been consumed.", e.Resource, e.Requested, e.Limit, e.Used)
	case of(model.QuotaSnapshots):
		return over("SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded", e.Limit)
	}
	return over("VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota '%s'.", e.Limit, e.Resource)
}

// limits: administrators may ask for another project from 3.39 on; from others, and before,
// the parameters are passed over.
func (a *API) limits(c *call) error {
	project := c.id.ProjectID
	if c.mv >= 39 && c.id.Admin {
		q := c.r.URL.Query()
		for _, k := range []string{"tenant_id", "project_id"} {
			if q.Has(k) {
				project = last(q[k])
			}
		}
	}
	limits, err := a.Store.Limits(c.ctx(), project)
	if err != nil {
		return err
	}
	absolute := view.Object{
		"maxTotalVolumes": limits[model.QuotaVolumes], "maxTotalSnapshots": limits[model.QuotaSnapshots],
		"maxTotalVolumeGigabytes": limits[model.QuotaGigabytes], "maxTotalBackups": limits[model.QuotaBackups],
		"maxTotalBackupGigabytes": limits[model.QuotaBackupsSizes],
	}
	if c.allow("limits_extension:used_limits") == nil { // who may not see it does without
		used, err := a.Store.Usage(c.ctx(), project)
		if err != nil {
			return err
		}
		maps.Copy(absolute, view.Object{
			"totalVolumesUsed": used[model.QuotaVolumes], "totalGigabytesUsed": used[model.QuotaGigabytes],
			"totalSnapshotsUsed": used[model.QuotaSnapshots], "totalBackupsUsed": used[model.QuotaBackups],
			"totalBackupGigabytesUsed": used[model.QuotaBackupsSizes],
		})
	}
	return c.json(http.StatusOK, view.Object{"limits": view.Object{"rate": []any{}, "absolute": absolute}})
}

func last(values []string) string { return values[len(values)-1] }

func (a *API) showQuotas(c *call) error {
	project := c.vars["id"]
	if err := c.allowOn("volume_extension:quotas:show", project); err != nil {
		return err
	}
	usage := false
	if s, ok := c.r.URL.Query()["usage"]; ok {
		if usage, ok = schema.Truth(last(s)); !ok {
			return fault.BadRequest("Value '%s' for 'usage' is not a boolean.", last(s))
		}
	}
	set, err := a.projectQuotas(c, project)
	if err != nil {
		return err
	}
	if usage {
		used, err := a.Store.Usage(c.ctx(), project)
		if err != nil {
			return err
		}
		for k, limit := range set {
			// Nothing is reserved: what counts does so in the transaction that makes it.
			set[k] = view.Object{"limit": limit, "in_use": used[k], "reserved": 0}
		}
	}
	return c.quotas("quota_set", set, project)
}

func (a *API) defaultQuotas(c *call) error {
	if err := c.allowOn("volume_extension:quotas:show", c.vars["id"]); err != nil {
		return err
	}
	set, err := a.projectQuotas(c, "")
	if err != nil {
		return err
	}
	return c.quotas("quota_set", set, c.vars["id"])
}

// quotas answers with a set; id "" leaves it out, as answers to changes do.
func (c *call) quotas(key string, set view.Object, id string) error {
	if id != "" {
		set["id"] = id
	}
	return c.json(http.StatusOK, view.Object{key: set})
}

// updateQuotas takes any project: Cinder does not ask Keystone whether there is one.
func (a *API) updateQuotas(c *call) error {
	limits, err := a.wantedLimits(c, "quota_set", quotaLimits)
	if err != nil {
		return err
	}
	project := c.vars["id"]
	if err := c.allowOn("volume_extension:quotas:update", project); err != nil {
		return err
	}
	if err := quotaName("quota_set_name", project); err != nil {
		return err
	}
	if err := a.Store.SetQuotas(c.ctx(), project, limits); err != nil {
		var below *model.BelowUsage
		if errors.As(err, &below) {
			return fault.BadRequest("%s", below.Error())
		}
		return err
	}
	set, err := a.projectQuotas(c, project)
	if err != nil {
		return err
	}
	return c.quotas("quota_set", set, "")
}

// wantedLimits reads a body around a set of limits.
func (a *API) wantedLimits(c *call, key string, read func(in *schema.Object, keys map[string]int64) (map[string]int64, error)) (map[string]int64, error) {
	body, err := c.parse()
	if err != nil {
		return nil, err
	}
	in, err := body.Object(key)
	if err != nil {
		return nil, err
	}
	keys, err := a.quotaKeys(c)
	if err != nil {
		return nil, err
	}
	limits, err := read(in, keys)
	if err != nil {
		return nil, err
	}
	return limits, body.Only(key)
}

// quotaLimits reads the limits of a quota set as Cinder does
// (cinder/api/validation/validators.py): tenant_id and id are passed over.
func quotaLimits(in *schema.Object, keys map[string]int64) (map[string]int64, error) {
	if len(in.Keys()) == 0 {
		return nil, in.InvalidSelf("{} does not have enough properties")
	}
	out := map[string]int64{}
	var bad []string
	var text bool
	for _, k := range in.Keys() {
		if k == "tenant_id" || k == "id" {
			continue
		}
		if _, ok := keys[k]; !ok {
			bad = append(bad, k)
			continue
		}
		n, quoted, err := quotaLimit(k, in.Raw(k))
		if err != nil {
			return nil, err
		}
		text = text || quoted && k != model.QuotaPerVolume
		out[k] = n
	}
	if len(bad) > 0 {
		return nil, fault.InvalidInput("Bad key(s) in quota set: %s", strings.Join(bad, ", "))
	}
	if text { // numbers only, which Cinder finds when it compares
		return nil, fault.BadRequest("The server could not comply with the request since it is either malformed or otherwise incorrect.")
	}
	return out, nil
}

// pythonInt is what Python's int() reads of a text.
var pythonInt = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)

// quotaLimit is one limit, -1 to 2^31-1, and whether it stood in quotes.
func quotaLimit(key string, raw json.RawMessage) (n int64, quoted bool, err error) {
	text := strings.TrimSpace(schema.Str(raw))
	quoted = strings.HasPrefix(strings.TrimSpace(string(raw)), `"`)
	if !pythonInt.MatchString(text) {
		return 0, quoted, fault.BadRequest("%s must be an integer", key)
	}
	n, err = strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	switch {
	case n < -1:
		return 0, quoted, fault.BadRequest("%s must be >= -1", key)
	case n > schema.MaxInt || err != nil: // what does not fit into 64 bits comes as the nearest that does
		return 0, quoted, fault.BadRequest("%s must be <= %d", key, schema.MaxInt)
	}
	return n, quoted, nil
}

// quotaName refuses names of projects and classes that are too long.
func quotaName(what, name string) error {
	if n := utf8.RuneCountInString(name); n > 255 {
		return fault.InvalidInput("%s has %d characters, more than 255.", what, n)
	}
	return nil
}

func (a *API) deleteQuotas(c *call) error {
	project := c.vars["id"]
	if err := c.allowOn("volume_extension:quotas:delete", project); err != nil {
		return err
	}
	if err := a.Store.DeleteQuotas(c.ctx(), project); err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

func (a *API) showQuotaClass(c *call) error {
	if err := c.allow("volume_extension:quota_classes:get"); err != nil {
		return err
	}
	limits, err := a.Store.ClassLimits(c.ctx(), c.vars["id"])
	set, err := a.quotaSet(c, limits, err)
	if err != nil {
		return err
	}
	return c.quotas("quota_class_set", set, c.vars["id"])
}

func (a *API) updateQuotaClass(c *call) error {
	limits, err := a.wantedLimits(c, "quota_class_set", classLimits)
	if err != nil {
		return err
	}
	if err := c.allow("volume_extension:quota_classes:update"); err != nil {
		return err
	}
	class := c.vars["id"]
	if err := quotaName("quota_class_name", class); err != nil {
		return err
	}
	if err := a.Store.SetClassLimits(c.ctx(), class, limits); err != nil {
		return err
	}
	all, err := a.Store.ClassLimits(c.ctx(), class)
	set, err := a.quotaSet(c, all, err)
	if err != nil {
		return err
	}
	return c.quotas("quota_class_set", set, "")
}

// classLimits reads the limits of a quota class set, which Cinder checks by another schema
// than a quota set's: digits in quotes are taken, but no -1.
func classLimits(in *schema.Object, keys map[string]int64) (map[string]int64, error) {
	var bad []string
	for _, k := range in.Keys() {
		if _, ok := keys[k]; !ok {
			bad = append(bad, k)
		}
	}
	if len(bad) > 0 {
		return nil, fault.InvalidInput("Bad key(s) in quota class set: %s", strings.Join(bad, ", "))
	}
	out := map[string]int64{}
	for _, k := range in.Keys() {
		raw := in.Raw(k)
		text, quoted := schema.Str(raw), strings.HasPrefix(strings.TrimSpace(string(raw)), `"`)
		switch {
		case quoted && strings.Trim(text, "0123456789") != "":
			return nil, in.Invalid(k, "%s does not match '^[0-9]*$'", schema.Repr(raw))
		case quoted && text == "":
			return nil, in.Invalid(k, "'' is too short")
		}
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return nil, in.Invalid(k, "%s is not of type 'integer', 'string'", schema.Repr(raw))
		case n < -1:
			return nil, in.Invalid(k, "%s is less than the minimum of -1", text)
		case n > schema.MaxInt:
			return nil, in.Invalid(k, "%s is greater than the maximum of %d", text, schema.MaxInt)
		}
		out[k] = n
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
