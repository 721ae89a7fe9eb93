package db_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

func counted(n int) []model.Volume {
	vs := make([]model.Volume, n)
	for i := range vs {
		vs[i] = vol(2)
		vs[i].ConsumesQuota = true
	}
	return vs
}

// However many create at the same time, a project never has more than its quota, and
// nobody is refused while there is room.
func TestQuotaHoldsInARace(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas (project_id, resource, hard_limit) VALUES ('p1', 'volumes', 100), ('p1', 'gigabytes', 150)"))
	var made, refused atomic.Int32
	var start, done sync.WaitGroup
	start.Add(1)
	id := uuid.New()
	for i := range 16 {
		done.Go(func() {
			start.Wait()
			from := image(id)
			if i%2 == 0 {
				from = nil
			}
			for range 3 {
				vs, err := w.CreateVolumes(w.ctx, counted(5), from)
				var q *model.QuotaError
				switch {
				case err == nil:
					made.Add(int32(len(vs)))
				case errors.As(err, &q):
					refused.Add(1)
					if q.Resource != "gigabytes" || q.Limit != 150 || q.Requested != 10 || q.Used != 150 || q.Fit != 0 {
						t.Errorf("refused: %+v", *q)
					}
				default:
					t.Error(err)
				}
			}
		})
	}
	start.Done()
	done.Wait()
	rows := w.count("SELECT count(*) FROM volumes")
	if rows != 75 || made.Load() != 75 || refused.Load() != 48-15 {
		t.Errorf("%d rows, %d made, %d refusals; want 75, 75, 33", rows, made.Load(), refused.Load())
	}
}

func TestQuotaRefusal(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quota_classes (class_name, resource, hard_limit) VALUES ('default', 'volumes', 3)"))
	w.create(nil, counted(1)...)
	id := uuid.New()
	_, err := w.CreateVolumes(w.ctx, counted(4), image(id))
	var q *model.QuotaError
	if !errors.As(err, &q) || *q != (model.QuotaError{Resource: "volumes", Limit: 3, Used: 1, Requested: 4, Fit: 2}) {
		t.Fatalf("got %v", err)
	}
	if v, i, j := w.count("SELECT count(*) FROM volumes"), w.count("SELECT count(*) FROM images"), w.count("SELECT count(*) FROM jobs"); v != 1 || i != 0 || j != 0 {
		t.Errorf("%d volumes, %d images, %d jobs: what was refused left something", v, i, j)
	}
	if got := w.create(image(id), counted(q.Fit)...); len(got) != 2 {
		t.Errorf("%d rows", len(got))
	}
	other := counted(1)
	other[0].ProjectID = "p2"
	w.create(nil, other...)       // another project's quota
	w.create(nil, vol(1), vol(1)) // does not count
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas (project_id, resource, hard_limit) VALUES ('p1', 'volumes', -1)"))
	w.create(nil, counted(20)...)
}
