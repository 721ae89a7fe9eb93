package db

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// rows fills dst, a pointer to a slice, with the page of l that q asks for; more may add
// conditions.
func (s *Store) rows(ctx context.Context, dst any, l lister, q model.ListQuery, more ...func(*page)) error {
	pages, err := s.pages(ctx, l, q, more...)
	if err != nil {
		return err
	}
	all := reflect.ValueOf(dst).Elem()
	for _, p := range pages {
		if q.Limit > 0 && all.Len() > 0 {
			if all.Len() >= q.Limit {
				break
			}
			p.tail = ""
			p.limit(model.ListQuery{Limit: q.Limit - all.Len()})
		}
		part := reflect.New(all.Type())
		if err := s.read(ctx, part.Interface(), p.sql(l.selects, l.from), p.args...); err != nil {
			return err
		}
		all.Set(reflect.AppendSlice(all, part.Elem()))
	}
	return nil
}

// pages are the statements that give a page, one after the other: mostly one, two where
// the rows after the marker are partly without a value for the first key.
func (s *Store) pages(ctx context.Context, l lister, q model.ListQuery, more ...func(*page)) ([]*page, error) {
	keys, err := l.order(q.Sort)
	if err != nil {
		return nil, err
	}
	parts := []func(*page){func(*page) {}}
	if q.Marker != nil {
		marker, err := s.marker(ctx, l, q, keys)
		if err != nil {
			return nil, err
		}
		parts = after(keys, marker, q.Offset == 0)
	}
	var out []*page
	for _, part := range parts {
		p, err := l.filter(q)
		if err != nil {
			return nil, err
		}
		for _, m := range more {
			m(p)
		}
		part(p)
		p.order = orderBy(keys)
		p.limit(q)
		out = append(out, p)
	}
	return out, nil
}

// marker returns the values of the sort keys in the marker's row.
func (s *Store) marker(ctx context.Context, l lister, q model.ListQuery, keys []key) ([]any, error) {
	m := &page{}
	m.where = append(m.where, l.id+" = "+m.arg(*q.Marker))
	if q.ProjectID != "" && l.project != "" {
		m.where = append(m.where, l.project+" = "+m.arg(q.ProjectID))
	}
	var selects strings.Builder
	for i, k := range keys {
		if i > 0 {
			selects.WriteString(", ")
		}
		selects.WriteString(k.sql)
	}
	values, err := s.db.QueryRowxContext(ctx, m.sql(selects.String(), l.from), m.args...).SliceScan()
	if err != nil {
		return nil, fmt.Errorf("marker %s: %w", *q.Marker, translate(ctx, err))
	}
	return values, nil
}

// count of all rows that q's filters let through, paging left aside.
func (s *Store) count(ctx context.Context, l lister, q model.ListQuery) (int, error) {
	p, err := l.filter(q)
	if err != nil {
		return 0, err
	}
	var n int
	err = s.get(ctx, &n, p.sql("count(*)", l.from), p.args...)
	return n, err
}
