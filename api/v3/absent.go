package v3

import (
	"net/http"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/view"
)

// absent is a collection that Cinder has and we don't yet: an empty list, items that are
// not found, and a clear no to making one.
type absent struct {
	path    string // first part of the path
	min     microversion.Version
	list    string // key of the list; "" if it has none
	missing string // 404 for an item
	what    string // in "… is not supported by this backend yet."
	read    string // policy rule of lists and items
	write   string // policy rule of the rest
	noItem  bool   // there are no routes for items
}

func absents() []absent {
	return []absent{
		{path: "clusters", min: 7, list: "clusters", missing: "Cluster %s could not be found.", what: "Clustering services",
			read: "clusters:get_all", write: "clusters:update"},
	}
}

func (a *API) absentRoutes() []route {
	var out []route
	for _, n := range absents() {
		base := "/" + n.path
		out = append(out,
			route{method: "GET", path: base, min: n.min, h: a.absentList(n)},
			route{method: "GET", path: base + "/detail", min: n.min, h: a.absentList(n)},
			route{method: "POST", path: base, min: n.min, h: a.absentCreate(n)},
		)
		if n.noItem {
			continue
		}
		item := a.absentItem(n)
		switch n.path {
		}
		for _, path := range []string{"/{id}", "/{id}/{sub}", "/{id}/{sub}/{key}"} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				if method == "POST" && path == "/{id}" {
					continue // no such route in Cinder
				}
				out = append(out, route{method: method, path: base + path, min: n.min, h: item})
			}
		}
	}
	return out
}

// absentList still checks the page, as clients test for that.
func (a *API) absentList(n absent) handler {
	return func(c *call) error {
		if err := c.allow(n.read); err != nil {
			return err
		}
		q := c.r.URL.Query()
		q.Del("sort")
		q.Del("sort_key")
		q.Del("sort_dir")
		p, err := a.paging(q, nil)
		if err != nil {
			return err
		}
		if p.marker != "" && n.missing != "" {
			return fault.NotFound(n.missing, p.marker)
		}
		return c.json(http.StatusOK, view.Object{n.list: []any{}})
	}
}

func (a *API) absentItem(n absent) handler {
	return func(c *call) error {
		if strings.HasPrefix(n.read, "volume_extension:") || strings.HasPrefix(n.read, "clusters:") {
			if err := c.allow(n.read); err != nil { // administrators' things
				return err
			}
		}
		return fault.NotFound(n.missing, c.vars["id"])
	}
}

func (a *API) absentCreate(n absent) handler {
	return func(c *call) error {
		if err := c.allow(n.write); err != nil {
			return err
		}
		if _, err := c.parse(); err != nil {
			return err
		}
		return unsupported(n.what)
	}
}
