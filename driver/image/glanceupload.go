package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/vmthunder/vmthunder/driver"
)

var _ Sink = (*Glance)(nil)

// State implements [Sink].
func (g *Glance) State(ctx context.Context, id string) (ImageState, error) {
	client, err := g.connect(ctx)
	if err != nil {
		return ImageState{}, err
	}
	m, err := images.Get(ctx, client, id).Extract()
	if err != nil {
		return ImageState{}, g.explain("image "+id, err)
	}
	text := func(key string) string {
		v, _ := m.Properties[key].(string)
		return v
	}
	return ImageState{Status: string(m.Status), SizeBytes: m.SizeBytes, HashAlgo: text("os_hash_algo"), HashValue: text("os_hash_value")}, nil
}

// Send implements [Sink]. The body goes in chunks, so that Glance can tell one that was cut
// short from one that has ended.
func (g *Glance) Send(ctx context.Context, id string, body io.Reader) error {
	client, err := g.connect(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Put(ctx, client.ServiceURL("images", id, "file"), nil, nil, &gophercloud.RequestOpts{
		RawBody: body, OkCodes: []int{http.StatusNoContent},
		MoreHeaders: map[string]string{"Content-Type": "application/octet-stream"},
	})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err == nil {
		return nil
	}
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		switch {
		case code.Actual == http.StatusConflict: // somebody is at it already, or was just now
		case code.Actual == http.StatusRequestEntityTooLarge:
			return fmt.Errorf("glance: the image is larger than the image service's limits, quota or storage allow: status %d: %w", code.Actual, driver.ErrNoSpace)
		case code.Actual >= 400 && code.Actual < 500:
			return fmt.Errorf("glance: upload of image %s is refused: status %d: %w", id, code.Actual, driver.ErrUnusable)
		}
	}
	return g.explain("upload image "+id, err)
}

// Delete implements [Sink].
func (g *Glance) Delete(ctx context.Context, id string) error {
	client, err := g.connect(ctx)
	if err != nil {
		return err
	}
	err = images.Delete(ctx, client, id).ExtractErr()
	if gophercloud.ResponseCodeIs(err, http.StatusForbidden) { // it may be protected
		open := images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}
		if _, err := images.Update(ctx, client, id, open).Extract(); err != nil {
			return g.explain("delete image "+id, err)
		}
		err = images.Delete(ctx, client, id).ExtractErr()
	}
	if err == nil || gophercloud.ResponseCodeIs(err, http.StatusNotFound) || gophercloud.ResponseCodeIs(err, http.StatusGone) {
		return nil
	}
	return g.explain("delete image "+id, err)
}

// Abandon deletes an image that has not got its data. One that has, or is not there, is
// left alone.
func (g *Glance) Abandon(ctx context.Context, id string) error {
	s, err := g.State(ctx, id)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	if err != nil || s.Status != imageQueued && s.Status != imageSaving {
		return err
	}
	return g.Delete(ctx, id)
}
