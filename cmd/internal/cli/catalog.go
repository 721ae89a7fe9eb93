package cli

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/cmd/internal/wire"
)

// catalogServices are how OpenStack calls a volume service: Nova looks for the first by its
// name and its type, newer clients for the second by its type.
var catalogServices = []struct{ name, kind string }{{"cinderv3", "volumev3"}, {"cinder", "block-storage"}}

// interfaces of a service's endpoints.
var interfaces = []string{"public", "internal", "admin"}

func catalogCommand(load func() (*config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: "catalog", Short: "Show what Keystone must know of the volume service and, with --apply, have it so", Args: cobra.NoArgs,
		Long: `catalog compares Keystone with what the volume service needs there: the services volumev3
and block-storage with their endpoints in one region, and the service user that section
[keystone_authtoken] of the configuration names, with its project and roles. It prints
what is right already and what would be made or changed; --apply makes and changes it.
Nothing is ever deleted, and a user that is there keeps its password. The OS_* variables
name an administrator.`,
	}
	f := cmd.Flags()
	at := f.String("url", "", "where clients reach the REST API, without /v3 (default [DEFAULT] public_endpoint, or my_ip and the port)")
	internal := f.String("internal-url", "", "the same for the internal endpoint (default --url)")
	admin := f.String("admin-url", "", "the same for the admin endpoint (default --url)")
	region := f.String("region", "", "region of the endpoints (default [keystone_authtoken] region_name, then OS_REGION_NAME)")
	roles := f.StringSlice("role", []string{"service", "admin"}, "roles of the service user in its project")
	apply := f.Bool("apply", false, "make and change what is missing or wrong")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := output()
		if err != nil {
			return err
		}
		c, err := load()
		if err != nil {
			return err
		}
		want := registration{region: cmp.Or(*region, c.Keystone.Region, os.Getenv("OS_REGION_NAME")), user: c.Keystone, roles: *roles, urls: map[string]string{}}
		if want.region == "" {
			return usageError{fmt.Errorf("no region: use --region")}
		}
		if want.user.Username == "" {
			return usageError{fmt.Errorf("[keystone_authtoken] username is not set")}
		}
		base := *at
		if base == "" {
			if base, err = ownURL(c); err != nil {
				return err
			}
		}
		for i, u := range []string{base, cmp.Or(*internal, base), cmp.Or(*admin, base)} {
			if want.urls[interfaces[i]], err = endpointURL(u); err != nil {
				return err
			}
		}
		auth, err := authFromEnv()
		if err != nil {
			return err
		}
		provider, err := openstack.AuthenticatedClient(cmd.Context(), auth)
		if err != nil {
			return fmt.Errorf("log in to Keystone at %s: %w", auth.IdentityEndpoint, err)
		}
		// At OS_AUTH_URL, which just has answered, rather than where the catalog says.
		identity, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
		if err != nil {
			return err
		}
		r := registrar{identity: identity, apply: *apply}
		err = r.run(cmd.Context(), want)
		if perr := printCatalog(cmd.OutOrStdout(), r.rows, *apply, asJSON); err == nil {
			err = perr
		}
		return err
	}
	return cmd
}

// ownURL is where the configuration says that the REST API is.
func ownURL(c *config.Config) (string, error) {
	if c.PublicEndpoint != "" {
		return c.PublicEndpoint, nil
	}
	if err := wire.Identity(c); err != nil {
		return "", err
	}
	if c.MyIP == "" {
		return "", usageError{fmt.Errorf("this host has no address that others could reach: use --url")}
	}
	return "http://" + net.JoinHostPort(c.MyIP, strconv.Itoa(c.ListenPort)), nil
}

// endpointURL is an endpoint's URL as the catalog wants it: with the version, which Nova
// looks for in it, and Keystone's placeholder for the project.
func endpointURL(s string) (string, error) {
	const version = "/v3"
	base, rest, found := strings.Cut(strings.TrimRight(s, "/"), version)
	u, err := url.Parse(base)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "", u.User != nil:
		return "", usageError{fmt.Errorf("%q is no URL of the form http://HOST:PORT", s)}
	case found && rest != "" && rest != "/%(project_id)s" && rest != "/%(tenant_id)s" && rest != "/$(project_id)s" && rest != "/$(tenant_id)s":
		return "", usageError{fmt.Errorf("%q goes on after %s; leave both out", s, version)}
	}
	return base + version + "/%(project_id)s", nil
}

func printCatalog(w io.Writer, rows []registered, applied, asJSON bool) error {
	if asJSON {
		if rows == nil {
			rows = []registered{}
		}
		return printJSON(w, rows)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACTION\tKIND\tNAME\tVALUE")
	changes := 0
	for _, r := range rows {
		value := r.Value
		if r.Before != "" {
			value += " (was " + r.Before + ")"
		}
		action := r.Action
		if action != actionKeep {
			changes++
			if r.Done {
				action += "d"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", action, r.Kind, r.Name, value)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if changes > 0 && !applied {
		_, err := fmt.Fprintf(w, "%d to make or change; nothing has been done, --apply does it\n", changes)
		return err
	}
	return nil
}
