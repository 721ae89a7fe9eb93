package glance_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/glance"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

const imageID = "3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"

func image(id, name, status, format string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"status":%q,"disk_format":%q,"container_format":"bare","size":1048576,"virtual_size":null,
		"min_disk":2,"min_ram":64,"checksum":"b6d8","os_hash_algo":"sha512","os_hash_value":"abc","hw_disk_bus":"virtio","os_hidden":false,
		"protected":false,"visibility":"public","owner":"o","tags":[],"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z",
		"file":"/v2/images/x/file","schema":"/v2/schemas/image","self":"/v2/images/x","x_number":3}`, id, name, status, format)
}

func who(token string) keystone.Identity { return keystone.Identity{Token: token} }

func server(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != "alice" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/v2/images/" + imageID:
			fmt.Fprint(w, image(imageID, "cirros", "active", "raw"))
		case "/v2/images/00000000-0000-4000-8000-000000000001":
			fmt.Fprint(w, image("00000000-0000-4000-8000-000000000001", "q", "queued", "raw"))
		case "/v2/images/00000000-0000-4000-8000-000000000002":
			fmt.Fprint(w, image("00000000-0000-4000-8000-000000000002", "k", "active", "ami"))
		case "/v2/images/00000000-0000-4000-8000-000000000003":
			w.WriteHeader(http.StatusInternalServerError)
		case "/v2/images":
			var rows []string
			switch r.URL.Query().Get("name") {
			case "my image & more":
				rows = []string{image(imageID, "my image & more", "active", "qcow2")}
			case "twice":
				rows = []string{image(imageID, "twice", "active", "raw"), image(imageID, "twice", "active", "raw")}
			}
			fmt.Fprintf(w, `{"images":[%s]}`, strings.Join(rows, ","))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestImage(t *testing.T) {
	url := server(t)
	c, err := glance.New(glance.Config{Servers: []string{"http://127.0.0.1:1", url}})
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.Image(t.Context(), who("alice"), imageID)
	if err != nil {
		t.Fatal(err)
	}
	if i.ID.String() != imageID || i.Name != "cirros" || i.SizeBytes != 1<<20 || i.VirtualBytes != 1<<20 || i.MinDiskGiB != 2 || i.MinRAMMiB != 64 ||
		i.HashAlgo != "sha512" || i.HashValue != "abc" || i.Checksum != "b6d8" || i.DiskFormat != "raw" || i.ContainerFormat != "bare" {
		t.Errorf("image %+v", i)
	}
	if len(i.Properties) != 2 || i.Properties["hw_disk_bus"] != "virtio" || i.Properties["x_number"] != "3" {
		t.Errorf("properties %v", i.Properties)
	}
	if i, err = c.Image(t.Context(), who("alice"), "my image & more"); err != nil || i.DiskFormat != "qcow2" || i.VirtualBytes != 0 {
		t.Errorf("by name: %+v, %v", i, err)
	}
	for ref, want := range map[string]struct {
		err  error
		text string
	}{
		"00000000-0000-4000-8000-000000000001": {model.ErrInvalid, "Image 00000000-0000-4000-8000-000000000001 is not active."},
		"00000000-0000-4000-8000-000000000002": {model.ErrInvalid, "disk format ami; volumes can be made from: raw, qcow2, vmdk, vhd, vhdx, vdi, iso."},
		"00000000-0000-4000-8000-000000000003": {model.ErrUnavailable, "status 500"},
		"00000000-0000-4000-8000-000000000009": {model.ErrNotFound, "status 404"},
		"nobody":                               {model.ErrNotFound, "nobody"},
		"twice":                                {v3.ErrAmbiguous, "twice"},
	} {
		if _, err := c.Image(t.Context(), who("alice"), ref); !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := c.Image(t.Context(), who("s3cret"), imageID); !errors.Is(err, model.ErrNotFound) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("another's token: %v", err)
	}
}

func TestCatalog(t *testing.T) {
	url := server(t)
	for _, suffix := range []string{"", "/", "/v2", "/v2/"} {
		c, err := glance.New(glance.Config{Catalog: func(context.Context) (string, error) { return url + suffix, nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Image(t.Context(), who("alice"), imageID); err != nil {
			t.Errorf("%q: %v", suffix, err)
		}
	}
	c, err := glance.New(glance.Config{Catalog: func(context.Context) (string, error) { return "", errors.New("no catalog") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Image(t.Context(), who("alice"), imageID); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("without catalog: %v", err)
	}
	if _, err := glance.New(glance.Config{}); err == nil {
		t.Error("no servers and no catalog")
	}
}
