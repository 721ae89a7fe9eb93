package wire_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/cmd/internal/wire"
)

func TestFiltersFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "filters.json")
	for text, want := range map[string]string{
		`{"volume": ["name", "user_id"]}`: "",
		`{"volume": "name"}`:              "[DEFAULT] resource_query_filters_file " + path + `: filters of "volume"`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := wire.Filters(&config.Config{FiltersFile: path})
		switch {
		case want == "" && (err != nil || len(got) != 1 || len(got[0].Filters) != 2):
			t.Errorf("%s: %v %v", text, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := wire.Filters(&config.Config{FiltersFile: path + "x"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
	if got, err := wire.Filters(&config.Config{}); got != nil || err != nil {
		t.Errorf("no file: %v %v", got, err)
	}
}
