package v3

import (
	"maps"
	"net/http"
	"net/url"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) poolRoutes() []route {
	return []route{
		{method: "GET", path: "/scheduler-stats/get_pools", h: a.listPools},
		{method: "GET", path: "/capabilities/{host}", h: a.showCapabilities},
	}
}

func (a *API) listPools(c *call) error {
	if err := c.allow("scheduler_extension:scheduler_stats:get_pools"); err != nil {
		return err
	}
	q := c.r.URL.Query()
	detail, err := flag(q, "detail")
	if err != nil {
		return err
	}
	wanted, err := a.wantedPools(c, q)
	if err != nil {
		return err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return err
	}
	allocated, err := a.Store.Allocated(c.ctx())
	if err != nil {
		return err
	}
	rows := []view.Object{}
	for i := range nodes {
		n := &nodes[i]
		if !n.Compute || !wanted(n) {
			continue
		}
		x := allocated[n.Host]
		rows = append(rows, c.view().Pool(n, x.Volumes, x.GiB, detail, a.Now()))
	}
	return c.json(http.StatusOK, view.Object{"pools": rows})
}

// wantedPools reads the filters: by name and by capabilities (3.28), by the name or id of a
// volume type whose extra specs a pool is to fulfil (3.35).
func (a *API) wantedPools(c *call, q url.Values) (wanted func(*model.Node) bool, err error) {
	q = maps.Clone(q)
	q.Del("detail")
	if c.mv >= 31 { // here administrators are no exception
		if _, _, err := (filterRules{allowed: a.filtersOf("pool"), columns: map[string]string{}, mv: c.mv}).parse(q); err != nil {
			return nil, err
		}
	}
	if c.mv < 28 {
		clear(q)
	}
	var specs model.StringMap
	if ref := q.Get("volume_type"); ref != "" && c.mv >= 35 {
		t, err := a.typeByRef(c, ref)
		if err != nil {
			return nil, err
		}
		specs = t.ExtraSpecs
	}
	q.Del("volume_type")
	return func(n *model.Node) bool {
		caps := a.Backend.Capabilities(n)
		for k := range q {
			if k == "name" && q.Get(k) != a.Backend.PoolName(n.Host, n.Backend) || k != "name" && !caps.Is(k, q.Get(k)) {
				return false
			}
		}
		return caps.Lacks(specs) == ""
	}, nil
}

func (a *API) showCapabilities(c *call) error {
	if err := c.allow("volume_extension:capabilities"); err != nil {
		return err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return err
	}
	n := a.Backend.NodeOf(c.vars["host"], nodes)
	if n == nil {
		return fault.NotFound("Can't find service: %s", c.vars["host"])
	}
	return c.json(http.StatusOK, c.view().Capabilities(c.vars["host"], n))
}
