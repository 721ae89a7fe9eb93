package keystone

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

// User is a service user of another service than Keystone: it logs in when first used, and
// again when its token has expired. Safe for concurrent use.
type User struct{ client *client }

// NewUser makes one; it does not talk to Keystone yet. Of the configuration the login, region,
// interface, timeout and HTTP client count.
func NewUser(cfg Config) *User {
	cfg.defaults()
	return &User{newClient(cfg)}
}

// Service is a client, as this user, of a service at its endpoint in the catalog, for
// instance "compute". Errors: ErrUnreachable, or that the catalog has no such endpoint.
func (u *User) Service(ctx context.Context, serviceType string) (*gophercloud.ServiceClient, error) {
	session, err := u.client.session(ctx)
	if err != nil {
		return nil, err
	}
	endpoint, err := u.client.endpoint(ctx, serviceType)
	if err != nil {
		return nil, err
	}
	return &gophercloud.ServiceClient{ProviderClient: session.ProviderClient, Endpoint: endpoint, Type: serviceType}, nil
}

// Delegate is a client of a service as the caller whose token and project are given: the
// token is exchanged for another one at cfg.AuthURL, and the catalog that comes with that
// one tells the endpoint. Errors: ErrUnauthorized if the token is refused, else as
// [User.Service].
func Delegate(ctx context.Context, cfg Config, id Identity, serviceType string) (*gophercloud.ServiceClient, error) {
	cfg.defaults()
	provider, err := openstack.NewClient(cfg.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("%w: auth_url: %w", ErrUnreachable, err)
	}
	provider.HTTPClient = *cfg.HTTPClient
	opts := gophercloud.AuthOptions{
		IdentityEndpoint: cfg.AuthURL, TokenID: id.Token, Scope: &gophercloud.AuthScope{ProjectID: id.ProjectID},
	}
	err = openstack.AuthenticateV3(ctx, provider, &opts, gophercloud.EndpointOpts{})
	switch {
	case gophercloud.ResponseCodeIs(err, 401):
		return nil, fmt.Errorf("exchange the caller's token: %w", ErrUnauthorized)
	case err != nil:
		return nil, fmt.Errorf("%w: exchange the caller's token: %s", ErrUnreachable, brief(err))
	}
	endpoint, err := locate(provider, cfg, serviceType)
	if err != nil {
		return nil, err
	}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: endpoint, Type: serviceType}, nil
}

// locate looks into the catalog that a login has brought.
func locate(provider *gophercloud.ProviderClient, cfg Config, serviceType string) (string, error) {
	url, err := provider.EndpointLocator(gophercloud.EndpointOpts{
		Type: serviceType, Region: cfg.Region, Availability: gophercloud.Availability(cfg.Interface),
	})
	if err != nil {
		return "", fmt.Errorf("endpoint of %s in the catalog (interface %s, region %q): %w", serviceType, cfg.Interface, cfg.Region, err)
	}
	return url, nil
}
