package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/goldentest"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

// goldenWorld is what stood in the recorded cloud.
func goldenWorld(t *testing.T) http.Handler {
	t.Helper()
	store := v3test.NewStore()
	now := time.Date(2026, 11, 23, 8, 3, 0, 0, time.UTC)
	store.Clock = now
	store.TypeRows[0].ID = uuid.MustParse(goldentest.TypeBuiltin)
	store.TypeRows = append(store.TypeRows, model.VolumeType{
		ID: uuid.MustParse(goldentest.TypeDefault), Name: "deftype", IsPublic: true,
		ExtraSpecs: model.StringMap{}, CreatedAt: now,
	})
	seen := now
	store.NodeRows = []model.Node{{
		Host: "zed1", Compute: true, Enabled: true, Alive: true, LastSeen: &seen, AvailabilityZone: "nova",
		PoolTotal: 100 << 30, PoolFree: 90 << 30, PoolState: "rw", Address: "192.0.2.1:3260",
	}}
	store.ServiceRows = []model.Service{{Host: "zed1", Binary: "vmthunder-api", LastSeen: seen, CreatedAt: now}}
	store.LimitRows["gigabytes"], store.LimitRows["volumes"] = 2000, 50
	volume := uuid.MustParse("fd7c42dc-4d04-4723-b566-5501a70b3bba")
	for i, id := range []string{"dd2be1da-90ee-4ea5-8ab2-b2d8796e98bd", "076c86ac-61e2-4793-853d-914074a785c3"} {
		store.MessageRows = append(store.MessageRows, model.Message{
			ID: uuid.MustParse(id), ProjectID: goldentest.Project, RequestID: "req-" + id, ResourceType: "VOLUME", ResourceUUID: &volume,
			EventID: "VOLUME_VOLUME_007_009", Level: "ERROR", UserMessage: "extend volume:Compute service failed to extend volume.",
			CreatedAt: now.Add(time.Duration(i) * time.Second), ExpiresAt: now.Add(30 * 24 * time.Hour),
		})
	}
	h, err := api.New(api.Config{
		Auth: keystone.NoAuth{}, Log: quiet(),
		V3: v3.Config{
			Store: store, Scheduler: &v3test.Scheduler{Store: store}, Nova: &v3test.Nova{},
			Glance: &v3test.Glance{Images: []model.Image{{
				ID: uuid.MustParse(goldentest.Image), Name: "cirros", DiskFormat: "raw", ContainerFormat: "bare",
				SizeBytes: 1 << 20, VirtualBytes: 1 << 20, Checksum: "b6d81b360a5672d80c27430f39153e2c",
				Properties: model.StringMap{"hw_disk_bus": "virtio"},
			}}},
			DefaultType: "deftype", Backend: model.Backend{Version: "3.0.0"}, Now: func() time.Time { return now },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestGolden replays what a real Cinder was asked, see goldentest.
func TestGolden(t *testing.T) {
	h := goldenWorld(t)
	replay := goldentest.Replay{
		URL: "http://" + goldentest.Host, Project: goldentest.Project, Strict: true,
		Names: []string{"zed1@fake1#fake", "zed1@vmthunder#vmthunder", "fake1#fake", "vmthunder#vmthunder", "zed1@fake1", "zed1@vmthunder"},
		Do: func(r *http.Request, serviceToken bool) (*http.Response, error) {
			r.Header.Set("X-Auth-Token", "admin:"+goldentest.Project)
			if serviceToken {
				r.Header.Set("X-Service-Token", "service")
			}
			if r.Body == nil {
				r.Body = http.NoBody // as servers see it
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Result(), nil
		},
	}
	calls, err := goldentest.Calls()
	if err != nil || len(calls) != 290 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	var tally goldentest.Tally
	for _, c := range calls {
		t.Run(strings.ReplaceAll(fmt.Sprintf("%03d %s %s", c.N, c.Method, c.Path), "/", "_"), func(t *testing.T) {
			outcome, problems, err := replay.Call(c)
			if err != nil {
				t.Fatal(err)
			}
			tally.Add(c, outcome)
			for _, p := range problems {
				t.Error(p)
			}
		})
	}
	t.Logf("\n%s", tally.String())
}
