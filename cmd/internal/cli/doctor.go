package cli

import (
	"context"
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

// Exit statuses of doctor, as fsck and vgck have them.
const (
	exitWrong    = 1 // something is wrong, or is left after a repair
	exitUnlooked = 2 // it could not look
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find what is wrong on the nodes and in the database, and mend what is safe", Args: cobra.NoArgs,
		Long: "Asks every node what stands there, compares that with the database, and looks whether the database agrees with\n" +
			"itself. A node that is at work is given 10 seconds to finish. Nothing is changed without --repair; with it nothing\n" +
			"is deleted that could hold data, and what it did and what is left is printed.\n\n" +
			"Exit status: 0 nothing is wrong (infos are not); 1 something is, or is left; 2 could not look.",
	}
	output := outputFlag(cmd)
	repair := cmd.Flags().Bool("repair", false, "mend what is safe, and look again")
	node := cmd.Flags().String("node", "", "only what is about this node")
	image := cmd.Flags().String("image", "", "only what is about this image, by name or id")
	volume := cmd.Flags().String("volume", "", "only what is about this volume, by name or id")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		defer progress(cmd.ErrOrStderr(), terminal(os.Stderr), time.Second)()
		d, err := consult(cmd.Context(), *node, *image, *volume, *repair)
		if err != nil {
			return statusError{exitUnlooked, fmt.Errorf("could not look: %w", err)}
		}
		if asJSON {
			err = printJSON(cmd.OutOrStdout(), d)
		} else {
			err = printDiagnosis(cmd.OutOrStdout(), d)
		}
		if err != nil {
			return statusError{exitUnlooked, err}
		}
		if wrong(d) {
			return statusError{exitWrong, nil}
		}
		return nil
	}
	return cmd
}

// consult asks the service, with the ids of what is named.
func consult(ctx context.Context, node, image, volume string, repair bool) (view.Diagnosis, error) {
	var d view.Diagnosis
	q := url.Values{}
	if node != "" {
		q.Set("node", node)
	}
	if image != "" {
		id, err := imageID(ctx, image)
		if err != nil {
			return d, err
		}
		q.Set("image", id)
	}
	if volume != "" {
		v, err := findVolume(ctx, volume)
		if err != nil {
			return d, err
		}
		q.Set("volume", v.ID)
	}
	path := "doctor"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	method := http.MethodGet
	if repair {
		method = http.MethodPost
	}
	return d, ask(ctx, method, path, http.StatusOK, &d)
}

// wrong tells whether anything is more than good to know, or could not be mended.
func wrong(d view.Diagnosis) bool {
	for _, f := range d.Findings {
		if f.Severity != "info" {
			return true
		}
	}
	for _, m := range d.Mended {
		if m.Error != "" {
			return true
		}
	}
	return false
}

// terminal tells whether somebody looks at it.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// progress says after a while, and from then on, that it goes on, until the function that it returns is
// called, which wipes that away. Nothing is written where nobody looks.
func progress(w io.Writer, shown bool, every time.Duration) (end func()) {
	if !shown {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		began, said := time.Now(), false
		for {
			select {
			case <-tick.C:
				said = true
				fmt.Fprintf(w, "\rlooking at the nodes, %d s", int(time.Since(began).Seconds()))
			case <-stop:
				if said {
					fmt.Fprint(w, "\r\033[K")
				}
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

func printDiagnosis(w io.Writer, d view.Diagnosis) error {
	for _, m := range d.Mended {
		if m.Error != "" {
			fmt.Fprintf(w, "not mended: %s: %s\n", m.Of, m.Error)
			continue
		}
		fmt.Fprintf(w, "mended: %s: %s\n", m.Of, m.Text)
	}
	if len(d.Mended) > 0 {
		fmt.Fprintln(w)
	}
	if len(d.Findings) == 0 {
		fmt.Fprintf(w, "nothing found: %s\n", looked(d))
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEVERITY\tWHAT\tNODE\tREPAIR\tFINDING")
	repairs := 0
	for _, f := range d.Findings {
		what := f.Kind + " " + f.ID
		if f.Kind == "node" {
			what = f.Kind
		}
		repair := "by hand"
		switch {
		case f.Repair != "":
			repair = "safe"
			repairs++
		case f.Severity == "info":
			repair = ""
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Severity, what, f.Node, repair, oneLine(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(t, "\t\t\t\t→ %s\n", oneLine(f.Remedy))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", looked(d))
	if repairs > 0 && len(d.Mended) == 0 {
		fmt.Fprintf(w, "vmthunder doctor --repair does something about %d of them\n", repairs)
	}
	return nil
}

// oneLine keeps the words of agents and kernels from breaking the table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// many of a thing.
func many(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// looked says what was looked at.
func looked(d view.Diagnosis) string {
	l := d.Looked
	s := fmt.Sprintf("%s, of which %d answered; %s, %s, %s", many(l.Nodes, "node"), l.Answered, many(l.Images, "image"), many(l.Volumes, "volume"), many(l.Snapshots, "snapshot"))
	switch {
	case l.OldestNode == "":
	case l.OldestSeen == nil:
		s += fmt.Sprintf("; %s has never reported", l.OldestNode)
	default:
		s += fmt.Sprintf("; the oldest report is of %s ago, from %s", max(0, d.At.Sub(*l.OldestSeen)).Round(time.Second), l.OldestNode)
	}
	if len(l.Cut) > 0 {
		s += "; too long to be looked at as a whole: " + strings.Join(l.Cut, ", ")
	}
	return s
}
