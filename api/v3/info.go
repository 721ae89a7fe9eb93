package v3

import (
	_ "embed" // extensions.json
	"encoding/json"
	"net/http"
	"slices"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
)

//go:embed extensions.json
var extensionsJSON []byte

// extension is one row of /extensions. Clients look for names (Horizon: AvailabilityZones)
// and aliases.
type extension struct {
	Name        string `json:"name"`
	Alias       string `json:"alias"`
	Description string `json:"description"`
	Updated     string `json:"updated"`
	Links       []any  `json:"links"`
}

func extensions() ([]extension, error) {
	var all []extension
	if err := json.Unmarshal(extensionsJSON, &all); err != nil {
		return nil, fault.Server(err)
	}
	return all, nil
}

func (a *API) infoRoutes() []route {
	return []route{
		{method: "GET", path: "/extensions", h: a.listExtensions},
		{method: "GET", path: "/extensions/{alias}", h: a.showExtension},
		{method: "GET", path: "/os-availability-zone", h: a.listZones},
		{method: "GET", path: "/resource_filters", min: 33, h: a.listResourceFilters},
	}
}

func (a *API) listExtensions(c *call) error {
	all, err := extensions()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"extensions": all})
}

func (a *API) showExtension(c *call) error {
	all, err := extensions()
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Alias == c.vars["alias"] {
			return c.json(http.StatusOK, view.Object{"extension": e})
		}
	}
	return fault.NotFound("The resource could not be found.")
}

// listZones: a zone is available if a node in it is alive and enabled. The default zone
// is always there: volumes without a zone get it.
func (a *API) listZones(c *call) error {
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return err
	}
	zones := map[string]bool{a.DefaultZone: false}
	for i := range nodes {
		n := &nodes[i]
		zones[a.zoneOf(n)] = zones[a.zoneOf(n)] || n.Alive && n.Enabled && !n.Frozen
	}
	rows := []view.Object{}
	for _, name := range sortedKeys(zones) {
		rows = append(rows, view.Object{"zoneName": name, "zoneState": view.Object{"available": zones[name]}})
	}
	return c.json(http.StatusOK, view.Object{"availabilityZoneInfo": rows})
}

func (a *API) listResourceFilters(c *call) error {
	all := slices.Clone(a.Filters)
	if want := c.r.URL.Query().Get("resource"); want != "" {
		all = slices.DeleteFunc(all, func(f ResourceFilter) bool { return f.Resource != want })
	}
	return c.json(http.StatusOK, view.Object{"resource_filters": all})
}
