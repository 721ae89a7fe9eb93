package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// row is one request to a real Cinder 21 and its answer, in the order they were made.
type row struct {
	N      int             `json:"n"`
	Method string          `json:"m"`
	Path   string          `json:"path"`
	MV     string          `json:"mv"`
	Req    json.RawMessage `json:"req"`
	Status int             `json:"status"`
	CType  string          `json:"ctype"`
	Resp   string          `json:"resp"`
	Label  string          `json:"label"`
}

const goldenProject = "1f8c1ac2a3d24f0ab7dbb1c4a9b9f1aa"

func goldenRows(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []row
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r row
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// goldenWorld is what stood in the recorded cloud.
func goldenWorld(t *testing.T) http.Handler {
	t.Helper()
	store := v3test.NewStore()
	now := time.Date(2026, 11, 23, 8, 3, 0, 0, time.UTC)
	store.Clock = now
	store.TypeRows[0].ID = uuid.MustParse("2063ce1a-6881-4e0c-835e-c00d1f37c5ca")
	store.TypeRows = append(store.TypeRows, model.VolumeType{
		ID: uuid.MustParse("029a4ef6-27e4-47ed-8fdf-f101c88df212"), Name: "deftype", IsPublic: true,
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
			ID: uuid.MustParse(id), ProjectID: goldenProject, RequestID: "req-" + id, ResourceType: "VOLUME", ResourceUUID: &volume,
			EventID: "VOLUME_VOLUME_007_009", Level: "ERROR", UserMessage: "extend volume:Compute service failed to extend volume.",
			CreatedAt: now.Add(time.Duration(i) * time.Second), ExpiresAt: now.Add(30 * 24 * time.Hour),
		})
	}
	h, err := api.New(api.Config{
		Auth: keystone.NoAuth{}, Log: quiet(),
		V3: v3.Config{
			Store: store, Scheduler: &v3test.Scheduler{Store: store}, Nova: &v3test.Nova{},
			Glance: &v3test.Glance{Images: []model.Image{{
				ID: uuid.MustParse("3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"), Name: "cirros", DiskFormat: "raw", ContainerFormat: "bare",
				SizeBytes: 1 << 20, VirtualBytes: 1 << 20, Checksum: "b6d81b360a5672d80c27430f39153e2c",
				Properties: model.StringMap{"hw_disk_bus": "virtio"},
			}}},
			DefaultType: "deftype", Driver: view.Driver{Version: "3.0.0"}, Now: func() time.Time { return now },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestGolden replays the recorded requests and compares status, headers, and the keys
// and types of bodies; messages and statuses of volumes by value. Ids differ: those of
// the recording are replaced by ours as they show up. What is different on purpose stands in
// differences, with its reason.
func TestGolden(t *testing.T) {
	h := goldenWorld(t)
	ids := &idMap{ours: map[string]string{}, made: map[string]bool{}}
	used := map[int]bool{}
	for _, r := range goldenRows(t) {
		t.Run(fmt.Sprintf("%03d %s %s", r.N, r.Method, strings.ReplaceAll(r.Path, "/", "_")), func(t *testing.T) {
			d, different := differences()[r.N]
			used[r.N] = different
			if d.omit {
				return
			}
			path := ids.replace(r.Path)
			switch {
			case r.Label == "/v3/{pid}":
				path = "/v3/" + goldenProject
			case path == "/" || strings.HasPrefix(path, "/v3"):
			case strings.HasPrefix(path, "/default-types"):
				path = "/v3" + path
			default:
				path = "/v3/" + goldenProject + path
			}
			body := []byte(ids.replace(string(r.Req)))
			if string(body) == "null" {
				body = nil
			}
			req := httptest.NewRequest(r.Method, "http://cinder.example:8776"+strings.NewReplacer(
				"#", "%23", `"`, "%22", "{", "%7B", "}", "%7D").Replace(path), bytes.NewReader(body))
			req.Header.Set("X-Auth-Token", "admin:"+goldenProject)
			req.Header.Set("Accept", "application/json")
			if body != nil {
				req.Header.Set("Content-Type", "application/json")
			}
			if r.Label != "nosvc" {
				req.Header.Set("X-Service-Token", "service")
			}
			if r.MV != "" {
				req.Header.Set("OpenStack-API-Version", "volume "+r.MV)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			got := w.Body.Bytes()
			if id := w.Header().Get("X-Openstack-Request-Id"); id == "" || id != w.Header().Get("X-Compute-Request-Id") {
				t.Errorf("request ids: %q and %q", id, w.Header().Get("X-Compute-Request-Id"))
			}
			if d.status == http.StatusFound {
				if w.Code != d.status || w.Header().Get("Location") != "http://cinder.example:8776/v3/" {
					t.Errorf("status %d, Location %q", w.Code, w.Header().Get("Location"))
				}
				return
			}
			if different && d.status != 0 {
				if w.Code != d.status {
					t.Errorf("status %d, want %d (%s); body %s", w.Code, d.status, d.reason, got)
				}
				if w.Code >= 300 {
					checkFault(t, w.Code, got)
				}
				return
			}
			if w.Code != r.Status {
				t.Fatalf("status %d, Cinder's %d; body %s; Cinder's %s", w.Code, r.Status, got, r.Resp)
			}
			if c := w.Header().Get("Content-Type"); c != r.CType && !d.ctype {
				t.Errorf("content type %q, Cinder's %q", c, r.CType)
			}
			if mv := w.Header().Get("OpenStack-API-Version"); strings.HasPrefix(path, "/v3/"+goldenProject+"/") && w.Code != http.StatusNotAcceptable {
				want := r.MV
				if want == "" {
					want = "3.0"
				}
				if mv != "volume "+want || w.Header().Get("Vary") != "OpenStack-API-Version" {
					t.Errorf("version header %q, Vary %q", mv, w.Header().Get("Vary"))
				}
			}
			if r.Resp == "" {
				if len(got) != 0 {
					t.Errorf("body %s, Cinder's is empty", got)
				}
				return
			}
			var want, have any
			if err := json.Unmarshal([]byte(ids.replace(r.Resp)), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(got, &have); err != nil {
				t.Fatalf("body %s: %v", got, err)
			}
			ids.learn(want, have)
			ids.compare(t, "", want, have, d)
		})
	}
	for n := range differences() {
		if !used[n] {
			t.Errorf("difference %d is of no row", n)
		}
	}
}

func checkFault(t *testing.T, status int, body []byte) {
	t.Helper()
	var f map[string]struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &f); err != nil || len(f) != 1 {
		t.Errorf("not a fault: %s (%v)", body, err)
	}
	for _, x := range f {
		if x.Code != status || x.Message == "" {
			t.Errorf("fault %s for status %d", body, status)
		}
	}
}

// idMap turns ids of the recording into ours.
type idMap struct {
	ours map[string]string // theirs → ours
	made map[string]bool   // ours
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (m *idMap) replace(s string) string {
	for theirs, ours := range m.ours {
		s = strings.ReplaceAll(s, theirs, ours)
	}
	s = strings.ReplaceAll(s, "%23fake", "#fake")
	return strings.NewReplacer("fake1#fake", "vmthunder#vmthunder", "zed1@fake1", "zed1@vmthunder").Replace(s)
}

// learn notes which of our ids stand where theirs do.
func (m *idMap) learn(want, have any) {
	switch w := want.(type) {
	case map[string]any:
		if h, ok := have.(map[string]any); ok {
			for k, x := range w {
				m.learn(x, h[k])
			}
		}
	case []any:
		if h, ok := have.([]any); ok && len(h) == len(w) {
			for i := range w {
				m.learn(w[i], h[i])
			}
		}
	case string:
		h, ok := have.(string)
		_, known := m.ours[w]
		if ok && !known && !m.made[w] && w != h && uuidForm.MatchString(w) && uuidForm.MatchString(h) {
			m.ours[w], m.made[h] = h, true
		}
	}
}

// free are objects whose keys are data.
func free(path string) bool {
	return slices.ContainsFunc([]string{"metadata", "volume_image_metadata", "extra_specs", "capabilities", "connection_info", "data"},
		func(s string) bool { return strings.HasSuffix(path, "."+s) })
}

func (m *idMap) compare(t *testing.T, path string, want, have any, d difference) {
	t.Helper()
	if slices.ContainsFunc(d.skip, func(s string) bool { return strings.HasSuffix(path, s) }) {
		return
	}
	switch w := want.(type) {
	case nil:
		return
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			t.Errorf("%s: %T, Cinder's is an object", path, have)
			return
		}
		for k := range h {
			if _, there := w[k]; !there && !free(path) && !slices.Contains(d.skip, k) {
				t.Errorf("%s.%s is not in Cinder's answer", path, k)
			}
		}
		for k, x := range w {
			if y, there := h[k]; there {
				m.compare(t, path+"."+k, x, y, d)
			} else if !free(path) && !slices.Contains(d.skip, k) {
				t.Errorf("%s.%s is missing", path, k)
			}
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			t.Errorf("%s: %.300v, Cinder's has %d", path, have, len(w))
			return
		}
		for i := range w {
			m.compare(t, path+"[]", w[i], h[i], d)
		}
	case string:
		m.text(t, path, w, have)
	default:
		if have != nil && fmt.Sprintf("%T", want) != fmt.Sprintf("%T", have) {
			t.Errorf("%s: %v, Cinder's %v", path, have, want)
		}
	}
}

func (m *idMap) text(t *testing.T, path, want string, have any) {
	t.Helper()
	if have == nil {
		if !strings.HasSuffix(path, "service_uuid") && !strings.HasSuffix(path, "attr:host") && !strings.HasSuffix(path, "updated_at") {
			t.Errorf("%s: null, Cinder's %q", path, want)
		}
		return
	}
	h, ok := have.(string)
	switch {
	case !ok:
		t.Errorf("%s: %v, Cinder's %q", path, have, want)
	case uuidForm.MatchString(want) && !uuidForm.MatchString(h):
		t.Errorf("%s: %q is no id, Cinder's %q", path, h, want)
	case strings.HasSuffix(path, ".message"), strings.HasSuffix(path, "volume.status"), strings.HasSuffix(path, "volumes[].status"),
		strings.HasSuffix(path, ".href"), strings.HasSuffix(path, ".alias"), strings.HasSuffix(path, ".metadata.readonly"):
		if h != m.replace(want) {
			t.Errorf("%s: %q, Cinder's %q", path, h, m.replace(want))
		}
	case strings.HasSuffix(path, "_at") && want != "":
		if _, err := time.Parse("2006-01-02T15:04:05.999999", h); err != nil {
			t.Errorf("%s: %q is no time", path, h)
		}
	}
}
