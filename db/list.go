package db

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

// kind of a column, for filters and markers.
type kind int

const (
	text kind = iota
	id
	number
	boolean
	stamp
	document // jsonb
)

// column that lists can filter and sort by.
type column struct {
	sql      string
	kind     kind
	nullable bool
	noSort   bool
}

// lister knows how rows of one noun are listed.
type lister struct {
	columns map[string]column
	selects string // column list
	from    string // FROM …
	id      string // id column
	project string // project column; "" if rows belong to nobody
}

// page is a finished statement.
type page struct {
	where []string
	args  []any
	order string
	tail  string
}

func (p *page) arg(v any) string {
	p.args = append(p.args, v)
	return "$" + strconv.Itoa(len(p.args))
}

func (p *page) sql(selects, from string) string {
	s := "SELECT " + selects + from
	if len(p.where) > 0 {
		s += " WHERE " + strings.Join(p.where, " AND ")
	}
	return s + p.order + p.tail
}

// filter starts a page with the project and the filters of q.
func (l lister) filter(q model.ListQuery) (*page, error) {
	p := &page{}
	if q.ProjectID != "" && l.project != "" {
		p.where = append(p.where, l.project+" = "+p.arg(q.ProjectID))
	}
	for _, f := range q.Filters {
		c, err := l.condition(p, f)
		if err != nil {
			return nil, err
		}
		p.where = append(p.where, c)
	}
	return p, nil
}

// condition of one filter. A column that does not exist, or a value that no row can
// have, gives an empty list, not an error, as Cinder has it; an operator that does not fit is ErrInvalid.
func (l lister) condition(p *page, f model.Filter) (string, error) {
	c, ok := l.columns[f.Column]
	if !ok {
		return "FALSE", nil
	}
	switch f.Op {
	case "=", "@>", "":
		if c.kind == document {
			return c.sql + " @> " + p.arg(f.Map) + "::jsonb", nil
		}
		return c.equals(p, f.Value)
	case "in":
		if c.kind == text || c.kind == id {
			return c.anyOf(p, f.Values), nil
		}
		or := []string{"FALSE"}
		for _, v := range f.Values {
			e, err := c.equals(p, v)
			if err != nil {
				return "", err
			}
			or = append(or, e)
		}
		return "(" + strings.Join(or, " OR ") + ")", nil
	case "like":
		like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Value) + "%"
		return c.sql + "::text LIKE " + p.arg(like), nil
	}
	op, ok := map[string]string{"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "=", "neq": "<>"}[f.Op]
	if !ok || c.kind != stamp {
		return "", say(model.ErrInvalid, "Invalid filter operator %s for %s.", f.Op, f.Column)
	}
	at, err := parseTime(f.Value)
	if err != nil {
		return "", err
	}
	return c.sql + " " + op + " " + p.arg(at), nil
}

func (c column) equals(p *page, v string) (string, error) {
	switch c.kind {
	case id:
		u, err := uuid.Parse(v)
		if err != nil {
			return "FALSE", nil //nolint:nilerr // no row has such an id
		}
		return c.sql + " = " + p.arg(u), nil
	case number:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return "FALSE", nil //nolint:nilerr // as above
		}
		return c.sql + " = " + p.arg(n) + "::bigint", nil
	case boolean:
		b, err := strconv.ParseBool(strings.ToLower(v))
		if err != nil {
			return "FALSE", nil //nolint:nilerr // as above
		}
		return c.sql + " = " + p.arg(b), nil
	case stamp:
		at, err := parseTime(v)
		if err != nil {
			return "", err
		}
		return c.sql + " = " + p.arg(at), nil
	case document:
		return "", say(model.ErrInvalid, "Invalid filter value %s.", v)
	}
	return c.sql + " = " + p.arg(v), nil
}

func (c column) anyOf(p *page, values []string) string {
	if c.kind == text {
		return c.sql + " = ANY(" + p.arg(pq.Array(values)) + ")"
	}
	var valid []uuid.UUID
	for _, v := range values {
		if u, err := uuid.Parse(v); err == nil {
			valid = append(valid, u)
		}
	}
	return c.sql + " = ANY(" + p.arg(ids(valid)) + "::uuid[])"
}

// parseTime reads ISO 8601 with or without a zone; without, it is UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", time.DateOnly, "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, say(model.ErrInvalid, "Invalid time %s.", s)
}

// key of an order.
type key struct {
	column
	desc bool
}

