// Package nova talks to the compute service (API v2.1): it asks with the caller's token
// whether a server still uses an attachment, and tells as a service user what servers must
// know about their volumes.
package nova

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// serviceType in the catalog.
const serviceType = "compute"

// Microversions of the compute API: what a request needs, and no more.
const (
	withAttachmentID   = "2.89" // os-volume_attachments shows the attachment's id
	withVolumeExtended = "2.51"
	withVolumeReimaged = "2.93"
)

// Config of a [Client]: section [nova] of vmthunder.conf.
type Config struct {
	// User is the service user. Nova takes events from administrators.
	User keystone.Config
	// TokenAuthURL is token_auth_url: the Keystone at which the caller's token is exchanged
	// for one to ask Nova with, and whose catalog tells where that is. "": the caller's own
	// token is used, at the endpoint in the service user's catalog.
	TokenAuthURL string
}

// Client implements v3.Nova and scheduler.Instances. Safe for concurrent use.
type Client struct {
	cfg  Config
	user *keystone.User
}

var _ v3.Nova = (*Client)(nil)

// New makes a client; it connects to nothing yet.
func New(cfg Config) (*Client, error) {
	if cfg.User.AuthURL == "" || cfg.User.Username == "" {
		return nil, errors.New("nova: auth_url and username are needed")
	}
	if cfg.User.HTTPClient == nil {
		return nil, errors.New("nova: an HTTP client is needed")
	}
	return &Client{cfg: cfg, user: keystone.NewUser(cfg.User)}, nil
}

// asCaller is a client of Nova in the name of who sent the request.
func (c *Client) asCaller(ctx context.Context, id keystone.Identity) (*gophercloud.ServiceClient, error) {
	if c.cfg.TokenAuthURL != "" {
		at := c.cfg.User
		at.AuthURL = c.cfg.TokenAuthURL
		s, err := keystone.Delegate(ctx, at, id, serviceType)
		return withoutProject(s), err
	}
	s, err := c.user.Service(ctx, serviceType)
	if err != nil {
		return nil, err
	}
	p := &gophercloud.ProviderClient{HTTPClient: *c.cfg.User.HTTPClient}
	p.SetToken(id.Token)
	return withoutProject(&gophercloud.ServiceClient{ProviderClient: p, Endpoint: s.Endpoint, Type: serviceType}), nil
}

// withoutProject cuts an endpoint after its version: some catalogs put the project's id
// there, which would be that of the service user, and Nova does not need it.
func withoutProject(s *gophercloud.ServiceClient) *gophercloud.ServiceClient {
	if s == nil {
		return nil
	}
	const version = "/v2.1"
	if i := strings.Index(s.Endpoint, version); i >= 0 {
		s.Endpoint = s.Endpoint[:i+len(version)]
	}
	s.Endpoint = strings.TrimRight(s.Endpoint, "/") + "/"
	return s
}

// Attachment implements v3.Nova: the id of the attachment through which a server uses a
// volume, "" if Nova knows none. Errors: model.ErrNotFound if the server is not there (or
// not for this caller) or does not use the volume, else model.ErrUnavailable.
func (c *Client) Attachment(ctx context.Context, id keystone.Identity, server, volume uuid.UUID) (string, error) {
	what := fmt.Sprintf("volume %s of server %s", volume, server)
	service, err := c.asCaller(ctx, id)
	if err != nil {
		return "", failed(err, what)
	}
	service.Microversion = withAttachmentID
	var body struct {
		VolumeAttachment struct {
			AttachmentID *string `json:"attachment_id"`
		} `json:"volumeAttachment"`
	}
	resp, err := service.Get(ctx, service.ServiceURL("servers", server.String(), "os-volume_attachments", volume.String()), &body, nil)
	finish(resp)
	if err != nil {
		return "", failed(err, what)
	}
	if body.VolumeAttachment.AttachmentID == nil {
		return "", nil
	}
	return *body.VolumeAttachment.AttachmentID, nil
}

// finish closes an answer that gophercloud has read to its end.
func finish(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
}

// failed sorts errors of Nova. It does not wrap gophercloud's, which may quote headers.
func failed(err error, what string) error {
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &code) && code.Actual == http.StatusNotFound:
		return fmt.Errorf("%s: not there for the compute service: %w", what, model.ErrNotFound)
	case errors.As(err, &code):
		return fmt.Errorf("%s: status %d of the compute service: %w", what, code.Actual, model.ErrUnavailable)
	case errors.Is(err, keystone.ErrUnreachable), errors.Is(err, keystone.ErrUnauthorized):
		return fmt.Errorf("%s: %w: %w", what, model.ErrUnavailable, err)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%s: compute service: %w: %w", what, model.ErrUnavailable, u.Err)
	}
	if missing, ok := errors.AsType[*gophercloud.ErrEndpointNotFound](err); ok {
		return fmt.Errorf("%s: the compute service is not in the catalog: %w: %w", what, model.ErrUnavailable, missing)
	}
	return fmt.Errorf("%s: no usable answer of the compute service: %w", what, model.ErrUnavailable)
}
