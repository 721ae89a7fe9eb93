package view

import (
	"github.com/vmthunder/vmthunder/db/model"
)

// Drain is the answer of GET, POST and DELETE /vmthunder/nodes/{host}/drain: what is left on a node that is
// to be taken out of service.
type Drain struct {
	Host      string        `json:"host"`
	Draining  bool          `json:"draining"`
	Readers   int           `json:"readers"`    // nodes that read images from it, counted once for each image
	Images    int           `json:"images"`     // that they read
	OnlyRoots []string      `json:"only_roots"` // images that no other origin has
	Volumes   []DrainVolume `json:"volumes"`    // that live there
}

// DrainVolume is a volume that lives on the node.
type DrainVolume struct {
	ID       string   `json:"id"`
	Name     *string  `json:"name"`
	Project  string   `json:"project_id"`
	Status   string   `json:"status"`
	Empty    bool     `json:"empty"`    // nothing was ever written to it
	Attached []string `json:"attached"` // hosts that have it
}

// OperatorDrain makes the answer.
func OperatorDrain(d *model.Drain) Drain {
	out := Drain{
		Host: d.Node.Host, Draining: d.Node.Draining, Readers: d.Readers, Images: d.Images, OnlyRoots: []string{}, Volumes: []DrainVolume{},
	}
	for _, id := range d.OnlyRoots {
		out.OnlyRoots = append(out.OnlyRoots, id.String())
	}
	for i := range d.Volumes {
		v := &d.Volumes[i]
		row := DrainVolume{
			ID: v.ID.String(), Name: v.Name, Project: v.ProjectID, Status: string(v.Status), Empty: v.Pristine(), Attached: []string{},
		}
		for _, a := range v.Attachments {
			if a.AttachedHost != nil {
				row.Attached = append(row.Attached, *a.AttachedHost)
			}
		}
		out.Volumes = append(out.Volumes, row)
	}
	return out
}
