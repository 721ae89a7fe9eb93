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
	w.refused(w.do("alice", "GET", "/volumes?size~=1", "", latest...), 400, "Invalid filters size~ are found in query options.")
	shown := w.want(w.do("alice", "GET", "/resource_filters", "", latest...), 200)["resource_filters"].([]any)
	if len(shown) != 1 || shown[0].(map[string]any)["resource"] != "volume" {
		t.Errorf("%v", shown)
	}
}

// Part of a value is looked for if the operator lists that, and the whole value then too.
func TestFiltersByPart(t *testing.T) {
	w := newWorld(t, func(c *v3.Config) { c.Filters = []v3.ResourceFilter{{Resource: "volume", Filters: []string{"name~"}}} })
	w.volume("alice", `{"volume":{"size":1,"name":"root disk"}}`)
	for query, want := range map[string]int{"name~=disk": 1, "name~=none": 0, "name=disk": 0, "name=root%20disk": 1} {
		if rows := w.want(w.do("alice", "GET", "/volumes?"+query, ""), 200)["volumes"].([]any); len(rows) != want {
			t.Errorf("%s: %v", query, rows)
		}
	}
	w.refused(w.do("alice", "GET", "/volumes?name=x", "", "OpenStack-API-Version", "volume 3.33"), 400, "Invalid filters name are found")
}

// What is everybody's to see says all_tenants in vain, however it is written.
func TestAllTenantsOfUsers(t *testing.T) {
	w := newWorld(t)
	w.want(w.do("alice", "GET", "/volumes?all_tenants=maybe", ""), 200)
	w.refused(w.do("admin", "GET", "/volumes?all_tenants=maybe", ""), 400, "Value 'maybe' for 'all_tenants' is not a boolean.")
}
