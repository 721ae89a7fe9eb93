package v3

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ResourceFilter is a row of /resource_filters: what a list of a resource may be filtered by.
type ResourceFilter struct {
	Resource string   `json:"resource"`
	Filters  []string `json:"filters"`
}

// DefaultFilters are those of the resource_filters.json that Cinder comes with.
func DefaultFilters() []ResourceFilter {
	return []ResourceFilter{
		{"volume", []string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone",
			"group_id", "size", "created_at", "updated_at", "consumes_quota"}},
		{"backup", []string{"name", "status", "volume_id"}},
		{"snapshot", []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"}},
		{"group", []string{"name"}},
		{"group_snapshot", []string{"name", "status", "group_id"}},
		{"attachment", []string{"volume_id", "status", "instance_id", "attach_status"}},
		{"message", []string{"resource_uuid", "resource_type", "event_id", "request_id", "message_level"}},
		{"pool", []string{"name", "volume_type"}},
		{"volume_type", []string{"is_public", "extra_specs"}},
	}
}

// ReadFilters reads a file of Cinder's option resource_query_filters_file: a JSON object of
// lists of names by resource. A resource that it leaves out has no filters. The order is kept.
func ReadFilters(r io.Reader) ([]ResourceFilter, error) {
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is no JSON object"), err)
	}
	out := []ResourceFilter{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprint(t)
		known := func(f ResourceFilter) bool { return f.Resource == name }
		if !slices.ContainsFunc(DefaultFilters(), known) {
			return nil, fmt.Errorf("there is no resource %q", name)
		}
		if slices.ContainsFunc(out, known) {
			return nil, fmt.Errorf("resource %q is there twice", name)
		}
		f := ResourceFilter{Resource: name, Filters: []string{}}
		if err := d.Decode(&f.Filters); err != nil {
			return nil, fmt.Errorf("filters of %q: %w", name, err)
		}
		out = append(out, f)
	}
	if _, err := d.Token(); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return out, nil
}

// filtersOf a resource.
func (a *API) filtersOf(resource string) []string {
	for _, f := range a.Filters {
		if f.Resource == resource {
			return f.Filters
		}
	}
	return nil
}
