package scheduler

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// A pool with something of everything in it.
func TestInventory(t *testing.T) {
	host, num := "n1", func(n int64) *int64 { return &n }
	managed, snapshot, was, empty, old, lost := uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()
	known := model.Storage{
		Volumes:   []model.Managed{{ID: managed, ThinID: 1, SizeGiB: 5}},
		Snapshots: []model.Managed{{ID: snapshot, ThinID: 2, SizeGiB: 5}},
		Others:    []int64{3},
		Unmanaged: []model.Unmanaged{
			{ID: was, Kind: model.KindVolume, Host: &host, ThinID: num(10), SizeGiB: 4},
			{ID: empty, Kind: model.KindVolume, SizeGiB: 6},
			{ID: old, Kind: model.KindSnapshot, Host: &host, ThinID: num(11), SizeGiB: 4},
			{ID: lost, Kind: model.KindVolume, Host: &host, ThinID: num(12), SizeGiB: 4},
		},
	}
	if got := asked(known); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("the node need not look at %v", got)
	}
	inv := newInventory(host, known, model.Thins{Thins: []model.Thin{
		{ID: 10, EndBytes: 1 << 20, Exceptions: true}, {ID: 11, EndBytes: 1},
		{ID: 20, EndBytes: 2<<30 + 1}, {ID: 21}, {ID: 22, EndBytes: 1, Exceptions: true},
		{ID: 23, EndBytes: 1 << 30, Device: "other"}, {ID: model.MaxAdopted, EndBytes: 1},
	}})
	if got := inv.gone(); !slices.Equal(got, []uuid.UUID{lost}) {
		t.Errorf("gone: %v", got)
	}
	want := map[string]struct {
		size int
		why  string
	}{
		"volume-" + managed.String(): {5, "already managed"}, "volume-" + was.String(): {4, ""}, "volume-" + empty.String(): {6, ""},
		"thin-20": {3, ""}, "thin-21": {1, ""}, "thin-22": {1, "changes of a volume"}, "thin-23": {1, "device other"}, "thin-8388608": {1, "too high"},
	}
	list := inv.volumes()
	if len(list) != len(want) {
		t.Errorf("%d rows, want %d: %+v", len(list), len(want), list)
	}
	for _, m := range list {
		w, ok := want[m.Reference]
		if !ok || m.SizeGiB != w.size || (m.Reason == "") != (w.why == "") || !strings.Contains(m.Reason, w.why) {
			t.Errorf("%+v, want %+v", m, w)
		}
	}

	for text, why := range map[string]string{
		"thin-1": "managed already", "thin-2": "managed already", "thin-3": "managed already", "thin-99": "no thin device 99",
		"thin-22": "changes of a volume", "thin-23": "device other", "thin-11": "was a snapshot", "thin-12": "gone from the pool",
		"volume-" + lost.String(): "gone from the pool", "volume-" + uuid.NewString(): "nothing that was unmanaged", "x": "names nothing here",
		"thin-x": "names nothing here", "thin-16777216": "names nothing here", "snapshot-" + old.String(): "was a snapshot",
	} {
		if _, got := inv.volume(model.ParseReference(text)); !strings.Contains(got, why) || got == "" {
			t.Errorf("%s: %q, want %q", text, got, why)
		}
	}
	for text, want := range map[string]model.Adoption{
		"thin-10":                  {Was: &known.Unmanaged[0], Host: &host, ThinID: num(10), SizeGiB: 4},
		"10":                       {Was: &known.Unmanaged[0], Host: &host, ThinID: num(10), SizeGiB: 4},
		"volume-" + was.String():   {Was: &known.Unmanaged[0], Host: &host, ThinID: num(10), SizeGiB: 4},
		was.String():               {Was: &known.Unmanaged[0], Host: &host, ThinID: num(10), SizeGiB: 4},
		"volume-" + empty.String(): {Was: &known.Unmanaged[1], SizeGiB: 6},
		"thin-20":                  {Host: &host, ThinID: num(20), SizeGiB: 3},
	} {
		got, why := inv.volume(model.ParseReference(text))
		if why != "" || got.SizeGiB != want.SizeGiB || (got.Was == nil) != (want.Was == nil) || got.Was != nil && got.Was.ID != want.Was.ID ||
			(got.Host == nil) != (want.Host == nil) || (got.ThinID == nil) != (want.ThinID == nil) || got.ThinID != nil && *got.ThinID != *want.ThinID {
			t.Errorf("%s: %+v, %q, want %+v", text, got, why, want)
		}
	}
	ref := model.ParseReference("thin-20")
	for asked, want := range map[int]int{2: 3, 50: 50} {
		ref.SizeGiB = asked
		if got, _ := inv.volume(ref); got.SizeGiB != want {
			t.Errorf("asked for %d GiB: %d, want %d", asked, got.SizeGiB, want)
		}
	}
}
