package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

// treeBody is the answer of GET /vmthunder/images/{id}/tree, and of warm and release.
type treeBody struct {
	Image   view.Image    `json:"image"`
	Members []view.Member `json:"members"`
}

// importPoll is how often an import's progress is asked for.
const importPoll = time.Second

func warmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "warm IMAGE NODE...", Args: cobra.MinimumNArgs(2),
		Short: "Import an image and keep it standing on nodes, before volumes need it there",
		Long: "Imports an image if it is not here yet, waits for that, and gives nodes a place in its tree that is kept\n" +
			"until `vmthunder image release`. No bytes are sent ahead: they come when they are read. IMAGE is a name or an id.",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		ctx, last := cmd.Context(), ""
		var out treeBody
		for {
			status, err := request(ctx, http.MethodPost, []string{"vmthunder", "images", url.PathEscape(args[0]), "warm"},
				map[string]any{"nodes": args[1:]}, &out, http.StatusOK, http.StatusAccepted)
			if err != nil {
				return err
			}
			if status == http.StatusOK {
				break
			}
			// Asking to warm it again would try a failed import again: look at the tree.
			for id := out.Image.ID; out.Image.Status != "active"; {
				if p := out.Image.Progress; p != last && p != "" {
					last = p
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", out.Image.Name, p)
				}
				select {
				case <-ctx.Done():
					return errors.New("interrupted; the import goes on, no node keeps the image yet")
				case <-time.After(importPoll):
				}
				if err := get(ctx, "images/"+id+"/tree", &out); err != nil {
					return err
				}
				if out.Image.Status == "error" {
					reason := "the import failed"
					if out.Image.Error != nil {
						reason = *out.Image.Error
					}
					return fmt.Errorf("image %s: %s", out.Image.Name, reason)
				}
			}
		}
		return printTree(cmd, out, asJSON)
	}
	return cmd
}

func releaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "release IMAGE NODE...", Args: cobra.MinimumNArgs(2),
		Short: "Let nodes drop an image that they were told to keep, where no volume needs it",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		id, err := imageID(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var out treeBody
		_, err = request(cmd.Context(), http.MethodPost, []string{"vmthunder", "images", id, "release"},
			map[string]any{"nodes": args[1:]}, &out, http.StatusOK)
		if err != nil {
			return err
		}
		return printTree(cmd, out, asJSON)
	}
	return cmd
}

func printTree(cmd *cobra.Command, out treeBody, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), out)
	}
	return drawTree(cmd.OutOrStdout(), out.Image, out.Members)
}
