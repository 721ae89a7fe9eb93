package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/vmthunder/vmthunder/driver"
)

// GlanceConfig says how to reach Glance; the fields are those of a
// keystoneauth section with auth_type = password.
type GlanceConfig struct {
	AuthURL           string
	Username          string
	Password          string
	UserDomainName    string // empty: Default
	ProjectName       string
	ProjectDomainName string // empty: Default
	RegionName        string // empty: any
	Interface         string // public (also if empty), internal, admin
	// Endpoint overrides the catalog's, without /v2.
	Endpoint string
	// HTTP is used for all requests; nil: one with timeouts for connecting and headers.
	HTTP *http.Client
}

// String names the endpoint and user; never the password.
func (c GlanceConfig) String() string { return c.AuthURL + " as " + c.Username }

// GoString is String.
func (c GlanceConfig) GoString() string { return c.String() }

// Source is where images come from: [Glance].
type Source interface {
	// Describe fills what s lacks: size and hashes. ErrNotFound, or ErrUnusable
	// if the image has no data.
	Describe(ctx context.Context, s driver.ImageSource) (driver.ImageSource, error)
	// Open reads an image's bytes from offset on, or from the beginning if that is not
	// possible; start says which.
	Open(ctx context.Context, imageID string, offset int64) (body io.ReadCloser, start int64, err error)
}

// Glance reads images from the image service. It logs in at the first use.
type Glance struct {
	config GlanceConfig
	client chan *gophercloud.ServiceClient // holds it; nil: not logged in yet
}

var _ Source = (*Glance)(nil)

// NewGlance makes a Glance.
func NewGlance(c GlanceConfig) *Glance {
	if c.HTTP == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if ok {
			t = t.Clone()
			t.ResponseHeaderTimeout = time.Minute
			c.HTTP = &http.Client{Transport: t}
		} else {
			c.HTTP = &http.Client{}
		}
	}
	if c.UserDomainName == "" {
		c.UserDomainName = "Default"
	}
	if c.ProjectDomainName == "" {
		c.ProjectDomainName = "Default"
	}
	if c.Interface == "" {
		c.Interface = "public"
	}
	g := &Glance{config: c, client: make(chan *gophercloud.ServiceClient, 1)}
	g.client <- nil
	return g
}

func (g *Glance) connect(ctx context.Context) (*gophercloud.ServiceClient, error) {
	var client *gophercloud.ServiceClient
	select {
	case client = <-g.client:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client != nil {
		g.client <- client
		return client, nil
	}
	result := make(chan error, 1)
	go func() { // gophercloud looks for versions without a context
		c, err := g.login(ctx)
		client = c
		g.client <- c
		result <- err
	}()
	select {
	case err := <-result:
		return client, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (g *Glance) login(ctx context.Context) (*gophercloud.ServiceClient, error) {
	c := g.config
	p, err := openstack.NewClient(c.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("glance: %w", err)
	}
	p.HTTPClient = *c.HTTP
	p.UseTokenLock()
	err = openstack.Authenticate(ctx, p, gophercloud.AuthOptions{
		IdentityEndpoint: c.AuthURL,
		Username:         c.Username, Password: c.Password, DomainName: c.UserDomainName,
		AllowReauth: true,
		Scope:       &gophercloud.AuthScope{ProjectName: c.ProjectName, DomainName: c.ProjectDomainName},
	})
	if err != nil {
		return nil, g.explain("log in at Keystone", err)
	}
	client, err := openstack.NewImageV2(p, gophercloud.EndpointOpts{
		Region: c.RegionName, Availability: gophercloud.Availability(strings.TrimSuffix(c.Interface, "URL")),
	})
	if c.Endpoint != "" {
		base := strings.TrimSuffix(strings.TrimSuffix(c.Endpoint, "/"), "/v2") + "/"
		client, err = &gophercloud.ServiceClient{
			ProviderClient: p, Endpoint: base, ResourceBase: base + "v2/", Type: "image",
		}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("glance: endpoint in the catalog: %w: %w", driver.ErrUnreachable, err)
	}
	return client, nil
}

// explain makes a sentinel of gophercloud's error. It leaves out the response's
// body, which may be long.
func (g *Glance) explain(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("glance: %s: %w", what, err)
	}
	if _, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return fmt.Errorf("glance: %s: %w", what, driver.ErrAuth)
	}
	status, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return fmt.Errorf("glance: %s: %w: %w", what, driver.ErrUnreachable, err)
	}
	kind := driver.ErrUnreachable
	switch status.Actual {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = driver.ErrAuth
	case http.StatusNotFound, http.StatusGone:
		kind = driver.ErrNotFound
	}
	return fmt.Errorf("glance: %s: status %d: %w", what, status.Actual, kind)
}

