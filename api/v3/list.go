package v3

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// asked is what a request wants of a list.
type asked struct {
	page
	query   model.ListQuery
	nothing bool // no row can match the filters
}

// asked reads the page; filters come after it. Sorts are the keys that may be ordered by,
// missing is the 404 for a marker.
func (a *API) asked(params url.Values, missing string, sorts []string) (w asked, err error) {
	if w.page, err = a.paging(params, sorts); err != nil {
		return w, err
	}
	w.query, err = w.page.query(a.MaxLimit, missing)
	return w, err
}

// askedOwn is asked for what belongs to projects: all_tenants says of whom.
func (a *API) askedOwn(c *call, params url.Values, missing string, sorts []string) (w asked, err error) {
	if w, err = a.asked(params, missing, sorts); err != nil {
		return w, err
	}
	w.query.ProjectID, err = c.listScope()
	return w, err
}

// filter reads the filters of a query. An id among them that is none matches no row.
func (w *asked) filter(rules filterRules, params url.Values, ids ...string) (err error) {
	if rules.counted && rules.mv >= 45 { // before, it is a filter that there is not
		params.Del("with_count")
	}
	if !rules.admin { // clients look by id that way
		params.Del("project_id")
		params.Del("tenant_id")
	}
	if w.query.Filters, w.nothing, err = rules.parse(params); err != nil {
		return err
	}
	for _, f := range w.query.Filters {
		for _, id := range ids {
			w.nothing = w.nothing || f.Column == id && f.Op == "=" && !isUUID(f.Value)
		}
	}
	return nil
}

// listing is a list of one noun: how its rows are found and shown.
type listing[T any] struct {
	key     string // of the rows in the answer
	links   string // of the link to the next page
	missing string // the 404 for a marker
	id      func(*T) uuid.UUID
	find    func(context.Context, model.ListQuery) ([]T, error)
	show    func([]T) (any, error)
	// count of the rows of all pages, for with_count (3.45); nil: the list has none.
	count func(context.Context, model.ListQuery) (int, error)
}

// send answers with a page.
func (l listing[T]) send(a *API, c *call, w asked) error {
	counted, total := false, 0
	var err error
	if l.count != nil {
		if counted, err = c.withCount(); err != nil {
			return err
		}
	}
	rows := []T{}
	if !w.nothing && w.limit != 0 {
		if rows, err = l.find(c.ctx(), w.query); err != nil {
			return notFound(err, l.missing, w.marker)
		}
	}
	if counted && !w.nothing {
		if total, err = l.count(c.ctx(), model.ListQuery{ProjectID: w.query.ProjectID, Filters: w.query.Filters}); err != nil {
			return err
		}
	}
	body := view.Object{}
	if body[l.key], err = l.show(rows); err != nil {
		return err
	}
	if counted {
		body["count"] = total
	}
	if n := len(rows); n > 0 {
		c.next(body, l.links, w.page, a.MaxLimit, n, l.id(&rows[n-1]).String())
	}
	return c.json(http.StatusOK, body)
}

// each shows the rows of a list one by one.
func each[T, V any](show func(*T) V) func([]T) (any, error) {
	return func(rows []T) (any, error) {
		out := make([]V, 0, len(rows))
		for i := range rows {
			out = append(out, show(&rows[i]))
		}
		return out, nil
	}
}

// oneOf is the one in a list's row or in its detailed row.
func oneOf[F any](detail bool, long, short F) F {
	if detail {
		return long
	}
	return short
}

// byID finds what an id names, in the words of its noun if there is none.
func byID[T any](c *call, text, missing string, find func(ctx context.Context, id uuid.UUID, project string) (T, error)) (T, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		var none T
		return none, fault.NotFound(missing, text)
	}
	row, err := find(c.ctx(), id, c.scope())
	return row, notFound(err, missing, text)
}
