package v3test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// fields is a row as a list query sees it.
type fields struct {
	id      uuid.UUID
	project string
	created time.Time
	columns map[string]string
	maps    map[string]model.StringMap
}

// list does what a list query says. Unknown columns are an error, so that tests find them.
func list[T any](rows []T, q model.ListQuery, of func(*T) fields) ([]T, error) {
	type entry struct {
		row T
		f   fields
	}
	var all []entry
	for i := range rows {
		f := of(&rows[i])
		for _, stamped := range []string{"created_at", "updated_at"} { // every row of ours has them
			if _, ok := f.columns[stamped]; !ok {
				f.columns[stamped] = map[string]string{"created_at": stamp(&f.created)}[stamped]
			}
		}
		if q.ProjectID != "" && f.project != q.ProjectID {
			continue
		}
		ok := true
		for _, filter := range q.Filters {
			m, err := match(f, filter)
			if err != nil {
				return nil, err
			}
			ok = ok && m
		}
		if ok {
			all = append(all, entry{rows[i], f})
		}
	}
	keys := q.Sort
	if len(keys) == 0 {
		keys = []model.SortKey{{Column: "created_at", Desc: true}}
	}
	for _, k := range keys {
		if len(all) > 0 && k.Column != "created_at" {
			if _, ok := all[0].f.columns[k.Column]; !ok {
				return nil, fmt.Errorf("sort by unknown column %q", k.Column)
			}
		}
	}
	slices.SortStableFunc(all, func(x, y entry) int {
		for _, k := range keys {
			d := compare(k.Column, x.f, y.f)
			if k.Desc {
				d = -d
			}
			if d != 0 {
				return d
			}
		}
		return strings.Compare(y.f.id.String(), x.f.id.String())
	})
	if q.Marker != nil {
		i := slices.IndexFunc(all, func(e entry) bool { return e.f.id == *q.Marker })
		if i < 0 {
			return nil, fmt.Errorf("marker %s: %w", *q.Marker, model.ErrNotFound)
		}
		all = all[i+1:]
	}
	all = all[min(q.Offset, len(all)):]
	if q.Limit > 0 {
		all = all[:min(q.Limit, len(all))]
	}
	out := make([]T, 0, len(all))
	for _, e := range all {
		out = append(out, e.row)
	}
	return out, nil
}

func compare(column string, x, y fields) int {
	if column == "created_at" {
		return x.created.Compare(y.created)
	}
	a, b := x.columns[column], y.columns[column]
	if n, err := strconv.Atoi(a); err == nil {
		if m, err := strconv.Atoi(b); err == nil {
			return n - m
		}
	}
	return strings.Compare(a, b)
}

func match(f fields, q model.Filter) (bool, error) {
	if q.Map != nil {
		m, ok := f.maps[q.Column]
		if !ok {
			return false, fmt.Errorf("filter by unknown map %q", q.Column)
		}
		for k, v := range q.Map {
			if x, there := m[k]; !there || x != v {
				return false, nil
			}
		}
		return true, nil
	}
	x, ok := f.columns[q.Column]
	if !ok {
		return false, fmt.Errorf("filter by unknown column %q", q.Column)
	}
	value := q.Value
	switch q.Op {
	case "lt", "lte", "gt", "gte", "eq", "neq":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return false, fmt.Errorf("filter %s: %w", q.Column, err)
		}
		value = stamp(&t)
	}
	d := strings.Compare(x, value)
	switch q.Op {
	case "=", "eq":
		return d == 0, nil
	case "neq":
		return d != 0, nil
	case "lt":
		return d < 0, nil
	case "lte":
		return d <= 0, nil
	case "gt":
		return d > 0, nil
	case "gte":
		return d >= 0, nil
	case "like":
		return has(x, value), nil
	}
	return false, fmt.Errorf("unknown operator %q", q.Op)
}
