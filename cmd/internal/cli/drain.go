package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

// drainPoll is how often it is asked what is left.
const drainPoll = time.Second

// errLeft: the command has said what.
var errLeft = errors.New("the node is not free yet")

func drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain NODE", Args: cobra.ExactArgs(1),
		Short: "Prepare a node for being taken out of service, and list what is left there",
		Long: "From now on the node takes no new volumes and images; those who read images from it get other parents, under\n" +
			"running reads, and what it is the only origin of is imported by another, if there is one. Waits until nobody reads\n" +
			"from it, then lists the volumes that live there: move, detach or delete them. `vmthunder node undrain` ends it.\n\n" +
			"The exit status is 0 if nothing is left, 1 if something is.",
	}
	output := outputFlag(cmd)
	wait := cmd.Flags().Duration("wait", 2*time.Minute, "how long to wait until nobody reads from it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		ctx, path := cmd.Context(), "nodes/"+url.PathEscape(args[0])+"/drain"
		var d view.Drain
		if err := ask(ctx, http.MethodPost, path, http.StatusOK, &d); err != nil {
			return err
		}
		shown := terminal(os.Stderr)
		for end := time.Now().Add(*wait); d.Readers+len(d.OnlyRoots) > 0 && time.Now().Before(end); {
			if shown {
				fmt.Fprintf(cmd.ErrOrStderr(), "\r\033[K%s", reading(d))
			}
			select {
			case <-ctx.Done():
				return errors.New("interrupted; the node goes on draining")
			case <-time.After(drainPoll):
			}
			d = view.Drain{}
			if err := ask(ctx, http.MethodGet, path, http.StatusOK, &d); err != nil {
				return err
			}
		}
		if shown {
			fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
		}
		if asJSON {
			err = printJSON(cmd.OutOrStdout(), d)
		} else {
			err = printDrain(cmd.OutOrStdout(), d)
		}
		if err == nil && d.Readers+len(d.OnlyRoots)+len(d.Volumes) > 0 {
			err = errLeft
		}
		return err
	}
	return cmd
}

func undrainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "undrain NODE", Short: "Have a node take volumes and images again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), http.MethodDelete, "nodes/"+url.PathEscape(args[0])+"/drain", http.StatusOK, nil)
		},
	}
}

// reading says who reads from the node.
func reading(d view.Drain) string {
	s := fmt.Sprintf("%s of %s", many(d.Readers, "reader"), many(d.Images, "image"))
	if n := len(d.OnlyRoots); n > 0 {
		s += "; the only origin of " + many(n, "image")
	}
	return s
}

func printDrain(w io.Writer, d view.Drain) error {
	if d.Readers+len(d.OnlyRoots) > 0 {
		fmt.Fprintf(w, "%s has %s still; doctor may say why\n", d.Host, reading(d))
	}
	if len(d.Volumes) == 0 {
		if d.Readers+len(d.OnlyRoots) == 0 {
			fmt.Fprintf(w, "%s is free: nobody reads from it, and no volume lives there\n", d.Host)
		}
		return nil
	}
	fmt.Fprintf(w, "%s at %s:\n\n", many(len(d.Volumes), "volume"), d.Host)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tPROJECT\tSTATUS\tATTACHED AT\tTO DO")
	for _, v := range d.Volumes {
		name := ""
		if v.Name != nil {
			name = *v.Name
		}
		todo := "openstack volume migrate --host HOST " + v.ID
		switch {
		case len(v.Attached) > 0:
			todo = "detach it, or move its server away and detach it there"
		case v.Empty:
			todo = "nothing was written to it: openstack volume migrate moves it at once"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, name, v.Project, v.Status, strings.Join(v.Attached, " "), todo)
	}
	return t.Flush()
}
