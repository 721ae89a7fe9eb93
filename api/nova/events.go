package nova

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/vmthunder/vmthunder/db/model"
)

// event of os-server-external-events; Nova answers with the same and a code.
type event struct {
	Name   string    `json:"name"`
	Server uuid.UUID `json:"server_uuid"`
	Status string    `json:"status"`
	Tag    uuid.UUID `json:"tag"` // the volume
	Code   int       `json:"code,omitempty"`
}

// VolumeExtended implements scheduler.Instances: Nova has the server's host notice that a
// volume it has is larger now. Errors: model.ErrNotFound if the server is gone or on no host
// (a shelved one, say), which leaves nobody to tell, else model.ErrUnavailable.
func (c *Client) VolumeExtended(ctx context.Context, server, volume uuid.UUID) error {
	return c.send(ctx, withVolumeExtended, event{Name: "volume-extended", Server: server, Status: "completed", Tag: volume})
}

// VolumeReimaged tells Nova, which waits for it, that a volume of a server has got the
// content of its new image; with failed, that it never will. Errors as VolumeExtended.
func (c *Client) VolumeReimaged(ctx context.Context, server, volume uuid.UUID, failed bool) error {
	e := event{Name: "volume-reimaged", Server: server, Status: "completed", Tag: volume}
	if failed {
		e.Status = "failed"
	}
	return c.send(ctx, withVolumeReimaged, e)
}

func (c *Client) send(ctx context.Context, microversion string, e event) error {
	what := fmt.Sprintf("event %s of volume %s for server %s", e.Name, e.Tag, e.Server)
	service, err := c.user.Service(ctx, serviceType)
	if err != nil {
		return failed(err, what)
	}
	service = withoutProject(service)
	service.Microversion = microversion
	type body struct {
		Events []event `json:"events"`
	}
	var out body
	resp, err := service.Post(ctx, service.ServiceURL("os-server-external-events"), body{[]event{e}}, &out, &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK, http.StatusMultiStatus},
	})
	finish(resp)
	if err != nil {
		return failed(err, what)
	}
	code := 0
	if len(out.Events) == 1 {
		code = out.Events[0].Code
	}
	switch code {
	case http.StatusOK:
		return nil
	case http.StatusNotFound, http.StatusUnprocessableEntity: // no such server; on no host
		return fmt.Errorf("%s: code %d: %w", what, code, model.ErrNotFound)
	}
	return fmt.Errorf("%s: code %d of the compute service: %w", what, code, model.ErrUnavailable)
}
