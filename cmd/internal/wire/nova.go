package wire

import (
	"cmp"
	"net/http"
	"time"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/nova"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/scheduler"
)

var _ scheduler.Instances = (*nova.Client)(nil)

// novaClient talks to Nova as section [nova] says, and as [keystone_authtoken] where that
// says nothing; nil without Keystone.
func novaClient(c *config.Config) (*nova.Client, error) {
	if c.AuthStrategy != "keystone" {
		return nil, nil //nolint:nilnil // there is none
	}
	k, n := c.Keystone, c.Nova
	transport, err := trusting("nova", cmp.Or(n.CAFile, k.CAFile), n.Insecure || k.Insecure)
	if err != nil {
		return nil, err
	}
	user := keystone.Config{
		AuthURL: cmp.Or(n.AuthURL, k.AuthURL), Region: cmp.Or(n.Region, k.Region), Interface: n.Interface,
		Username: k.Username, Password: k.Password, ProjectName: k.Project, UserDomainName: k.UserDomain, ProjectDomainName: k.ProjectDomain,
		HTTPClient: &http.Client{Transport: transport, Timeout: 20 * time.Second},
	}
	if n.Username != "" {
		user.Username, user.Password, user.ProjectName = n.Username, n.Password, n.Project
		user.UserDomainName, user.ProjectDomainName = n.UserDomain, n.ProjectDomain
	}
	if user.AuthURL == "" || user.Username == "" {
		return nil, configError("[keystone_authtoken] auth_url, username and password are not set")
	}
	return nova.New(nova.Config{User: user, TokenAuthURL: n.TokenAuthURL})
}
