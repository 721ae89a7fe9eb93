package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/cmd/internal/wire"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// Operator is the main function of vmthunder.
func Operator(args []string) int {
	root := &cobra.Command{Use: "vmthunder", Short: "VMThunder's operator command"}
	load := configFlag(root)

	db := &cobra.Command{Use: "db", Short: "The database"}
	db.AddCommand(
		&cobra.Command{Use: "sync", Short: "Bring the schema to this version's", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load()
			if err != nil {
				return err
			}
			return wire.Sync(cmd.Context(), c, cmd.OutOrStdout())
		}},
	)
	conf := &cobra.Command{Use: "config", Short: "The configuration"}
	conf.AddCommand(
		&cobra.Command{Use: "sample", Short: "Print a sample file with every option", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return config.Sample(cmd.OutOrStdout())
		}},
		&cobra.Command{Use: "check", Short: "Check the configuration files", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load()
			if err != nil {
				return err
			}
			if _, err := wire.Filters(c); err != nil {
				return err
			}
			if _, err := wire.Rules(c); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "no errors")
			return err
		}},
	)
	rules := &cobra.Command{Use: "policy", Short: "Who may do what"}
	rules.AddCommand(&cobra.Command{
		Use: "sample", Short: "Print a policy.yaml with every rule at its default", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return policy.Sample(cmd.OutOrStdout()) },
	})
	node := &cobra.Command{Use: "node", Short: "Nodes"}
	node.AddCommand(listCommand("list", "List nodes", printNodes), nodeShowCommand(), drainCommand(), undrainCommand(), &cobra.Command{
		Use: "forget-pool NODE", Short: "Have a node take the pool that it finds, after its disk was exchanged; what was in the old one is lost",
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), http.MethodPost, "nodes/"+url.PathEscape(args[0])+"/forget-pool", http.StatusAccepted, nil)
		},
	})
	image := &cobra.Command{Use: "image", Short: "Images in the trees"}
	image.AddCommand(listCommand("list", "List images and the progress of their imports", printImages), warmCommand(), releaseCommand())
	volume := &cobra.Command{Use: "volume", Short: "Volumes"}
	volume.AddCommand(whereCommand())
	root.AddCommand(db, conf, rules, node, image, volume, treeCommand(), doctorCommand(), catalogCommand(load))
	return execute(root, args)
}

// authFromEnv reads the variables that the openstack command reads.
func authFromEnv() (gophercloud.AuthOptions, error) {
	env := func(names ...string) string {
		for _, n := range names {
			if v := os.Getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	auth := gophercloud.AuthOptions{
		IdentityEndpoint: env("OS_AUTH_URL"), Username: env("OS_USERNAME"), UserID: env("OS_USER_ID"), Password: env("OS_PASSWORD"),
		ApplicationCredentialID: env("OS_APPLICATION_CREDENTIAL_ID"), ApplicationCredentialSecret: env("OS_APPLICATION_CREDENTIAL_SECRET"),
		TokenID: env("OS_TOKEN"),
	}
	if auth.Username != "" {
		auth.DomainName = env("OS_USER_DOMAIN_NAME")
		if auth.DomainID = env("OS_USER_DOMAIN_ID"); auth.DomainID == "" && auth.DomainName == "" {
			auth.DomainName = "Default"
		}
	}
	if auth.ApplicationCredentialID == "" {
		scope := gophercloud.AuthScope{ProjectID: env("OS_PROJECT_ID", "OS_TENANT_ID"), ProjectName: env("OS_PROJECT_NAME", "OS_TENANT_NAME")}
		if scope.ProjectID != "" {
			scope.ProjectName = ""
		} else if scope.DomainID = env("OS_PROJECT_DOMAIN_ID"); scope.DomainID == "" {
			scope.DomainName = env("OS_PROJECT_DOMAIN_NAME")
			if scope.DomainName == "" {
				scope.DomainName = "Default"
			}
		}
		auth.Scope = &scope
	}
	for _, missing := range []struct {
		name string
		ok   bool
	}{
		{"OS_AUTH_URL", auth.IdentityEndpoint != ""},
		{"OS_USERNAME", auth.Username+auth.UserID+auth.ApplicationCredentialID+auth.TokenID != ""},
		{"OS_PASSWORD", auth.Password+auth.ApplicationCredentialSecret+auth.TokenID != ""},
		{"OS_PROJECT_NAME", auth.Scope == nil || auth.Scope.ProjectID+auth.Scope.ProjectName != ""},
	} {
		if !missing.ok {
			return auth, usageError{fmt.Errorf("%s is not set; source your openrc", missing.name)}
		}
	}
	return auth, nil
}

// operatorAPI connects to the volume service as the OS_* variables say.
func operatorAPI(ctx context.Context) (*gophercloud.ServiceClient, error) {
	auth, err := authFromEnv()
	if err != nil {
		return nil, err
	}
	provider, err := openstack.AuthenticatedClient(ctx, auth)
	if err != nil {
		return nil, fmt.Errorf("log in to Keystone at %s: %w", auth.IdentityEndpoint, err)
	}
	client, err := openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: os.Getenv("OS_REGION_NAME")})
	if err != nil {
		return nil, fmt.Errorf("volume service in the catalog: %w", err)
	}
	return client, nil
}

