package nova_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/nova"
	"github.com/vmthunder/vmthunder/db/model"
)

var (
	server   = uuid.MustParse("152e359d-e56d-46dc-84d3-bbc763080a95")
	volume   = uuid.MustParse("c91f6e85-8e68-48b7-a812-852b6de4ccb2")
	attached = "e3d27fc8-e656-413b-b5de-be6ff8d2d659"
	alice    = keystone.Identity{UserID: "alice", ProjectID: "p1", Token: "alice-token"}
)

// cloud is a Keystone and a Nova that know the service user and alice.
type cloud struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	noNova   bool     // it is not in the catalog
	status   int      // of Nova's answer; 0: what is right
	body     string   // of Nova's answer to a GET; "": what is right
	code     int      // of an event
	revoked  bool     // the service user's first token
	logins   []string // how, in order
	requests []string // to Nova
	events   []string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, code: 200}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v3/auth/tokens":
		c.login(w, r)
	case strings.HasPrefix(r.URL.Path, "/public/v2.1/"), strings.HasPrefix(r.URL.Path, "/internal/v2.1/"):
		c.nova(w, r)
	default:
		c.t.Errorf("unexpected %s %s", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *cloud) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
				Token struct{ ID string }
			}
			Scope struct{ Project struct{ ID, Name string } }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		c.t.Error(err)
	}
	u, scope := body.Auth.Identity, body.Auth.Scope.Project
	switch {
	case u.Password.User.Name == "vmthunder" && u.Password.User.Password == "pw" && scope.Name == "service":
		c.logins = append(c.logins, "password")
		w.Header().Set("X-Subject-Token", fmt.Sprintf("own-%d", len(c.logins)))
	case u.Token.ID == "alice-token" && scope.ID == "p1":
		c.logins = append(c.logins, "token")
		w.Header().Set("X-Subject-Token", "alice-exchanged")
	default:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusCreated)
	catalog := "[]"
	if !c.noNova {
		// An old way to write the endpoint, with the project.
		catalog = fmt.Sprintf(`[{"type":"compute","name":"nova","id":"1","endpoints":[
			{"id":"2","interface":"internal","region":"R1","region_id":"R1","url":"%[1]s/internal/v2.1/service-id"},
			{"id":"3","interface":"public","region":"R2","region_id":"R2","url":"http://127.0.0.1:1/v2.1"},
			{"id":"4","interface":"public","region":"R1","region_id":"R1","url":"%[1]s/public/v2.1"}]}]`, c.url)
	}
	fmt.Fprintf(w, `{"token":{"expires_at":"2099-01-01T00:00:00.000000Z","user":{"id":"u","name":"x","domain":{"id":"default"}},"catalog":%s}}`, catalog)
}

func (c *cloud) nova(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("X-Auth-Token")
	if token == "own-1" && c.revoked {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.requests = append(c.requests, fmt.Sprintf("%s %s %s as %s", r.Method, r.URL.Path, r.Header.Get("OpenStack-API-Version"), token))
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	if r.Method == http.MethodGet {
		body := c.body
		if body == "" {
			body = fmt.Sprintf(`{"volumeAttachment":{"attachment_id":%q,"volumeId":%q}}`, attached, volume)
		}
		fmt.Fprint(w, body)
		return
	}
	var in map[string][]map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		c.t.Error(err)
	}
	for _, e := range in["events"] {
		c.events = append(c.events, fmt.Sprint(e["name"], " ", e["status"], " ", e["server_uuid"], " ", e["tag"]))
		e["code"] = c.code
		if c.code != 200 {
			e["status"] = "failed"
			w.WriteHeader(http.StatusMultiStatus)
		}
	}
	_ = json.NewEncoder(w).Encode(in)
}

