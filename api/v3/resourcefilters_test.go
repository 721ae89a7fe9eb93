package v3

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadFilters(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: `[]`,
		`{"volume": ["name", "user_id"], "pool": []}`: `[{"resource":"volume","filters":["name","user_id"]},{"resource":"pool","filters":[]}]`,
		``:                             "it is no JSON object",
		`[]`:                           "it is no JSON object",
		`{"volume": "name"}`:           `filters of "volume": `,
		`{"volume": ["name"]`:          "unexpected EOF",
		`{"volumes": []}`:              `there is no resource "volumes"`,
		`{"pool": [], "pool": []}`:     `resource "pool" is there twice`,
		`{"pool": []} {"volume": []}`:  "something follows",
		`{"volume": ["name"], "pool":`: `filters of "pool": `,
	} {
		got, err := ReadFilters(strings.NewReader(text))
		b, _ := json.Marshal(got)
		switch {
		case err == nil && string(b) != want:
			t.Errorf("%s: %s", text, b)
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	b, err := json.Marshal(map[string][]string{"volume": DefaultFilters()[0].Filters})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFilters(strings.NewReader(string(b))); err != nil || !cmp.Equal(got, DefaultFilters()[:1]) {
		t.Errorf("%v %v", got, err)
	}
}
