package v3

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
)

// clusterRoutes: replicas of the control plane are all alike and a node is one host, so there
// are no clusters of services. Clients still ask.
func (a *API) clusterRoutes() []route {
	const since = 7
	return []route{
		{method: "GET", path: "/clusters", min: since, h: a.listClusters},
		{method: "GET", path: "/clusters/detail", min: since, h: a.listClusters},
		{method: "GET", path: "/clusters/{id}", min: since, h: a.showCluster},
		{method: "PUT", path: "/clusters/{id}", min: since, h: a.updateCluster},
	}
}

func (a *API) listClusters(c *call) error {
	if err := c.allow("clusters:get_all"); err != nil {
		return err
	}
	q := c.r.URL.Query()
	known := []string{"name", "binary", "is_up", "disabled", "num_hosts", "num_down_hosts"}
	if c.mv >= 26 {
		known = append(known, "replication_status", "frozen", "active_backend_id")
	}
	unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(q)), func(k string) bool { return slices.Contains(known, k) })
	if len(unknown) > 0 {
		return fault.InvalidInput("Invalid filter keys: %s", strings.Join(unknown, ", "))
	}
	for _, key := range []string{"disabled", "is_up"} {
		if _, err := flag(q, key); err != nil {
			return err
		}
	}
	return c.json(http.StatusOK, view.Object{"clusters": []any{}})
}

// noCluster is the 404 in Cinder's words.
func noCluster(name, binary string) error {
	return fault.NotFound("Cluster {'binary': '%s', 'name': '%s'} could not be found.", binary, name)
}

func (a *API) showCluster(c *call) error {
	if err := c.allow("clusters:get"); err != nil {
		return err
	}
	return noCluster(c.vars["id"], view.BinaryVolume)
}

func (a *API) updateCluster(c *call) error {
	if err := c.allow("clusters:update"); err != nil {
		return err
	}
	keys := []string{"name", "binary"}
	switch c.vars["id"] {
	case "disable":
		keys = append(keys, "disabled_reason")
	case "enable":
	default:
		return fault.NotFound("Unknown action")
	}
	in, err := c.parse()
	if err != nil {
		return err
	}
	if err := in.Only(keys...); err != nil {
		return err
	}
	name, err := in.Text("name", 1, 255)
	if err != nil {
		return err
	}
	binary, err := in.String("binary", 0, 255)
	if err != nil {
		return err
	}
	return noCluster(name, valueOr(binary, view.BinaryVolume))
}
