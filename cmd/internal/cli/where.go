package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

// volume as the API shows it to an administrator.
type volume struct {
	ID          string            `json:"id"`
	Name        *string           `json:"name"`
	Status      string            `json:"status"`
	SizeGiB     int               `json:"size"`
	Metadata    map[string]string `json:"metadata"`
	Host        *string           `json:"os-vol-host-attr:host"`
	Project     string            `json:"os-vol-tenant-attr:tenant_id"`
	Image       map[string]string `json:"volume_image_metadata"`
	Attachments []struct {
		ID       string  `json:"attachment_id"`
		Host     *string `json:"host_name"`
		Server   string  `json:"server_id"`
		Device   *string `json:"device"`
		Attached *string `json:"attached_at"`
	} `json:"attachments"`
}

// place is what `volume where` prints.
type place struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Reason  string `json:"reason"` // of an error
	Task    string `json:"task"`   // that it waits for, and how far that is
	SizeGiB int    `json:"size"`
	Project string `json:"project_id"`
	// Home holds what was written, "" before the first attachment; Up tells whether it lives.
	Home  string `json:"home"`
	State string `json:"home_state"`
	// Image, and the way from the home to its root: what is read and was not written
	// comes from the first of these that has it.
	ImageID   string   `json:"image_id"`
	ImageName string   `json:"image_name"`
	Way       []string `json:"way"`
	Attached  []holder `json:"attached"`
}

// holder has the volume attached.
type holder struct {
	Attachment string `json:"attachment_id"`
	Host       string `json:"host"`
	Server     string `json:"server_id"`
	Device     string `json:"device"`
	Connection string `json:"connection"` // local on the home, else iscsi
}

func whereCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "where VOLUME", Short: "Show where a volume's data is and who has it attached", Args: cobra.ExactArgs(1)}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		p, err := where(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), p)
		}
		return printPlace(cmd.OutOrStdout(), p)
	}
	return cmd
}

func where(ctx context.Context, ref string) (place, error) {
	v, err := findVolume(ctx, ref)
	if err != nil {
		return place{}, err
	}
	p := place{
		ID: v.ID, Status: v.Status, Reason: v.Metadata[view.ErrorKey], Task: v.Metadata[view.TaskKey], SizeGiB: v.SizeGiB, Project: v.Project,
		ImageID: v.Image["image_id"], ImageName: v.Image["image_name"], Way: []string{}, Attached: []holder{},
	}
	if v.Name != nil {
		p.Name = *v.Name
	}
	if v.Host != nil {
		p.Home, _, _ = strings.Cut(*v.Host, "@")
	}
	for _, a := range v.Attachments {
		h := holder{Attachment: a.ID, Server: a.Server, Connection: "iscsi"}
		if a.Host != nil {
			h.Host = *a.Host
		}
		if a.Device != nil {
			h.Device = *a.Device
		}
		switch h.Host {
		case "":
			h.Connection = ""
		case p.Home:
			h.Connection = "local"
		}
		p.Attached = append(p.Attached, h)
	}
	if p.Home == "" {
		return p, nil
	}
	var nodes struct {
		Nodes []view.Node `json:"nodes"`
	}
	if err := get(ctx, "nodes", &nodes); err != nil {
		return p, err
	}
	for _, n := range nodes.Nodes {
		if n.Host == p.Home {
			p.State = state(n)
		}
	}
	if p.ImageID == "" {
		return p, nil
	}
	var tree treeBody
	if err := get(ctx, "images/"+p.ImageID+"/tree", &tree); err != nil {
		return p, err
	}
	p.Way = way(tree.Members, p.Home)
	return p, nil
}

// way is host and those above it, as they read now.
func way(members []view.Member, host string) []string {
	above := map[string]string{}
	for _, m := range members {
		switch {
		case m.ObservedParent != "":
			above[m.Host] = m.ObservedParent
		case m.Parent != nil:
			above[m.Host] = *m.Parent
		default:
			above[m.Host] = ""
		}
	}
	out := []string{}
	for range members { // a tree has no cycle, but what is observed may have one for a moment
		up, ok := above[host]
		if !ok {
			break
		}
		out = append(out, host)
		if host = up; host == "" {
			break
		}
	}
	return out
}

// findVolume by id, or by name among those of all projects.
func findVolume(ctx context.Context, ref string) (volume, error) {
	if _, err := uuid.Parse(ref); err == nil {
		var out struct {
			Volume volume `json:"volume"`
		}
		_, err := request(ctx, http.MethodGet, []string{"volumes", ref}, nil, &out, http.StatusOK)
		return out.Volume, err
	}
	var out struct {
		Volumes []volume `json:"volumes"`
	}
	query := url.Values{"all_tenants": {"1"}, "name": {ref}, "limit": {"2"}}
	if _, err := request(ctx, http.MethodGet, []string{"volumes", "detail?" + query.Encode()}, nil, &out, http.StatusOK); err != nil {
		return volume{}, err
	}
	switch len(out.Volumes) {
	case 0:
		return volume{}, fmt.Errorf("no volume is called %s", ref)
	case 1:
		return out.Volumes[0], nil
	}
	return volume{}, errors.New("several volumes are called " + ref + "; use the id (openstack volume list --all-projects)")
}

func printPlace(w io.Writer, p place) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("volume", "%s", p.ID)
	if p.Name != "" {
		row("name", "%s", p.Name)
	}
	row("project", "%s", p.Project)
	if p.Reason != "" {
		row("status", "%s: %s", p.Status, p.Reason)
	} else {
		row("status", "%s", p.Status)
	}
	if p.Task != "" {
		row("task", "%s", p.Task)
	}
	row("size", "%d GiB", p.SizeGiB)
	if p.Home == "" {
		row("home", "none yet: it will be the first host that attaches the volume")
	} else {
		row("home", "%s (%s)", p.Home, p.State)
	}
	if p.ImageID != "" {
		row("image", "%s (%s)", p.ImageName, p.ImageID)
	}
	if len(p.Way) > 0 {
		row("reads", "%s", strings.Join(p.Way, " ← "))
	}
	for _, a := range p.Attached {
		s := a.Host
		if s == "" {
			s = "reserved"
		}
		for _, x := range []string{a.Connection, a.Device} {
			if x != "" {
				s += ", " + x
			}
		}
		if a.Server != "" {
			s += ", server " + a.Server
		}
		row("attached", "%s", s)
	}
	return t.Flush()
}
