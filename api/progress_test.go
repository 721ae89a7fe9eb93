package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// A list of volumes that wait for different images shows how far each is; one whose image
// is gone by then is shown too.
func TestListShowsImports(t *testing.T) {
	w := newWorld(t)
	at := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	w.store.ImageRows = []model.Image{
		{ID: at[0], Status: model.ImageImporting, Phase: "download", Done: 1 << 20, Total: 4 << 20},
		{ID: at[1], Status: model.ImageImporting, Phase: "unpack", Done: 1 << 20, Total: 2 << 20},
	}
	w.store.Do(func(s *v3test.Store) {
		for i := range at {
			s.VolumeRows = append(s.VolumeRows, model.Volume{
				ID: uuid.New(), ProjectID: projectA, SizeGiB: 1, Status: model.VolumeDownloading, ImageID: &at[i], CreatedAt: s.Clock,
			})
		}
	})
	raw := string(w.do("alice", "GET", "/volumes/detail", "").raw)
	for _, want := range []string{"download 25% of 4 MiB", "unpack 50% of 2 MiB", `"vmthunder:import":"queued"`} {
		if strings.Count(raw, want) != 1 {
			t.Errorf("%q is not shown once: %s", want, raw)
		}
	}
}
