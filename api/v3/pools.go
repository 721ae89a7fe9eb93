package v3

import (
	"net/http"
	"slices"

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
	if c.mv >= 31 { // here administrators are no exception
		rest := c.r.URL.Query()
		rest.Del("detail")
		if _, _, err := (filterRules{resource: "pool", columns: map[string]string{}, mv: c.mv}).parse(rest); err != nil {
			return err
		}
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
		if !n.Compute || c.mv >= 28 && q.Has("name") && q.Get("name") != view.PoolName(n.Host) {
			continue
		}
		x := allocated[n.Host]
		rows = append(rows, c.view().Pool(n, x.Volumes, x.GiB, a.Backend, detail, a.Now()))
	}
	return c.json(http.StatusOK, view.Object{"pools": rows})
}

func (a *API) showCapabilities(c *call) error {
	if err := c.allow("volume_extension:capabilities"); err != nil {
		return err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return err
	}
	node, ok := view.NodeOf(c.vars["host"])
	if !ok || !slices.ContainsFunc(nodes, func(n model.Node) bool { return n.Host == node }) {
		return fault.NotFound("Can't find service: %s", c.vars["host"])
	}
	return c.json(http.StatusOK, c.view().Capabilities(c.vars["host"], a.Backend))
}
