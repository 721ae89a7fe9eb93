package keystone

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

// client talks to Keystone as the service user. It logs in when first used, and again
// whenever its own token is refused.
type client struct {
	cfg Config

	mu       sync.Mutex
	identity *gophercloud.ServiceClient // nil until logged in
}

func newClient(cfg Config) *client { return &client{cfg: cfg} }

// session logs in if need be.
func (c *client) session(ctx context.Context) (*gophercloud.ServiceClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identity != nil {
		return c.identity, nil
	}
	provider, err := openstack.NewClient(c.cfg.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("%w: auth_url: %w", ErrUnreachable, err)
	}
	provider.HTTPClient = *c.cfg.HTTPClient
	provider.UseTokenLock() // many goroutines, one token
	opts := gophercloud.AuthOptions{
		IdentityEndpoint: c.cfg.AuthURL,
		Username:         c.cfg.Username, Password: c.cfg.Password,
		DomainID: c.cfg.UserDomainID, AllowReauth: true,
		Scope: &gophercloud.AuthScope{ProjectName: c.cfg.ProjectName, DomainID: c.cfg.ProjectDomainID},
	}
	if opts.DomainID == "" {
		opts.DomainName = c.cfg.UserDomainName
	}
	if opts.Scope.DomainID == "" {
		opts.Scope.DomainName = c.cfg.ProjectDomainName
	}
	if err := openstack.AuthenticateV3(ctx, provider, &opts, gophercloud.EndpointOpts{}); err != nil {
		return nil, fmt.Errorf("%w: log in as %s: %s", ErrUnreachable, c.cfg.Username, brief(err))
	}
	// Without options: at auth_url. The catalog may name an address that this host can't reach.
	identity, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	c.identity = identity
	return identity, nil
}

// forget drops the session, so that the next request logs in anew.
func (c *client) forget(old *gophercloud.ServiceClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identity == old {
		c.identity = nil
	}
}

// named is a thing with id and name in a token.
type named struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain struct {
		ID string `json:"id"`
	} `json:"domain"`
}

// token is the body of GET /v3/auth/tokens, as far as it is of use here.
type token struct {
	Token struct {
		ExpiresAt time.Time `json:"expires_at"`
		User      named     `json:"user"`
		Project   named     `json:"project"`
		Domain    named     `json:"domain"` // the token's own
		System    struct {
			All bool `json:"all"`
		} `json:"system"`
		Roles []named `json:"roles"`
	} `json:"token"`
}

// validate returns the identity of a token and its end; nil if Keystone refuses it.
func (c *client) validate(ctx context.Context, subject string, expired bool) (*Identity, time.Time, error) {
	session, err := c.session(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	url := session.ServiceURL("auth", "tokens") + "?nocatalog=1"
	if expired {
		url += "&allow_expired=1"
	}
	var t token
	resp, err := session.Get(ctx, url, &t, &gophercloud.RequestOpts{
		MoreHeaders: map[string]string{"X-Subject-Token": subject},
		OkCodes:     []int{http.StatusOK, http.StatusNonAuthoritativeInfo},
	})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // read to its end by gophercloud
	}
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound), gophercloud.ResponseCodeIs(err, http.StatusBadRequest):
		return nil, time.Time{}, nil
	case gophercloud.ResponseCodeIs(err, http.StatusUnauthorized):
		// Our own token, after gophercloud tried to renew it.
		c.forget(session)
		return nil, time.Time{}, fmt.Errorf("%w: the service user %s is refused", ErrUnreachable, c.cfg.Username)
	case err != nil:
		c.forget(session)
		// The error may quote request headers; it is not passed on as it is.
		return nil, time.Time{}, fmt.Errorf("%w: validate a token: %s", ErrUnreachable, brief(err))
	}
	id := &Identity{
		UserID: t.Token.User.ID, UserName: t.Token.User.Name,
		ProjectID: t.Token.Project.ID, ProjectName: t.Token.Project.Name, DomainID: t.Token.Project.Domain.ID,
		UserDomainID: t.Token.User.Domain.ID, ScopeDomainID: t.Token.Domain.ID,
	}
	if t.Token.System.All {
		id.SystemScope = "all"
	}
	for _, r := range t.Token.Roles {
		id.Roles = append(id.Roles, r.Name)
	}
	id.Admin = slices.Contains(id.Roles, AdminRole)
	return id, t.Token.ExpiresAt, nil
}

// endpoint looks into the catalog.
func (c *client) endpoint(ctx context.Context, serviceType string) (string, error) {
	session, err := c.session(ctx)
	if err != nil {
		return "", err
	}
	url, err := locate(session.ProviderClient, c.cfg, serviceType)
	if err != nil {
		c.forget(session) // the catalog is that of the login; it may have the service now
	}
	return url, err
}
