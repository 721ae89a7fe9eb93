package v3

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noImage = "Image %s could not be found."

// operatorRoutes are of our extension, for administrators.
func (a *API) operatorRoutes() []route {
	return []route{
		{method: "GET", path: "/vmthunder/images", h: a.operatorImages},
		{method: "GET", path: "/vmthunder/images/{id}/tree", h: a.operatorTree},
		{method: "POST", path: "/vmthunder/images/{id}/warm", h: a.operatorWarm},
		{method: "POST", path: "/vmthunder/images/{id}/release", h: a.operatorRelease},
		{method: "GET", path: "/vmthunder/nodes", h: a.operatorNodes},
		{method: "POST", path: "/vmthunder/nodes/{host}/forget-pool", h: a.operatorForgetPool},
		{method: "GET", path: "/vmthunder/nodes/{host}/drain", h: a.operatorDrained},
		{method: "POST", path: "/vmthunder/nodes/{host}/drain", h: a.operatorDrain},
		{method: "DELETE", path: "/vmthunder/nodes/{host}/drain", h: a.operatorUndrain},
		{method: "GET", path: "/vmthunder/doctor", h: a.operatorDoctor},
		{method: "POST", path: "/vmthunder/doctor", h: a.operatorRepair},
	}
}

func (a *API) operatorImages(c *call) error {
	if err := c.allow("vmthunder:images"); err != nil {
		return err
	}
	images, err := a.Store.Images(c.ctx())
	if err != nil {
		return err
	}
	rows := make([]view.Image, 0, len(images))
	for i := range images {
		rows = append(rows, view.OperatorImage(&images[i]))
	}
	return c.json(http.StatusOK, view.Object{"images": rows})
}

func (a *API) operatorTree(c *call) error {
	if err := c.allow("vmthunder:tree"); err != nil {
		return err
	}
	id, err := uuid.Parse(c.vars["id"])
	if err != nil {
		return fault.NotFound(noImage, c.vars["id"])
	}
	return a.showTree(c, id, http.StatusOK)
}

func (a *API) showTree(c *call, id uuid.UUID, status int) error {
	image, err := a.Store.Image(c.ctx(), id)
	if err != nil {
		return notFound(err, noImage, id)
	}
	members, err := a.Store.Members(c.ctx(), id)
	if err != nil {
		return err
	}
	slices.SortFunc(members, func(x, y model.Member) int {
		return cmp.Or(cmp.Compare(x.Depth, y.Depth), strings.Compare(x.Host, y.Host))
	})
	rows := make([]view.Member, 0, len(members))
	for i := range members {
		rows = append(rows, view.OperatorMember(&members[i]))
	}
	return c.json(status, view.Object{"image": view.OperatorImage(&image), "members": rows})
}

// wantedNodes reads {"nodes": [hosts]}.
func wantedNodes(c *call) ([]string, error) {
	body, err := c.parse()
	if err != nil {
		return nil, err
	}
	if err := body.Only("nodes"); err != nil {
		return nil, err
	}
	var hosts []string
	if json.Unmarshal(body.Raw("nodes"), &hosts) != nil || len(hosts) == 0 || slices.Contains(hosts, "") {
		return nil, fault.BadRequest("Invalid input for field/attribute nodes. It must be a list of one or more hosts")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func (a *API) operatorWarm(c *call) error {
	if err := c.allow("vmthunder:warm"); err != nil {
		return err
	}
	hosts, err := wantedNodes(c)
	if err != nil {
		return err
	}
	image, err := a.wantedImage(c, c.vars["id"])
	if err != nil {
		return err
	}
	got, err := a.Scheduler.Warm(c.ctx(), *image, hosts)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if got != model.ImageActive {
		status = http.StatusAccepted
	}
	return a.showTree(c, image.ID, status)
}

func (a *API) operatorRelease(c *call) error {
	if err := c.allow("vmthunder:warm"); err != nil {
		return err
	}
	hosts, err := wantedNodes(c)
	if err != nil {
		return err
	}
	id, err := uuid.Parse(c.vars["id"])
	if err != nil {
		return fault.NotFound(noImage, c.vars["id"])
	}
	if err := a.Scheduler.Unwarm(c.ctx(), id, hosts); err != nil {
		return notFound(err, noImage, id)
	}
	return a.showTree(c, id, http.StatusOK)
}

func (a *API) operatorNodes(c *call) error {
	if err := c.allow("vmthunder:nodes"); err != nil {
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
	slices.SortFunc(nodes, func(x, y model.Node) int { return strings.Compare(x.Host, y.Host) })
	rows := make([]view.Node, 0, len(nodes))
	for i := range nodes {
		x := allocated[nodes[i].Host]
		rows = append(rows, c.view().OperatorNode(&nodes[i], x.Volumes, x.GiB))
	}
	return c.json(http.StatusOK, view.Object{"nodes": rows})
}

// operatorForgetPool is for an operator who has exchanged a node's disk: the node takes the
// pool it has now. What was in the old one is lost with it; volumes that were there stay in
// error until they are deleted.
func (a *API) operatorForgetPool(c *call) error {
	if err := c.allow("vmthunder:forget_pool"); err != nil {
		return err
	}
	host := c.vars["host"]
	if err := a.Store.ForgetPool(c.ctx(), host); err != nil {
		return notFound(err, "Node %s could not be found.", host)
	}
	return c.empty(http.StatusAccepted)
}
