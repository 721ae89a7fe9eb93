package api_test

import (
	"testing"

	v3 "github.com/vmthunder/vmthunder/api/v3"
)

// The operator says what lists may be filtered by.
func TestOperatorsFilters(t *testing.T) {
	w := newWorld(t, func(c *v3.Config) { c.Filters = []v3.ResourceFilter{{Resource: "volume", Filters: []string{"size"}}} })
	w.volume("alice", `{"volume":{"size":1,"name":"x"}}`)
	latest := []string{"OpenStack-API-Version", "volume 3.70"}
	if all := w.want(w.do("alice", "GET", "/volumes?size=2", "", latest...), 200)["volumes"].([]any); len(all) != 0 {
		t.Errorf("size is no filter: %v", all)
	}
	w.refused(w.do("alice", "GET", "/volumes?name=x", "", latest...), 400, "Invalid filters name are found in query options.")
	shown := w.want(w.do("alice", "GET", "/resource_filters", "", latest...), 200)["resource_filters"].([]any)
	if len(shown) != 1 || shown[0].(map[string]any)["resource"] != "volume" {
		t.Errorf("%v", shown)
	}
}
