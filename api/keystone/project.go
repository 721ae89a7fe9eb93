package keystone

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
)

// Project tells whether a project exists, as far as the caller may know: Keystone is asked
// with the caller's token. Error: ErrUnreachable.
func (v *Validator) Project(ctx context.Context, id Identity, project string) (bool, error) {
	provider, err := openstack.NewClient(v.cfg.AuthURL)
	if err != nil {
		return false, fmt.Errorf("%w: auth_url: %w", ErrUnreachable, err)
	}
	provider.HTTPClient = *v.cfg.HTTPClient
	provider.SetToken(id.Token)
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	err = projects.Get(ctx, client, url.PathEscape(project)).Err
	switch {
	case err == nil:
		return true, nil
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound), gophercloud.ResponseCodeIs(err, http.StatusForbidden):
		return false, nil
	}
	return false, fmt.Errorf("%w: look up a project: %s", ErrUnreachable, brief(err))
}
