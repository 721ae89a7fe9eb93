package api_test

import (
	"net/url"
	"testing"
)

// Pools are found by their name, by capabilities, and by the type of volume that they can hold.
func TestPoolFilters(t *testing.T) {
	w := newWorld(t)
	for name, spec := range map[string]string{"scsi": "<in> SCSI", "fc": "FC"} {
		w.want(w.do("admin", "POST", "/types", `{"volume_type":{"name":"`+name+`","extra_specs":{"storage_protocol":"`+spec+`"}}}`), 200)
	}
	all := len(w.want(w.do("admin", "GET", "/scheduler-stats/get_pools", ""), 200)["pools"].([]any))
	if all == 0 {
		t.Fatal("there is no pool")
	}
	for _, c := range []struct {
		version, key, value string
		found               bool
	}{
		{"3.27", "name", "none", true}, // no filter yet
		{"3.28", "name", "none", false},
		{"3.28", "multiattach", "True", true},
		{"3.28", "multiattach", "False", false},
		{"3.30", "storage_protocol", "FC", false},
		{"3.34", "volume_type", "fc", true},
		{"3.35", "volume_type", "fc", false},
		{"3.35", "volume_type", "scsi", true},
	} {
		r := w.do("admin", "GET", "/scheduler-stats/get_pools?"+url.Values{c.key: {c.value}}.Encode(), "", "OpenStack-API-Version", "volume "+c.version)
		want := 0
		if c.found {
			want = all
		}
		if got := len(w.want(r, 200)["pools"].([]any)); got != want {
			t.Errorf("%s: %s=%s: %d pools, want %d", c.version, c.key, c.value, got, want)
		}
	}
}