// get asks the operator's part of the API.
func get(ctx context.Context, path string, out any) error {
	return ask(ctx, http.MethodGet, path, http.StatusOK, out)
}

// ask sends a request to it; any status but the one wanted is an error, in the service's words.
func ask(ctx context.Context, method, path string, status int, out any) error {
	_, err := request(ctx, method, []string{"vmthunder", path}, nil, out, status)
	return err
}

// printer fetches and prints one thing; asJSON prints it as it came.
type printer func(ctx context.Context, w io.Writer, asJSON bool) error

func listCommand(use, short string, p printer) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		return p(cmd.Context(), cmd.OutOrStdout(), asJSON)
	}
	return cmd
}

func outputFlag(cmd *cobra.Command) func() (asJSON bool, err error) {
	o := cmd.Flags().StringP("output", "o", "table", "table or json")
	return func() (bool, error) {
		if *o != "table" && *o != "json" {
			return false, usageError{fmt.Errorf("--output %s: table or json", *o)}
		}
		return *o == "json", nil
	}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printNodes(ctx context.Context, w io.Writer, asJSON bool) error {
	var out struct {
		Nodes []view.Node `json:"nodes"`
	}
	if err := get(ctx, "nodes", &out); err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, out.Nodes)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tSTATE\tROLES\tZONE\tVOLUMES\tPOOL FREE\tPOOL\tCACHE\tTARGET\tADDRESS")
	for _, n := range out.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s of %s\t%s\t%s\t%s\t%s\n", n.Host, state(n), roles(n), n.AvailabilityZone, n.Volumes,
			size(n.PoolFree), size(n.PoolTotal), n.PoolState, n.CacheDriver, n.TargetHelper, n.Address)
	}
	return t.Flush()
}

func printImages(ctx context.Context, w io.Writer, asJSON bool) error {
	var out struct {
		Images []view.Image `json:"images"`
	}
	if err := get(ctx, "images", &out); err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, out.Images)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tFORMAT\tSTATUS\tVIRTUAL SIZE\tPROGRESS")
	for _, i := range out.Images {
		progress := i.Progress
		if i.Error != nil {
			progress = *i.Error
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Name, i.DiskFormat, i.Status, size(i.VirtualBytes), progress)
	}
	return t.Flush()
}

func treeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tree IMAGE", Short: "Draw who reads an image from whom", Args: cobra.ExactArgs(1)}
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
		if err := get(cmd.Context(), "images/"+id+"/tree", &out); err != nil {
			return err
		}
		return printTree(cmd, out, asJSON)
	}
	return cmd
}

// imageID finds an image by id or by name among those in the trees.
func imageID(ctx context.Context, ref string) (string, error) {
	var out struct {
		Images []view.Image `json:"images"`
	}
	if err := get(ctx, "images", &out); err != nil {
		return "", err
	}
	found := ""
	for _, i := range out.Images {
		if i.ID == ref {
			return ref, nil
		}
		if i.Name == ref {
			if found != "" {
				return "", fmt.Errorf("several images are called %s; use the id (vmthunder image list)", ref)
			}
			found = i.ID
		}
	}
	if found == "" {
		return "", fmt.Errorf("no image %s is in a tree; vmthunder image list shows those that are", ref)
	}
	return found, nil
}

func drawTree(w io.Writer, image view.Image, members []view.Member) error {
	fmt.Fprintf(w, "%s (%s), %s, %s\n", image.Name, image.ID, size(image.VirtualBytes), image.Status)
	rows := make([]model.Member, 0, len(members))
	by := map[string]view.Member{}
	for _, m := range members {
		by[m.Host] = m
		rows = append(rows, model.Member{Host: m.Host, Parent: m.Parent, Role: model.MemberRole(m.Role)})
	}
	return tree.Draw(w, rows, func(m model.Member) string {
		v := by[m.Host]
		s := "[" + v.State + "]"
		if v.Role == string(model.RoleRelay) {
			s += " ← " + size(v.UpstreamBytes)
		}
		if v.ServedBytes > 0 {
			s += " → " + size(v.ServedBytes)
		}
		if v.ReadBytes > 0 {
			s += ", volumes read " + size(v.ReadBytes)
		}
		if n := v.ReadBytes + v.ServedBytes; n > 0 && v.Role == string(model.RoleRelay) {
			s += fmt.Sprintf(", hit ratio %.0f %%", 100*max(0, 1-float64(v.UpstreamBytes)/float64(n)))
		}
		if v.ObservedParent != "" && v.Parent != nil && v.ObservedParent != *v.Parent {
			s += ", reads from " + v.ObservedParent
		}
		if v.Error != "" {
			s += ": " + v.Error
		}
		return s
	})
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "," + b
}

// size in binary units, three digits.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
