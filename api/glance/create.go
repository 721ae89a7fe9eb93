package glance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// Create implements v3.Glance. The id is the caller's choice, so that asking again after an
// answer that got lost makes no second image: then the service says that there is one.
func (c *Client) Create(ctx context.Context, who keystone.Identity, image v3.NewImage) (v3.NewImage, error) {
	servers, err := c.servers(ctx)
	if err != nil {
		return v3.NewImage{}, err
	}
	var made v3.NewImage
	for _, server := range servers {
		if made, err = c.create(ctx, server, who.Token, image); !errors.Is(err, model.ErrUnavailable) {
			break
		}
	}
	return made, err
}

func (c *Client) create(ctx context.Context, server, token string, image v3.NewImage) (v3.NewImage, error) {
	body := map[string]any{}
	for k, v := range image.Properties {
		body[k] = v
	}
	body["id"], body["name"] = image.ID, image.Name
	body["disk_format"], body["container_format"] = image.DiskFormat, image.ContainerFormat
	if image.Visibility != "" {
		body["visibility"] = image.Visibility
	}
	if image.Protected != nil {
		body["protected"] = *image.Protected
	}
	var made struct {
		ID              uuid.UUID `json:"id"`
		Name            string    `json:"name"`
		DiskFormat      string    `json:"disk_format"`
		ContainerFormat string    `json:"container_format"`
		Visibility      string    `json:"visibility"`
		Protected       *bool     `json:"protected"`
	}
	service := c.service(server, token)
	resp, err := service.Post(ctx, service.ServiceURL("images"), body, &made, &gophercloud.RequestOpts{OkCodes: []int{http.StatusCreated}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // read to its end by gophercloud
	}
	if err != nil {
		return v3.NewImage{}, refused(err, image.ID)
	}
	return v3.NewImage{
		ID: made.ID, Name: made.Name, DiskFormat: made.DiskFormat, ContainerFormat: made.ContainerFormat,
		Visibility: made.Visibility, Protected: made.Protected, Properties: image.Properties,
	}, nil
}

// refused keeps the service's words where they are for the user, as of a quota.
func refused(err error, id uuid.UUID) error {
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) && code.Actual >= 400 && code.Actual < 500 {
		return fmt.Errorf("%w: %s", model.ErrInvalid, words(code))
	}
	return failed(err, id.String())
}

var tags = regexp.MustCompile(`<[^>]*>`)

// words of an answer of Glance's, which is a page of HTML or a JSON object.
func words(code gophercloud.ErrUnexpectedResponseCode) string {
	var fault struct{ Message string }
	text := string(code.Body)
	if json.Unmarshal(code.Body, &fault) == nil && fault.Message != "" {
		text = fault.Message
	}
	text = strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(text, " "))), " ")
	if len(text) > 500 {
		text = text[:500]
	}
	return fmt.Sprintf("the image service answered with status %d: %s", code.Actual, text)
}