// Describe implements [Source].
func (g *Glance) Describe(ctx context.Context, s driver.ImageSource) (driver.ImageSource, error) {
	client, err := g.connect(ctx)
	if err != nil {
		return s, err
	}
	m, err := images.Get(ctx, client, s.ImageID).Extract()
	if err != nil {
		return s, g.explain("image "+s.ImageID, err)
	}
	if m.Status != images.ImageStatusActive {
		// It may become active; a deleted one won't, but then it is soon not found.
		return s, fmt.Errorf("glance: image %s is %s: %w", s.ImageID, m.Status, driver.ErrNotFound)
	}
	text := func(key string) string {
		v, _ := m.Properties[key].(string)
		return v
	}
	if s.DiskFormat == "" {
		s.DiskFormat = m.DiskFormat
	}
	if s.SizeBytes < 0 {
		s.SizeBytes = m.SizeBytes
	}
	if s.HashValue == "" {
		s.HashAlgo, s.HashValue = text("os_hash_algo"), text("os_hash_value")
	}
	if s.Checksum == "" {
		s.Checksum = m.Checksum
	}
	return s, nil
}

// Open implements [Source]. Glance answers a Range with 206, with 400 if its store
// can't read from the middle, and with 416 if it does not like the Range
// (glance/api/v2/image_data.py, glance/common/wsgi.py).
func (g *Glance) Open(ctx context.Context, id string, offset int64) (io.ReadCloser, int64, error) {
	client, err := g.connect(ctx)
	if err != nil {
		return nil, 0, err
	}
	// Without Accept-Encoding, Go asks for gzip and a proxy may give it.
	o := &gophercloud.RequestOpts{
		MoreHeaders:      map[string]string{"Accept": "application/octet-stream", "Accept-Encoding": "identity"},
		KeepResponseBody: true,
		OkCodes:          []int{http.StatusOK, http.StatusPartialContent},
	}
	if offset > 0 {
		o.MoreHeaders["Range"] = "bytes=" + strconv.FormatInt(offset, 10) + "-"
	}
	resp, err := client.Get(ctx, client.ServiceURL("images", id, "file"), nil, o)
	if offset > 0 && (gophercloud.ResponseCodeIs(err, http.StatusBadRequest) ||
		gophercloud.ResponseCodeIs(err, http.StatusRequestedRangeNotSatisfiable)) {
		return g.Open(ctx, id, 0)
	}
	if err != nil {
		return nil, 0, g.explain("download image "+id, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, 0, nil
	}
	start, ok := rangeStart(resp.Header.Get("Content-Range"))
	if !ok || start != offset {
		_ = resp.Body.Close()
		if offset > 0 {
			return g.Open(ctx, id, 0)
		}
		return nil, 0, fmt.Errorf("glance: download image %s: unasked-for part: %w", id, driver.ErrUnreachable)
	}
	return resp.Body, start, nil
}

// rangeStart reads "bytes 5-9/10".
func rangeStart(s string) (int64, bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, false
	}
	first, _, ok := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	return n, ok && err == nil && n >= 0
}
