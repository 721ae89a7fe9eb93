package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// No volume is refused by an old look at the nodes: the first one may have come this moment.
func TestRoomIsLookedForAgain(t *testing.T) {
	s := newSite(t, scheduler.Options{})
	blank := func() model.Volume {
		t.Helper()
		vs, err := s.svc.Create(context.Background(), []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova"}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return vs[0]
	}
	if v := blank(); v.Status != model.VolumeError {
		t.Errorf("a volume that no node can hold is %s", v.Status)
	}
	s.agents["h1"] = &simAgent{host: "h1", boot: "b1", pool: "pool-h1", busy: map[string]bool{}, lost: map[string]bool{}}
	s.report("h1")
	if v := blank(); v.Status != model.VolumeAvailable {
		t.Errorf("a volume that the new node can hold is %s", v.Status)
	}
}

// Requests that are made together are counted one by one: a project never has more than
// its quota, and nobody is refused while there is room.
func TestQuotaOfRequestsTogether(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "h1")
	if err := s.store.SetQuotas(context.Background(), "p", map[string]int64{"volumes": 70, "gigabytes": -1}); err != nil {
		t.Fatal(err)
	}
	var made, refused atomic.Int32
	var done sync.WaitGroup
	for i := range 40 {
		done.Go(func() {
			vols := make([]model.Volume, 1+i%5)
			for j := range vols {
				vols[j] = model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova", ConsumesQuota: true}
			}
			vs, err := s.svc.Create(context.Background(), vols, nil, nil)
			var q *model.QuotaError
			switch {
			case err == nil:
				made.Add(int32(len(vs)))
			case errors.As(err, &q):
				refused.Add(1)
				if q.Requested != int64(len(vols)) || q.Fit >= len(vols) || q.Used+int64(q.Fit) != 70 {
					t.Errorf("%d are refused: %+v", len(vols), *q)
				}
			default:
				t.Error(err)
			}
		})
	}
	done.Wait()
	n, err := s.store.CountVolumes(context.Background(), model.ListQuery{ProjectID: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if n != int(made.Load()) || n > 70 || n < 66 || refused.Load() == 0 {
		t.Errorf("%d volumes, %d made, %d requests refused", n, made.Load(), refused.Load())
	}
}
