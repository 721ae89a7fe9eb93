package scheduler

import (
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestImportEvent(t *testing.T) {
	for why, want := range map[string]model.Event{
		"convert qcow2 image: no space left":                        "VOLUME_VOLUME_005_007",
		"virtual size of 5 bytes is above the limit of 4: unusable": "VOLUME_VOLUME_005_007",
		"image in Glance: checksum differs":                         "VOLUME_VOLUME_005_001",
		"":                                                          "VOLUME_VOLUME_005_001",
	} {
		if got := importEvent(why); got != want {
			t.Errorf("%q: %s, want %s", why, got, want)
		}
	}
}