func (c *cloud) client(change func(*nova.Config)) *nova.Client {
	c.t.Helper()
	cfg := nova.Config{User: keystone.Config{
		AuthURL: c.url, Username: "vmthunder", Password: "pw", ProjectName: "service", Region: "R1", Interface: "public", HTTPClient: http.DefaultClient,
	}}
	if change != nil {
		change(&cfg)
	}
	n, err := nova.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func TestAttachment(t *testing.T) {
	c := newCloud(t)
	path := "/v2.1/servers/" + server.String() + "/os-volume_attachments/" + volume.String() + " compute 2.89 as "
	for _, x := range []struct {
		name, want string
		change     func(*nova.Config)
	}{
		{"with the caller's token", "GET /public" + path + "alice-token", nil},
		{"another interface", "GET /internal" + path + "alice-token", func(n *nova.Config) { n.User.Interface = "internal" }},
		{"token_auth_url", "GET /public" + path + "alice-exchanged", func(n *nova.Config) { n.TokenAuthURL = c.url + "/v3" }},
	} {
		c.requests = nil
		got, err := c.client(x.change).Attachment(t.Context(), alice, server, volume)
		if err != nil || got != attached {
			t.Errorf("%s: %q, %v", x.name, got, err)
		}
		if len(c.requests) != 1 || c.requests[0] != x.want {
			t.Errorf("%s: requests %q, want %q", x.name, c.requests, x.want)
		}
	}
	if got := strings.Join(c.logins, " "); got != "password password token" {
		t.Errorf("logins: %s", got)
	}
}

func TestAttachmentIsNot(t *testing.T) {
	c := newCloud(t)
	n := c.client(nil)
	ask := func() (string, error) { return n.Attachment(t.Context(), alice, server, volume) }
	for status, want := range map[int]error{
		404: model.ErrNotFound, 401: model.ErrUnavailable, 403: model.ErrUnavailable, 406: model.ErrUnavailable, 500: model.ErrUnavailable,
	} {
		c.status = status
		if _, err := ask(); !errors.Is(err, want) || strings.Contains(err.Error(), "alice-token") {
			t.Errorf("%d: %v", status, err)
		}
	}
	c.status = 0
	// Attached in the way before attachments had ids.
	c.body = `{"volumeAttachment":{"attachment_id":null}}`
	if got, err := ask(); err != nil || got != "" {
		t.Errorf("without an id: %q, %v", got, err)
	}
	c.body = `<html>`
	if _, err := ask(); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("no JSON: %v", err)
	}
	for name, change := range map[string]func(*nova.Config){
		"wrong password":   func(n *nova.Config) { n.User.Password = "wr0ng" },
		"nobody there":     func(n *nova.Config) { n.User.Region = "R2" },
		"no such region":   func(n *nova.Config) { n.User.Region = "R3" },
		"Keystone is down": func(n *nova.Config) { n.User.AuthURL = "http://127.0.0.1:1" },
		"no exchange":      func(n *nova.Config) { n.TokenAuthURL = "http://127.0.0.1:1" },
	} {
		_, err := c.client(change).Attachment(t.Context(), alice, server, volume)
		if !errors.Is(err, model.ErrUnavailable) || strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "alice-token") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A Nova that comes into the catalog later is found without a restart.
func TestCatalogChanges(t *testing.T) {
	c := newCloud(t)
	c.noNova = true
	n := c.client(nil)
	if _, err := n.Attachment(t.Context(), alice, server, volume); !errors.Is(err, model.ErrUnavailable) || !strings.Contains(err.Error(), "not in the catalog") {
		t.Errorf("without Nova: %v", err)
	}
	c.noNova = false
	if got, err := n.Attachment(t.Context(), alice, server, volume); err != nil || got != attached {
		t.Errorf("with Nova: %q, %v", got, err)
	}
}

func TestEvents(t *testing.T) {
	c := newCloud(t)
	n := c.client(nil)
	extended := func() error { return n.VolumeExtended(t.Context(), server, volume) }
	reimaged := func(failed bool) func() error {
		return func() error { return n.VolumeReimaged(t.Context(), server, volume, failed) }
	}
	c.revoked = true // after the first login
	for _, x := range []struct {
		send            func() error
		event, revision string
	}{
		{extended, "volume-extended completed", "2.51"},
		{reimaged(false), "volume-reimaged completed", "2.93"},
		{reimaged(true), "volume-reimaged failed", "2.93"},
	} {
		c.events, c.requests = nil, nil
		if err := x.send(); err != nil {
			t.Error(err)
		}
		if want := x.event + " " + server.String() + " " + volume.String(); len(c.events) != 1 || c.events[0] != want {
			t.Errorf("events %q, want %q", c.events, want)
		}
		if want := "POST /public/v2.1/os-server-external-events compute " + x.revision + " as own-2"; len(c.requests) != 1 || c.requests[0] != want {
			t.Errorf("requests %q, want %q", c.requests, want)
		}
	}
	for code, want := range map[int]error{404: model.ErrNotFound, 422: model.ErrNotFound, 400: model.ErrUnavailable, 0: model.ErrUnavailable} {
		c.code = code
		if err := extended(); !errors.Is(err, want) {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
	}
	c.status = 403
	if err := extended(); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("refused: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []nova.Config{{}, {User: keystone.Config{AuthURL: "http://k", Username: "u"}}, {User: keystone.Config{Username: "u", HTTPClient: http.DefaultClient}}} {
		if _, err := nova.New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
