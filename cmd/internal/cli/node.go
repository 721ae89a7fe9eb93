package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

func nodeShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show NODE", Short: "Show a node, what it holds and what is wrong there", Args: cobra.ExactArgs(1)}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		var out struct {
			Nodes []view.Node `json:"nodes"`
		}
		if err := get(cmd.Context(), "nodes", &out); err != nil {
			return err
		}
		for _, n := range out.Nodes {
			if n.Host != args[0] {
				continue
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), n)
			}
			return printNode(cmd.OutOrStdout(), n)
		}
		return fmt.Errorf("no node %s; vmthunder node list shows those that are", args[0])
	}
	return cmd
}

// state of a node in words.
func state(n view.Node) string {
	s := "down"
	if n.Alive {
		s = "up"
	}
	switch {
	case n.Draining:
		s += ", drains"
	case !n.Enabled:
		s += ", disabled"
	}
	return s
}

func roles(n view.Node) string {
	s := ""
	if n.Compute {
		s = "compute"
	}
	if n.Origin {
		s = join(s, "origin")
	}
	return s
}

func printNode(w io.Writer, n view.Node) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("host", "%s", n.Host)
	row("state", "%s", state(n))
	if n.DisabledReason != nil {
		row("disabled because", "%s", *n.DisabledReason)
	}
	if n.LastSeen != nil {
		row("last seen", "%s", n.LastSeen.UTC().Format(time.RFC3339))
	}
	row("boot", "%s", n.BootID)
	row("roles", "%s", roles(n))
	row("zone", "%s", n.AvailabilityZone)
	if n.Rack != "" {
		row("rack", "%s", n.Rack)
	}
	if n.Backend != "" {
		row("backend", "%s", n.Backend)
	}
	row("address", "%s", n.Address)
	row("initiator", "%s", n.Initiator)
	row("version", "%s", n.Version)
	row("document", "%d, has done %d", n.Generation, n.Applied)
	row("volumes", "%d, %d GiB", n.Volumes, n.VolumeGiB)
	row("pool", "%s, %s of %s free", n.PoolState, size(n.PoolFree), size(n.PoolTotal))
	if n.Origin {
		row("room for images", "%s", size(n.ImageFree))
	}
	row("cache", "%s (%s)", n.CacheDriver, n.CacheReason)
	row("target", "%s", n.TargetHelper)
	var problems []json.RawMessage
	if json.Unmarshal(n.Problems, &problems) == nil {
		for _, p := range problems {
			var text string
			if json.Unmarshal(p, &text) != nil {
				text = string(p)
			}
			row("problem", "%s", text)
		}
	}
	return t.Flush()
}
