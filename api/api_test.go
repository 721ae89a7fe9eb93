package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

const (
	projectA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	projectB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// world is a control plane in memory. Tokens: "admin", "alice" (project A), "bob"
// (project B), "down" (Keystone can't be reached).
type world struct {
	t      *testing.T
	h      http.Handler
	store  *v3test.Store
	sched  *v3test.Scheduler
	glance *v3test.Glance
	nova   *v3test.Nova
	log    *bytes.Buffer
	image  uuid.UUID
}

type tokens struct{}

func (tokens) Challenge() string { return `Keystone uri="http://keystone.example:5000"` }

func (tokens) Authenticate(_ context.Context, h http.Header, _ string) (keystone.Identity, error) {
	id := keystone.Identity{ServiceToken: h.Get("X-Service-Token") == "nova", Token: h.Get("X-Auth-Token")}
	switch id.Token {
	case "admin":
		id.UserID, id.ProjectID, id.Roles, id.Admin = "admin", projectA, []string{"admin", "member", "reader"}, true
	case "alice":
		id.UserID, id.ProjectID, id.Roles = "alice", projectA, []string{"member", "reader"}
	case "bob":
		id.UserID, id.ProjectID, id.Roles = "bob", projectB, []string{"member", "reader"}
	case "homeless": // a token of a domain
		id.UserID, id.Roles = "eve", []string{"member", "reader"}
	case "system":
		id.UserID, id.Roles, id.Admin = "root", []string{"admin"}, true
	case "down":
		return id, keystone.ErrUnreachable
	default:
		return id, keystone.ErrUnauthorized
	}
	return id, nil
}

func newWorld(t *testing.T, more ...func(*v3.Config)) *world {
	t.Helper()
	w := &world{t: t, store: v3test.NewStore(), nova: &v3test.Nova{Uses: map[string]string{}}, log: &bytes.Buffer{}, image: uuid.New()}
	w.sched = &v3test.Scheduler{Store: w.store}
	w.glance = &v3test.Glance{Images: []model.Image{{
		ID: w.image, Name: "debian", DiskFormat: "qcow2", SizeBytes: 512 << 20, VirtualBytes: 3 << 30, MinDiskGiB: 2,
	}}}
	seen := w.store.Clock
	w.store.NodeRows = []model.Node{
		{Host: "n1", Compute: true, Enabled: true, Alive: true, AvailabilityZone: "nova", LastSeen: &seen},
		{Host: "n2", Compute: true, Enabled: true, AvailabilityZone: "far", LastSeen: &seen},
	}
	w.store.LimitRows["volumes"], w.store.LimitRows["gigabytes"] = -1, -1
	l := logrus.New()
	l.SetOutput(w.log)
	cfg := v3.Config{Store: w.store, Scheduler: w.sched, Glance: w.glance, Nova: w.nova, Now: func() time.Time { return seen }}
	for _, set := range more {
		set(&cfg)
	}
	var err error
	w.h, err = api.New(api.Config{Auth: tokens{}, Log: logrus.NewEntry(l), V3: cfg})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// answer of a request.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// do sends a request; the path is below /v3 (without project) unless it begins with =.
// Headers are pairs.
func (w *world) do(token, method, path, body string, headers ...string) answer {
	w.t.Helper()
	if p, ok := strings.CutPrefix(path, "="); ok {
		path = p
	} else {
		path = "/v3" + path
	}
	r := httptest.NewRequest(method, "http://vt.example:8776"+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("OpenStack-API-Version", "volume 3.70")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), raw: rec.Body.Bytes()}
	if err := json.Unmarshal(a.raw, &a.body); err != nil {
		a.body = nil
	}
	return a
}

// want fails unless the answer has the status; it returns the object under the first key
// that holds one.
func (w *world) want(a answer, status int) map[string]any {
	w.t.Helper()
	if a.status != status {
		w.t.Fatalf("status %d, want %d: %s", a.status, status, a.raw)
	}
	for _, v := range a.body {
		if m, ok := v.(map[string]any); ok {
			return m
		}
	}
	return a.body
}

// refused fails unless the answer is a fault with the status and a message that holds text.
func (w *world) refused(a answer, status int, text string) {
	w.t.Helper()
	m := w.want(a, status)
	msg, _ := m["message"].(string)
	if !strings.Contains(msg, text) || m["code"] != float64(status) {
		w.t.Fatalf("fault %s, want %d with %q", a.raw, status, text)
	}
}

func (w *world) volume(token, body string) string {
	w.t.Helper()
	id, _ := w.want(w.do(token, "POST", "/volumes", body), 202)["id"].(string)
	return id
}

func TestVersions(t *testing.T) {
	w := newWorld(t)
	if a := w.do("", "GET", "=/", ""); a.status != 300 || a.body["versions"] == nil {
		t.Errorf("GET /: %d %s", a.status, a.raw)
	}
	if a := w.do("", "GET", "=/v3/", ""); a.status != 401 {
		t.Errorf("GET /v3/ without token: %d", a.status)
	}
	if a := w.do("alice", "GET", "=/v3/", ""); a.status != 200 || a.body["versions"] == nil {
		t.Errorf("GET /v3/: %d %s", a.status, a.raw)
	}
	// Both obey the microversion, as everything below does.
	for _, path := range []string{"=/", "=/v3/"} {
		if a := w.do("alice", "GET", path, "", "OpenStack-API-Version", "volume 3.5"); a.header.Get("OpenStack-API-Version") != "volume 3.5" || a.header.Get("Vary") == "" {
			t.Errorf("GET %s: %v", path, a.header)
		}
		w.refused(w.do("alice", "GET", path, "", "OpenStack-API-Version", "volume 3.99"), 406, "Version 3.99 is not supported by the API.")
	}
	if a := w.do("", "GET", "=/v3", ""); a.status != 302 || a.header.Get("Location") != "http://vt.example:8776/v3/" {
		t.Errorf("GET /v3: %d %s", a.status, a.header.Get("Location"))
	}
	if a := w.do("", "GET", "=/healthcheck", ""); a.status != 200 || string(a.raw) != "OK" {
		t.Errorf("GET /healthcheck: %d %s", a.status, a.raw)
	}
}

func TestUnknownRoutes(t *testing.T) {
	w := newWorld(t)
	for _, r := range [][2]string{
		{"GET", "=/v2"},
		{"GET", "=/v4/"},
		{"GET", "/volumes/"},
		{"GET", "/" + projectA},
		{"GET", "/nothing"},
		{"PATCH", "/volumes"},
		{"DELETE", "/volumes"},
		{"GET", "/" + projectA + "/default-types"},
		{"GET", "/XYZ/volumes"},
		{"GET", "//volumes"},
	} {
		a := w.do("alice", r[0], r[1], "")
		if a.status != 404 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s %s: %d %s", r[0], r[1], a.status, a.header.Get("Content-Type"))
		}
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/volumes", "/volumes.json", "/" + projectA + "/volumes", "/" + projectA + "/volumes.json"} {
		w.want(w.do("alice", "GET", path, ""), 200)
	}
	for _, token := range []string{"alice", "admin"} {
		w.refused(w.do(token, "GET", "/"+projectB+"/volumes", ""), 400, "Malformed request url")
	}
	id := w.volume("alice", `{"volume":{"size":1}}`)
	links := func(path string) string {
		v := w.want(w.do("alice", "GET", path+"/volumes/"+id, "", "X-Forwarded-Host", "evil.example"), 200)
		b, err := json.Marshal(v["links"])
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if l := links(""); !strings.Contains(l, `"http://vt.example:8776/v3/volumes/`+id) || !strings.Contains(l, `"http://vt.example:8776/volumes/`+id) {
		t.Errorf("links without project: %s", l)
	}
	if l := links("/" + projectA); !strings.Contains(l, "/v3/"+projectA+"/volumes/"+id) {
		t.Errorf("links with project: %s", l)
	}
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t)
	a := w.do("wrong", "GET", "/volumes", "")
	if a.status != 401 || a.header.Get("WWW-Authenticate") != tokens.Challenge(tokens{}) ||
		string(a.raw) != `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}` {
		t.Errorf("401: %d %v %s", a.status, a.header, a.raw)
	}
	a = w.do("down", "GET", "/volumes", "")
	w.refused(a, 503, "Keystone")
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

// TestNoProject: a token without a project sees nothing, an administrator's everything.
func TestNoProject(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.want(w.do("alice", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`"}}`), 200)
	for _, path := range []string{"/volumes", "/volumes/" + id, "/attachments", "/messages", "/types", "/limits", "/volumes/summary"} {
		w.refused(w.do("homeless", "GET", path, ""), 403, "project")
	}
	w.refused(w.do("homeless", "GET", "/"+projectA+"/attachments", ""), 403, "project")
	w.want(w.do("system", "GET", "/volumes/"+id, ""), 200)
	w.refused(w.do("system", "POST", "/volumes", `{"volume":{"size":1}}`), 400, "project")
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`, "Content-Type", "text/plain"), 415, "Unsupported")
	if a := w.do("alice", "POST", "/volumes", `{"volume":`+strings.Repeat(" ", api.MaxBody)+`{}}`); a.status != 413 || a.header.Get("Retry-After") != "0" {
		t.Errorf("large body: %d %s", a.status, a.raw)
	}
	// Without a length: noticed while reading.
	r := httptest.NewRequest("POST", "http://vt.example/v3/volumes", io.MultiReader(strings.NewReader(strings.Repeat(" ", api.MaxBody)), strings.NewReader("{}")))
	r.ContentLength = -1
	r.Header.Set("X-Auth-Token", "alice")
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	if rec.Code != 413 {
		t.Errorf("large body in chunks: %d", rec.Code)
	}
	for name, body := range map[string]string{
		"cut short": `{"volume":`, "no UTF-8": "{\"volume\":{\"size\":1,\"name\":\"\xff\"}}", "too deep": strings.Repeat(`{"a":`, 20000), "two": `{"volume":{"size":1}}{}`,
		"deep": strings.Repeat("[", 50000) + strings.Repeat("]", 50000), "NaN": `{"volume":{"size":NaN}}`, "comment": `{"volume":{"size":1}} // x`,
		"byte order mark": "\xef\xbb\xbf{}", "single quotes": `{'volume':{'size':1}}`,
	} {
		t.Run(name, func(t *testing.T) { w.refused(w.do("alice", "POST", "/volumes", body), 400, "Malformed request body") })
	}
	for body, want := range map[string]string{
		`[]`: "[] is not of type 'object'", `null`: "None is not of type 'object'", `1`: "1 is not of type 'object'", `{}`: "'volume' is a required property",
		`{"volume":[]}`: "[] is not of type 'object'", `{"volume":{"size":1,"name":"\u0000"}}`: "does not match", `{"volume":{"size":1e30}}`: "1e30 is not of type",
		`{"volume":{"size":-9999999999999999999999}}`: "less than the minimum", `{"volume":{"size":1,"metadata":{"":"x"}}}`: "does not match any of the regexes",
	} {
		w.refused(w.do("alice", "POST", "/volumes", body), 400, want)
	}
	// Of a key that is there twice the last counts, as in Python.
	if v := w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"size":2}}`), 202); v["size"] != 2.0 {
		t.Errorf("a key that is there twice: %v", v)
	}
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1,"name":"`+strings.Repeat("x", 10<<20)+`"}}`), 413,
		"Request is too large. Larger than max_request_body_size (114688).")
	w.refused(w.do("alice", "POST", "/volumes", ``), 400, "is not of type 'object'")
	w.refused(w.do("alice", "PUT", "/volumes/x", ``), 400, "is not of type 'object'")
	w.refused(w.do("alice", "POST", "/volumes/x/action", `{"a":1,"b":2}`), 400, "Malformed request body")
	w.refused(w.do("alice", "POST", "/volumes", `{"volume":{"size":1}}`, "Content-Type", ""), 400, "None is not of type 'object'")
	w.want(w.do("alice", "POST", "/volumes", `{"volume":{"size":"1"}}`, "Content-Type", "application/vnd.openstack.volume+json"), 202)
}