// order resolves sort keys; the id comes last, in the last key's direction, so that
// every order is total and a page never repeats or skips a row.
func (l lister) order(sort []model.SortKey) ([]key, error) {
	if len(sort) == 0 {
		sort = []model.SortKey{{Column: "created_at", Desc: true}}
	}
	var keys []key
	for _, s := range sort {
		c, ok := l.columns[s.Column]
		if !ok || c.noSort || c.kind == document {
			return nil, say(model.ErrInvalid, "Invalid sort key")
		}
		if !slices.ContainsFunc(keys, func(k key) bool { return k.sql == c.sql }) {
			keys = append(keys, key{c, s.Desc})
		}
		if c.sql == l.id {
			return keys, nil // what follows can't matter
		}
	}
	return append(keys, key{column{sql: l.id, kind: id}, sort[len(sort)-1].Desc}), nil
}

func orderBy(keys []key) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k.sql
		if k.desc {
			parts[i] += " DESC"
		}
	}
	return " ORDER BY " + strings.Join(parts, ", ")
}

// after gives the conditions of the statements that list what comes after the marker,
// whose key values are given, in order. NULLs are last ascending and first descending,
// PostgreSQL's own order, which is that of the indexes; no index walks from a value into
// them or out of them, so where split, those without a value for the first key have a
// statement of their own.
func after(keys []key, marker []any, split bool) []func(*page) {
	for i := range marker {
		if b, ok := marker[i].([]byte); ok {
			marker[i] = string(b)
		}
	}
	first := keys[0]
	if !first.nullable || !split {
		return []func(*page){func(p *page) { p.after(keys, marker) }}
	}
	null := func(p *page) { p.where = append(p.where, first.sql+" IS NULL") }
	if marker[0] == nil {
		within := func(p *page) { null(p); p.after(keys[1:], marker[1:]) }
		if !first.desc {
			return []func(*page){within}
		}
		return []func(*page){within, func(p *page) { p.where = append(p.where, first.sql+" IS NOT NULL") }}
	}
	valued := slices.Clone(keys)
	valued[0].nullable = false
	rest := func(p *page) { p.after(valued, marker) }
	if first.desc {
		return []func(*page){rest}
	}
	return []func(*page){rest, null}
}

// after adds the condition that a row comes after the marker.
func (p *page) after(keys []key, marker []any) {
	uniform := true
	for _, k := range keys {
		uniform = uniform && !k.nullable && k.desc == keys[0].desc
	}
	if uniform {
		// One comparison of rows, which an index walks.
		var cols, vals []string
		for i, k := range keys {
			cols, vals = append(cols, k.sql), append(vals, p.arg(marker[i]))
		}
		op := map[bool]string{false: " > ", true: " < "}[keys[0].desc]
		p.where = append(p.where, "("+strings.Join(cols, ", ")+")"+op+"("+strings.Join(vals, ", ")+")")
		return
	}
	if k := keys[0]; !k.nullable {
		// It follows from the rest, but from this an index knows where to begin.
		p.where = append(p.where, k.sql+map[bool]string{false: " >= ", true: " <= "}[k.desc]+p.arg(marker[0]))
	}
	var or, same []string
	for i, k := range keys {
		if next := p.beyond(k, marker[i]); next != "" {
			or = append(or, "("+strings.Join(append(slices.Clone(same), next), " AND ")+")")
		}
		if i == len(keys)-1 {
			break // nothing comes after it
		}
		if marker[i] == nil {
			same = append(same, k.sql+" IS NULL")
		} else {
			same = append(same, k.sql+" = "+p.arg(marker[i]))
		}
	}
	p.where = append(p.where, "("+strings.Join(or, " OR ")+")")
}

// beyond is the condition that a key's value comes strictly after v; "" if none can.
func (p *page) beyond(k key, v any) string {
	switch {
	case v == nil && k.desc:
		return k.sql + " IS NOT NULL"
	case v == nil:
		return ""
	case k.desc:
		return k.sql + " < " + p.arg(v)
	case k.nullable:
		return "(" + k.sql + " > " + p.arg(v) + " OR " + k.sql + " IS NULL)"
	}
	return k.sql + " > " + p.arg(v)
}

// limit adds LIMIT and OFFSET.
func (p *page) limit(q model.ListQuery) {
	if q.Limit > 0 {
		p.tail += fmt.Sprintf(" LIMIT %d", q.Limit)
	}
	if q.Offset > 0 {
		p.tail += fmt.Sprintf(" OFFSET %d", q.Offset)
	}
}
