package api_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func batchOf(t *testing.T, a answer) (sizes []int, short map[string]any) {
	t.Helper()
	if a.status != 202 {
		t.Fatalf("status %d: %s", a.status, a.raw)
	}
	for _, v := range a.body["volumes"].([]any) {
		size, _ := v.(map[string]any)["size"].(float64)
		sizes = append(sizes, int(size))
	}
	short, _ = a.body["short"].(map[string]any)
	return sizes, short
}

func TestBatchQuota(t *testing.T) {
	w := newWorld(t)
	w.store.LimitRows["volumes"], w.store.LimitRows["gigabytes"] = 6, 10
	all := w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1,"name":"x"},"count":7}`)
	w.refused(all, 413, "VolumeLimitExceeded: Maximum number of volumes allowed (6) exceeded for quota 'volumes'.")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":7,"partial":false}`), 413, "(6)")
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":2,"partial":"maybe"}`), 400, "partial")
	if len(w.store.VolumeRows) != 0 || all.header.Get("Retry-After") != "0" {
		t.Errorf("refused, and yet %d rows; %v", len(w.store.VolumeRows), all.header)
	}
	sizes, short := batchOf(t, w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":2,"name":"x"},"count":7,"partial":true}`))
	if len(sizes) != 5 || fmt.Sprint(short["count"]) != "2" || short["message"] != "VolumeSizeExceedsAvailableQuota: Requested volume "+
		"or snapshot exceeds allowed gigabytes quota. Requested 14G, quota is 10G and 0G has been consumed." {
		t.Errorf("made %v, short %v", sizes, short)
	}
	if *w.store.VolumeRows[4].Name != "x-5" {
		t.Errorf("the last is %s", *w.store.VolumeRows[4].Name)
	}
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{"size":1},"count":3,"partial":true}`), 413, "VolumeSizeExceedsAvailableQuota")
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`), 413, "VolumeSizeExceedsAvailableQuota")
	if sizes, short := batchOf(t, w.do("bob", "POST", "/volumes/batch", `{"volume":{"size":2},"count":2,"partial":true}`)); len(sizes) != 2 || short != nil {
		t.Errorf("another project: made %v, short %v", sizes, short)
	}
	w.store.LimitRows["per_volume_gigabytes"] = 1
	w.refused(w.do("bob", "POST", "/volumes/batch", `{"volume":{"size":2},"count":2}`), 413,
		"VolumeSizeExceedsLimit: Requested volume size 2G is larger than maximum allowed limit 1G.")
}

func TestBatchSizeOfImage(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	w.glance.Images = append(w.glance.Images, model.Image{ID: id, Name: "unknown", DiskFormat: "qcow2", SizeBytes: 1 << 20, MinDiskGiB: 1},
		model.Image{ID: uuid.New(), Name: "raw", DiskFormat: "raw", SizeBytes: 4<<30 + 1},
		model.Image{ID: uuid.New(), Name: "tiny", DiskFormat: "raw", SizeBytes: 1},
		model.Image{ID: uuid.New(), Name: "wide", DiskFormat: "raw", SizeBytes: 1, MinDiskGiB: 7})
	for name, want := range map[string]int{"debian": 3, "raw": 5, "tiny": 1, "wide": 7} {
		if sizes, _ := batchOf(t, w.do("alice", "POST", "/volumes/batch", `{"volume":{"imageRef":"`+name+`"},"count":2}`)); !slices.Equal(sizes, []int{want, want}) {
			t.Errorf("volumes of %s: %v, want %d", name, sizes, want)
		}
	}
	body := `{"volume":{"imageRef":"unknown"},"count":1}`
	w.refused(w.do("alice", "POST", "/volumes/batch", body), 400, "The virtual size of image "+id.String()+" is not known yet; give the volumes a size.")
	w.store.Do(func(s *v3test.Store) {
		s.ImageRows = []model.Image{{ID: id, Status: model.ImageActive, VirtualBytes: 9 << 30}}
	})
	if sizes, _ := batchOf(t, w.do("alice", "POST", "/volumes/batch", body)); !slices.Equal(sizes, []int{9}) {
		t.Errorf("volumes of an image that was imported: %v", sizes)
	}
	w.refused(w.do("alice", "POST", "/volumes/batch", `{"volume":{},"count":1}`), 400, "could not comply")
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"imageRef":"debian"}}`), 400, "could not comply")
}

func TestWarm(t *testing.T) {
	w := newWorld(t)
	path := "/vmthunder/images/" + w.image.String()
	body := `{"nodes":["n2","n1","n2"]}`
	w.refused(w.do("alice", "POST", path+"/warm", body), 403, "vmthunder:warm")
	w.refused(w.do("alice", "POST", path+"/release", body), 403, "vmthunder:warm")
	w.refused(w.do("admin", "POST", path+"/release", body), 404, "Image "+w.image.String()+" could not be found.")
	for _, bad := range []string{`{}`, `{"nodes":[]}`, `{"nodes":[""]}`, `{"nodes":"n1"}`, `{"nodes":[1]}`, `{"nodes":["n1"],"x":1}`} {
		if a := w.do("admin", "POST", path+"/warm", bad); a.status != 400 {
			t.Errorf("%s: %d", bad, a.status)
		}
	}
	missing := uuid.NewString()
	w.refused(w.do("admin", "POST", "/vmthunder/images/"+missing+"/warm", body), 404, "Image "+missing+" could not be found.")
	a := w.do("admin", "POST", path+"/warm", body)
	if im, _ := a.body["image"].(map[string]any); a.status != 202 || im["status"] != "queued" || len(a.body["members"].([]any)) != 0 {
		t.Fatalf("before the import: %d %s", a.status, a.raw)
	}
	w.store.Do(func(s *v3test.Store) { s.ImageRows[0].Status = model.ImageActive })
	pinned := func(a answer) (out []string) {
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		for _, m := range a.body["members"].([]any) {
			m := m.(map[string]any)
			out = append(out, fmt.Sprint(m["host"], " ", m["pinned"]))
		}
		return out
	}
	if got := pinned(w.do("admin", "POST", path+"/warm", body)); !slices.Equal(got, []string{"n1 true", "n2 true"}) {
		t.Errorf("warm: %v", got)
	}
	if got := pinned(w.do("admin", "POST", path+"/release", `{"nodes":["n1"]}`)); !slices.Equal(got, []string{"n1 false", "n2 true"}) {
		t.Errorf("release: %v", got)
	}
	w.sched.WarmErr = fmt.Errorf("%w: node n9 is down", model.ErrInvalid)
	w.refused(w.do("admin", "POST", path+"/warm", body), 400, "Invalid input received: node n9 is down")
}