func TestMicroversionOfRoutes(t *testing.T) {
	w := newWorld(t)
	for path, first := range map[string]string{
		"/messages": "3.3", "/clusters": "3.7", "/manageable_volumes?host=n1": "3.8", "/group_types": "3.11", "/volumes/summary": "3.12",
		"/groups": "3.13", "/group_snapshots": "3.14", "/attachments": "3.27", "/resource_filters": "3.33", "/default-types": "3.62",
	} {
		minor := strings.TrimPrefix(first, "3.")
		below := map[bool]string{true: "3.2"}[minor == "3"]
		for n := range 70 {
			if v := "3." + itoa(n); v == first && n > 0 {
				below = "3." + itoa(n-1)
			}
		}
		w.want(w.do("admin", "GET", path, "", "OpenStack-API-Version", "volume "+first), 200)
		a := w.do("admin", "GET", path, "", "OpenStack-API-Version", "volume "+below)
		w.refused(a, 404, "The resource could not be found.")
		if a.header.Get("OpenStack-API-Version") != "volume "+below || a.header.Get("Vary") != "OpenStack-API-Version" {
			t.Errorf("%s at %s: headers %v", path, below, a.header)
		}
	}
	w.refused(w.do("alice", "POST", "/volumes/x/action", `{"os-reimage":{}}`, "OpenStack-API-Version", "volume 3.67"), 404, "resource")
	w.refused(w.do("alice", "POST", "/volumes/x/action", `{"revert":{}}`, "OpenStack-API-Version", "volume 3.39"), 404, "resource")
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestPanicIs500AndLogged(t *testing.T) {
	w := newWorld(t)
	w.h = panics(t, w)
	a := w.do("alice", "GET", "/volumes", "", "X-OpenStack-Request-ID", "req-"+uuid.NewString())
	w.refused(a, 500, "The server has either erred")
	line := w.log.String()
	if !strings.Contains(line, "boom") || !strings.Contains(line, a.header.Get("X-Openstack-Request-Id")) || !strings.Contains(line, "global_request_id") {
		t.Errorf("log: %s", line)
	}
	if strings.Contains(line, "alice-secret") {
		t.Errorf("token in the log: %s", line)
	}
}

// boom is a store whose list panics.
type boom struct{ *v3test.Store }

func (boom) ListVolumes(context.Context, model.ListQuery) ([]model.Volume, error) { panic("boom") }

func panics(t *testing.T, w *world) http.Handler {
	t.Helper()
	l := logrus.New()
	l.SetOutput(w.log)
	h, err := api.New(api.Config{Auth: tokens{}, Log: logrus.NewEntry(l), V3: v3.Config{Store: boom{w.store}, Scheduler: w.sched}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestUnavailable(t *testing.T) {
	w := newWorld(t)
	id := w.volume("alice", `{"volume":{"size":1}}`)
	w.store.Do(func(s *v3test.Store) { s.Err = model.ErrUnavailable })
	for _, r := range [][3]string{
		{"GET", "/volumes", ""},
		{"GET", "/volumes/" + id, ""},
		{"POST", "/volumes", `{"volume":{"size":1}}`},
		{"DELETE", "/volumes/" + id, ""},
		{"GET", "/limits", ""},
		{"GET", "/types", ""},
		{"GET", "/attachments/" + id, ""},
	} {
		a := w.do("alice", r[0], r[1], r[2])
		w.refused(a, 503, "unavailable")
		if a.header.Get("Retry-After") == "" || a.body["serviceUnavailable"] == nil {
			t.Errorf("%s %s: %v %s", r[0], r[1], a.header, a.raw)
		}
	}
}

func TestConfig(t *testing.T) {
	store := v3test.NewStore()
	good := api.Config{Auth: tokens{}, V3: v3.Config{Store: store, Scheduler: &v3test.Scheduler{Store: store}}}
	for name, change := range map[string]func(*api.Config){
		"no auth": func(c *api.Config) { c.Auth = nil }, "no store": func(c *api.Config) { c.V3.Store = nil },
		"bad pattern": func(c *api.Config) { c.ProjectPattern = "(" },
	} {
		cfg := good
		change(&cfg)
		if _, err := api.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg := good
	cfg.PublicEndpoint, cfg.ProxyHeaders = "https://cloud.example/volume/", true
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for endpoint, want := range map[string]string{"https://cloud.example/volume/": "https://cloud.example/volume/v3/", "": "https://front.example/v3/"} {
		cfg.PublicEndpoint = endpoint
		if h, err = api.New(cfg); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "http://vt.example/", nil)
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-Host", "front.example, inner.example")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if !strings.Contains(rec.Body.String(), `"`+want+`"`) {
			t.Errorf("public_endpoint %q: %s", endpoint, rec.Body)
		}
	}
}

var errSomething = errors.New("something")
