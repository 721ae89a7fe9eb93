package v3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
)

// cleanupKeys are the keys of the body of /workers/cleanup.
func cleanupKeys() []string {
	return []string{"cluster_name", "disabled", "host", "is_up", "binary", "resource_id", "resource_type", "service_id"}
}

// cleanupWorkers: work that was left behind is resumed by itself, so none is ever pending.
func (a *API) cleanupWorkers(c *call) error {
	if err := c.allow("workers:cleanup"); err != nil {
		return err
	}
	in := schema.Empty()
	if c.body != nil {
		var err error
		if in, err = c.parse(); err != nil {
			return err
		}
	}
	if err := checkCleanup(in); err != nil {
		return err
	}
	return c.json(http.StatusAccepted, view.Object{"cleaning": []any{}, "unavailable": []any{}})
}

func checkCleanup(in *schema.Object) error {
	if err := in.Only(cleanupKeys()...); err != nil {
		return err
	}
	for _, key := range []string{"cluster_name", "host"} {
		if _, err := in.String(key, 0, 255); err != nil {
			return err
		}
	}
	for _, key := range []string{"disabled", "is_up"} {
		if _, err := in.Bool(key); err != nil {
			return err
		}
	}
	if _, err := in.Enum("binary", view.BinaryVolume, "cinder-scheduler"); err != nil {
		return err
	}
	if _, err := in.Int("service_id", 0, schema.MaxInt); err != nil {
		return err
	}
	kind, err := in.String("resource_type", 0, 255)
	if err != nil {
		return err
	}
	if kind != nil && *kind != "" && !slices.Contains([]string{"volume", "snapshot"}, strings.ToLower(*kind)) {
		return fault.InvalidInput("Resource type %s not valid, must be Snapshot or Volume", *kind)
	}
	id, err := in.UUID("resource_id")
	if err != nil {
		return err
	}
	if id != nil && !in.Given("service_id") && !in.Given("cluster_name") && !in.Given("host") {
		return fault.InvalidInput("There is no resource with UUID %s pending cleanup.", id)
	}
	return nil
}
