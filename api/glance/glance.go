// Package glance asks the image service (API v2) about images, with the caller's token.
package glance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// Formats of disks that volumes can be made from.
func Formats() []string { return []string{"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso"} }

// Config of a [Client].
type Config struct {
	// Servers are glance_api_servers, tried in order; empty: the catalog's.
	Servers []string
	// Catalog finds the endpoint if Servers is empty, for instance with keystone.Validator's
	// Endpoint of "image".
	Catalog    func(ctx context.Context) (string, error)
	HTTPClient *http.Client // default: a client with 20 seconds
}

// Client implements v3.Glance. Safe for concurrent use.
type Client struct{ cfg Config }

var _ v3.Glance = (*Client)(nil)

// New makes a client; it connects to nothing yet.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 && cfg.Catalog == nil {
		return nil, errors.New("glance: servers or a catalog are needed")
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{Timeout: 20 * time.Second}
	}
	return &Client{cfg: cfg}, nil
}

// Image implements v3.Glance. ref is an id or a name; names must be unique among what
// the caller can see. Errors: model.ErrNotFound, v3.ErrAmbiguous, model.ErrInvalid (not
// active, or a format that can't be served), model.ErrUnavailable.
func (c *Client) Image(ctx context.Context, who keystone.Identity, ref string) (model.Image, error) {
	servers, err := c.servers(ctx)
	if err != nil {
		return model.Image{}, err
	}
	for _, server := range servers {
		var img *images.Image
		img, err = c.find(ctx, server, who.Token, ref)
		if err == nil {
			return toModel(img)
		}
		if !errors.Is(err, model.ErrUnavailable) {
			return model.Image{}, err
		}
	}
	return model.Image{}, err
}

func (c *Client) servers(ctx context.Context) ([]string, error) {
	if len(c.cfg.Servers) > 0 {
		return c.cfg.Servers, nil
	}
	s, err := c.cfg.Catalog(ctx)
	if err != nil {
		return nil, fmt.Errorf("image service in the catalog: %w: %w", model.ErrUnavailable, err)
	}
	return []string{s}, nil
}

func (c *Client) service(server, token string) *gophercloud.ServiceClient {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	server = strings.TrimSuffix(strings.TrimRight(server, "/"), "/v2") + "/"
	p := &gophercloud.ProviderClient{HTTPClient: *c.cfg.HTTPClient}
	p.SetToken(token)
	return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: server, ResourceBase: server + "v2/", Type: "image"}
}

func (c *Client) find(ctx context.Context, server, token, ref string) (*images.Image, error) {
	service := c.service(server, token)
	if id, err := uuid.Parse(ref); err == nil {
		img, err := images.Get(ctx, service, id.String()).Extract()
		return img, failed(err, ref)
	}
	var page struct {
		Images []images.Image `json:"images"`
	}
	// Two rows are enough to see that a name is not unique.
	resp, err := service.Get(ctx, service.ServiceURL("images")+"?limit=2&name="+url.QueryEscape(ref), &page, nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // read to its end by gophercloud
	}
	switch {
	case err != nil:
		return nil, failed(err, ref)
	case len(page.Images) == 0:
		return nil, fmt.Errorf("image %s: %w", ref, model.ErrNotFound)
	case len(page.Images) > 1:
		return nil, fmt.Errorf("image %s: %w", ref, v3.ErrAmbiguous)
	}
	return &page.Images[0], nil
}

// failed sorts errors of Glance. It does not wrap gophercloud's, which may quote headers.
func failed(err error, ref string) error {
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case err == nil:
		return nil
	case errors.As(err, &code) && slices.Contains([]int{400, 401, 403, 404}, code.Actual):
		// Also what is not the caller's is not there.
		return fmt.Errorf("image %s: status %d of the image service: %w", ref, code.Actual, model.ErrNotFound)
	case errors.As(err, &code):
		return fmt.Errorf("image %s: status %d of the image service: %w", ref, code.Actual, model.ErrUnavailable)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("image %s: %w: %w", ref, model.ErrUnavailable, u.Err)
	}
	return fmt.Errorf("image %s: no usable answer of the image service: %w", ref, model.ErrUnavailable)
}

// toModel refuses what can't be served and keeps what the project has use for.
func toModel(i *images.Image) (model.Image, error) {
	id, err := uuid.Parse(i.ID)
	if err != nil {
		return model.Image{}, fmt.Errorf("image %q has an id that is none: %w", i.ID, model.ErrInvalid)
	}
	if i.Status != images.ImageStatusActive {
		return model.Image{}, fmt.Errorf("%w: Image %s is not active.", model.ErrInvalid, id) //nolint:revive // Cinder's sentence
	}
	if !slices.Contains(Formats(), i.DiskFormat) {
		return model.Image{}, fmt.Errorf("%w: Image %s has disk format %s; volumes can be made from: %s.", //nolint:revive // as above
			model.ErrInvalid, id, i.DiskFormat, strings.Join(Formats(), ", "))
	}
	m := model.Image{
		ID: id, Name: i.Name, DiskFormat: i.DiskFormat, ContainerFormat: i.ContainerFormat, SizeBytes: i.SizeBytes,
		Checksum: i.Checksum, MinDiskGiB: i.MinDiskGigabytes, MinRAMMiB: i.MinRAMMegabytes,
		VirtualBytes: i.VirtualSize, Properties: model.StringMap{}, Status: model.ImageQueued,
	}
	if i.DiskFormat == "raw" && m.VirtualBytes == 0 {
		m.VirtualBytes = m.SizeBytes
	}
	for k, v := range i.Properties {
		switch k {
		case "os_hash_algo":
			m.HashAlgo = text(v)
		case "os_hash_value":
			m.HashValue = text(v)
		case "self", "locations", "direct_url", "properties", "stores":
		default:
			if s := text(v); s != "" {
				m.Properties[k] = s
			}
		}
	}
	return m, nil
}

// text of a property; null and things that are no scalars are "".
func text(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case bool:
		if x {
			return "True"
		}
		return "False"
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return ""
}
