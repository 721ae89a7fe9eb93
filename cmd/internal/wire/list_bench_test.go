package wire

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
)

// BenchmarkList is GET /volumes/detail with 1,000 volumes, from the request to the last
// byte of the answer, over a real database: what devstack/bench's case rates asks for.
func BenchmarkList(b *testing.B) {
	store, ctx := dbtest.New(b), context.Background()
	const project = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	kind, err := store.CreateType(ctx, model.VolumeType{Name: "plain", IsPublic: true})
	if err != nil {
		b.Fatal(err)
	}
	if err := store.SetQuotas(ctx, project, map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
		b.Fatal(err)
	}
	for i := range 10 {
		vols := make([]model.Volume, 100)
		for j := range vols {
			name := fmt.Sprintf("v-%d", 100*i+j)
			vols[j] = model.Volume{ProjectID: project, UserID: "u", Name: &name, SizeGiB: 1, AvailabilityZone: "nova", VolumeTypeID: &kind.ID, ConsumesQuota: true}
		}
		if _, err := store.CreateVolumes(ctx, vols, nil); err != nil {
			b.Fatal(err)
		}
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	h, err := api.New(api.Config{Auth: keystone.NoAuth{}, Log: logrus.NewEntry(quiet), V3: v3.Config{
		Store: APIStore(store), Scheduler: &v3test.Scheduler{Store: v3test.NewStore()},
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		r := httptest.NewRequest("GET", "/v3/"+project+"/volumes/detail?limit=1000", nil)
		r.Header.Set("X-Auth-Token", "admin:"+project)
		w := &counter{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.status != 200 || w.bytes < 500_000 {
			b.Fatalf("%d, %d bytes", w.status, w.bytes)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
}

// counter takes an answer and keeps none of it.
type counter struct {
	header        http.Header
	status, bytes int
}

func (c *counter) Header() http.Header         { return c.header }
func (c *counter) WriteHeader(status int)      { c.status = status }
func (c *counter) Write(p []byte) (int, error) { c.bytes += len(p); return len(p), nil }

// cpu is what this process has used: that of Postgres is its own.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
