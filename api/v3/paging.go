package v3

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/db/model"
)

// page is the part of a query that says which rows of a list are asked for.
type page struct {
	limit  int // rows; -1: none was asked for
	offset int
	marker string
	sort   []model.SortKey
}

// paging reads limit, offset, marker and the keys of order. Columns are the keys that
// may be sorted by.
func (a *API) paging(q url.Values, columns []string) (page, error) {
	p := page{limit: -1, marker: q.Get("marker")}
	var err error
	if p.limit, err = count(q, "limit", -1); err != nil {
		return p, err
	}
	p.limit = min(p.limit, a.MaxLimit)
	if p.offset, err = count(q, "offset", 0); err != nil {
		return p, err
	}
	p.sort, err = sorting(q, columns)
	return p, err
}

// count is a whole number ≥ 0 in a query.
func count(q url.Values, key string, missing int) (int, error) {
	s := q.Get(key)
	if s == "" && !q.Has(key) {
		return missing, nil
	}
	n, err := strconv.Atoi(s)
	switch {
	case err != nil && key == "offset":
		return 0, fault.BadRequest("offset must be an integer")
	case n < 0 && key == "offset":
		return 0, fault.BadRequest("offset must be >= 0")
	case err != nil:
		return 0, fault.BadRequest("%s param must be an integer", key)
	case n < 0:
		return 0, fault.BadRequest("%s param must be positive", key)
	case n > schema.MaxInt:
		return 0, fault.BadRequest("%s param must be less than %d", key, schema.MaxInt)
	}
	return n, nil
}

// sorting reads sort=key:dir,… or the older pair sort_key and sort_dir.
func sorting(q url.Values, columns []string) ([]model.SortKey, error) {
	var keys []model.SortKey
	old := q.Has("sort_key") || q.Has("sort_dir")
	switch {
	case q.Has("sort") && old:
		return nil, fault.BadRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	case q.Has("sort"):
		for _, part := range strings.Split(q.Get("sort"), ",") {
			column, dir, _ := strings.Cut(strings.TrimSpace(part), ":")
			k, err := sortKey(column, dir, columns)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	case old:
		column := q.Get("sort_key")
		if column == "" {
			column = "created_at"
		}
		dir := q.Get("sort_dir")
		if dir == "" && q.Has("sort_dir") {
			return nil, fault.InvalidInput(badDirection)
		}
		k, err := sortKey(column, dir, columns)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

const badDirection = "Unknown sort direction, must be 'desc' or 'asc'."

func sortKey(column, dir string, columns []string) (model.SortKey, error) {
	column = strings.TrimSpace(column)
	if !slices.Contains(columns, column) {
		return model.SortKey{}, fault.InvalidInput("Invalid sort key")
	}
	if column == "display_name" {
		column = "name"
	}
	switch dir {
	case "", "desc":
		return model.SortKey{Column: column, Desc: true}, nil
	case "asc":
		return model.SortKey{Column: column}, nil
	}
	return model.SortKey{}, fault.InvalidInput(badDirection)
}

// query makes a list query of the page; noun words the 404 for a marker that is no id.
func (p page) query(maxLimit int, missing string) (model.ListQuery, error) {
	q := model.ListQuery{Sort: p.sort, Offset: p.offset, Limit: p.limit}
	if p.limit < 0 {
		q.Limit = maxLimit
	}
	if p.marker != "" {
		id, err := uuid.Parse(p.marker)
		if err != nil {
			return q, fault.NotFound(missing, p.marker)
		}
		q.Marker = &id
	}
	return q, nil
}

// next adds the link to the next page, if this one is full: every parameter is kept.
func (c *call) next(body map[string]any, key string, p page, maxLimit, rows int, last string) {
	limit := p.limit
	if limit < 0 {
		limit = maxLimit
	}
	if limit == 0 || rows < limit {
		return
	}
	var query string
	for _, part := range strings.Split(c.r.URL.RawQuery, "&") { // in the client's order
		one, err := url.ParseQuery(part)
		if err != nil || part == "" || one.Has("marker") {
			continue
		}
		query += one.Encode() + "&"
	}
	href := c.info.BaseURL + c.r.URL.Path + "?" + query + "marker=" + url.QueryEscape(last)
	body[key] = []map[string]string{{"rel": "next", "href": href}}
}

// allTenants: administrators only, silently ignored from others.
func (c *call) allTenants() (bool, error) {
	if !c.id.Admin {
		return false, nil
	}
	return flag(c.r.URL.Query(), "all_tenants")
}

// listScope is the project whose rows a list shows, "" for all.
func (c *call) listScope() (string, error) {
	all, err := c.allTenants()
	if err != nil || all {
		return "", err
	}
	return c.id.ProjectID, nil
}

// withCount: with_count=True from 3.45 on.
func (c *call) withCount() (bool, error) {
	if c.mv < 45 {
		return false, nil
	}
	return flag(c.r.URL.Query(), "with_count")
}
