package v3

import (
	"cmp"
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
		{method: "GET", path: "/vmthunder/nodes", h: a.operatorNodes},
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
	return c.json(http.StatusOK, view.Object{"image": view.OperatorImage(&image), "members": rows})
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
		rows = append(rows, view.OperatorNode(&nodes[i], x.Volumes, x.GiB))
	}
	return c.json(http.StatusOK, view.Object{"nodes": rows})
}
