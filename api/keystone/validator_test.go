package keystone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/keystone"
)

// fakeKeystone knows the service user and some tokens, and counts what it is asked.
type fakeKeystone struct {
	t        *testing.T
	url      string
	mu       sync.Mutex
	own      string // the service user's token that is valid now
	logins   int
	now      time.Time
	validate atomic.Int64
	hold     chan struct{} // validations wait for it, if not nil
}

type tokenDoc struct {
	user, project string
	roles         []string
	life          time.Duration
}

func known() map[string]tokenDoc {
	return map[string]tokenDoc{
		"alice":   {"alice", "p1", []string{"member"}, time.Hour},
		"admin":   {"root", "p0", []string{"admin", "member"}, time.Hour},
		"nova":    {"nova", "service", []string{"service"}, time.Hour},
		"other":   {"other", "service", []string{"member"}, time.Hour},
		"short":   {"short", "p1", []string{"member"}, time.Minute},
		"expired": {"late", "p1", []string{"member"}, -time.Hour},
	}
}

func newFake(t *testing.T) *fakeKeystone {
	t.Helper()
	k := &fakeKeystone{t: t, now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}
	s := httptest.NewServer(k)
	t.Cleanup(s.Close)
	k.url = s.URL
	return k
}

func (k *fakeKeystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v3/auth/tokens":
		k.login(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/v3/auth/tokens":
		k.show(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (k *fakeKeystone) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
			Scope struct{ Project struct{ Name string } }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		k.t.Error(err)
	}
	u := body.Auth.Identity.Password.User
	if u.Name != "vmthunder" || u.Password != "pw" || body.Auth.Scope.Project.Name != "service" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k.mu.Lock()
	k.logins++
	k.own = fmt.Sprintf("own-%d", k.logins)
	w.Header().Set("X-Subject-Token", k.own)
	k.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"token":{"expires_at":"%s","user":{"id":"u","name":"vmthunder","domain":{"id":"default"}},"catalog":[
		{"type":"image","name":"glance","id":"1","endpoints":[
		{"id":"2","interface":"internal","region":"R1","region_id":"R1","url":"http://glance.internal:9292"},
		{"id":"3","interface":"public","region":"R1","region_id":"R1","url":"http://glance.public:9292"}]}]}}`,
		k.now.Add(time.Hour).Format("2006-01-02T15:04:05.000000Z"))
}

func (k *fakeKeystone) show(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	own, hold := k.own, k.hold
	k.mu.Unlock()
	if r.Header.Get("X-Auth-Token") != own {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k.validate.Add(1)
	if hold != nil {
		<-hold
	}
	d, ok := known()[r.Header.Get("X-Subject-Token")]
	if !ok || d.life < 0 && r.URL.Query().Get("allow_expired") != "1" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	roles := []map[string]string{}
	for _, name := range d.roles {
		roles = append(roles, map[string]string{"id": name, "name": name})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
		"expires_at": k.now.Add(d.life).Format("2006-01-02T15:04:05.000000Z"),
		"user":       map[string]any{"id": d.user, "name": d.user, "domain": map[string]string{"id": "default"}},
		"project":    map[string]any{"id": d.project, "name": d.project, "domain": map[string]string{"id": "default"}},
		"roles":      roles,
	}})
}

func (k *fakeKeystone) config() keystone.Config {
	return keystone.Config{
		AuthURL: k.url, WWWAuthenticate: "http://keystone.example:5000", Username: "vmthunder", Password: "pw", ProjectName: "service",
		Now: func() time.Time { return k.now },
	}
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestAuthenticate(t *testing.T) {
	k := newFake(t)
	v := keystone.New(k.config())
	for _, c := range []struct {
		name    string
		h       http.Header
		user    string
		admin   bool
		service bool
		err     error
	}{
		{"user", headers("X-Auth-Token", "alice"), "alice", false, false, nil},
		{"admin", headers("X-Auth-Token", "admin"), "root", true, false, nil},
		{"none", headers(), "", false, false, keystone.ErrUnauthorized},
		{"wrong", headers("X-Auth-Token", "nope"), "", false, false, keystone.ErrUnauthorized},
		{"with service", headers("X-Auth-Token", "alice", "X-Service-Token", "nova"), "alice", false, true, nil},
		{"service without role", headers("X-Auth-Token", "alice", "X-Service-Token", "other"), "alice", false, false, nil},
		{"wrong service", headers("X-Auth-Token", "alice", "X-Service-Token", "nope"), "", false, false, keystone.ErrUnauthorized},
		{"expired", headers("X-Auth-Token", "expired"), "", false, false, keystone.ErrUnauthorized},
		{"expired with service", headers("X-Auth-Token", "expired", "X-Service-Token", "nova"), "late", false, true, nil},
		{"expired again", headers("X-Auth-Token", "expired"), "", false, false, keystone.ErrUnauthorized},
	} {
		id, err := v.Authenticate(t.Context(), c.h, "")
		if !errors.Is(err, c.err) || id.UserID != c.user || id.Admin != c.admin || id.ServiceToken != c.service {
			t.Errorf("%s: %+v, %v", c.name, id, err)
		}
		if err == nil && id.Token != c.h.Get("X-Auth-Token") {
			t.Errorf("%s: token %q", c.name, id.Token)
		}
	}
	if c := v.Challenge(); c != `Keystone uri="http://keystone.example:5000"` {
		t.Errorf("challenge %s", c)
	}
	if strings.Contains(fmt.Sprint(keystone.Identity{UserID: "u", Token: "t0ken"}), "t0ken") {
		t.Error("an identity prints its token")
	}
}

func TestCache(t *testing.T) {
	k := newFake(t)
	v := keystone.New(k.config())
	ask := func(token string, want error) int64 {
		t.Helper()
		before := k.validate.Load()
		if _, err := v.Authenticate(t.Context(), headers("X-Auth-Token", token), ""); !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", token, err, want)
		}
		return k.validate.Load() - before
	}
	for _, step := range []struct {
		after time.Duration
		token string
		err   error
		asks  int64
	}{
		{0, "alice", nil, 1},
		{0, "alice", nil, 0},
		{4 * time.Minute, "alice", nil, 0},
		{time.Minute, "alice", nil, 1},
		{0, "short", nil, 1},                     // expires at 8:01, which has passed on the clock below …
		{0, "nope", keystone.ErrUnauthorized, 1}, // refusals are kept, too,
		{0, "nope", keystone.ErrUnauthorized, 0}, // for a short time
		{11 * time.Second, "nope", keystone.ErrUnauthorized, 1},
		{50 * time.Second, "short", nil, 1}, // … so it is asked again after its minute
	} {
		k.now = k.now.Add(step.after)
		if n := ask(step.token, step.err); n != step.asks {
			t.Errorf("%+v: asked %d times", step, n)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	k := newFake(t)
	cfg := k.config()
	cfg.CacheSize = 2
	v := keystone.New(cfg)
	for _, token := range []string{"alice", "admin", "alice", "other", "alice", "admin"} { // admin falls out for other
		if _, err := v.Authenticate(t.Context(), headers("X-Auth-Token", token), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.validate.Load(); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
}

func TestOneQuestionForMany(t *testing.T) {
	k := newFake(t)
	k.hold = make(chan struct{})
	v := keystone.New(k.config())
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	errs := make(chan error, 9)
	for i := range 9 {
		ctx := t.Context()
		if i == 0 {
			ctx = impatient
		}
		wg.Go(func() {
			_, err := v.Authenticate(ctx, headers("X-Auth-Token", "alice"), "")
			errs <- err
		})
	}
	for k.validate.Load() == 0 { // until the first one asks
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-errs; !errors.Is(err, keystone.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("gave up: %v", err)
	}
	close(k.hold)
	wg.Wait()
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := k.validate.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestServiceUser(t *testing.T) {
	k := newFake(t)
	v := keystone.New(k.config())
	ok := func(token string) {
		t.Helper()
		if _, err := v.Authenticate(t.Context(), headers("X-Auth-Token", token), ""); err != nil {
			t.Fatal(err)
		}
	}
	ok("alice")
	k.mu.Lock()
	k.own = "somebody revoked it"
	k.mu.Unlock()
	ok("admin")
	if k.logins != 2 {
		t.Errorf("%d logins", k.logins)
	}
	url, err := v.Endpoint(t.Context(), "image")
	if err != nil || !strings.HasPrefix(url, "http://glance.internal:9292") {
		t.Errorf("endpoint %q, %v", url, err)
	}
	if _, err := v.Endpoint(t.Context(), "dns"); err == nil {
		t.Error("an endpoint that is not in the catalog")
	}

	cfg := k.config()
	cfg.Password = "wr0ng-secret"
	if _, err = keystone.New(cfg).Authenticate(t.Context(), headers("X-Auth-Token", "t0ken"), ""); !errors.Is(err, keystone.ErrUnreachable) {
		t.Errorf("wrong password: %v", err)
	} else if strings.Contains(err.Error(), "wr0ng-secret") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("secret in the error: %v", err)
	}
	cfg = k.config()
	cfg.AuthURL = "http://127.0.0.1:1"
	if _, err = keystone.New(cfg).Authenticate(t.Context(), headers("X-Auth-Token", "t0ken"), ""); !errors.Is(err, keystone.ErrUnreachable) ||
		strings.Contains(err.Error(), "t0ken") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestNoAuth(t *testing.T) {
	for _, c := range []struct{ token, url, user, project string }{
		{"u:p", "", "u", "p"}, {"u:p", "x", "u", "p"}, {"anything", "x", "anything", "x"}, {"", "x", "admin", "x"}, {"t", "", "t", "t"},
	} {
		id, err := keystone.NoAuth{}.Authenticate(t.Context(), headers("X-Auth-Token", c.token), c.url)
		if err != nil || id.UserID != c.user || id.ProjectID != c.project || !id.Admin || id.ServiceToken {
			t.Errorf("%+v: %+v, %v", c, id, err)
		}
	}
}
