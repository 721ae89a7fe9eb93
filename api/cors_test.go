package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
)

// front is a handler of which only what stands before the resources is looked at.
func front(t *testing.T, change func(*api.Config)) http.Handler {
	t.Helper()
	store := v3test.NewStore()
	cfg := api.Config{Auth: tokens{}, Log: quiet(), V3: v3.Config{Store: store, Scheduler: &v3test.Scheduler{Store: store}}}
	change(&cfg)
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, method, url string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, http.NoBody)
	r.Header.Set("X-Auth-Token", "alice")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestCORS(t *testing.T) {
	const page = "https://horizon.example"
	h := front(t, func(c *api.Config) {
		c.CORS = api.CORS{Origins: []string{page}, Methods: []string{"GET", "POST"}, Headers: []string{"X-Auth-Token"},
			Expose: []string{"X-OpenStack-Request-ID"}, Credentials: true, MaxAge: 3600}
	})
	for _, c := range []struct {
		origin, method, headers string
		want                    map[string]string
	}{
		{page, "POST", "x-auth-token, content-type", map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Credentials": "true",
			"Access-Control-Max-Age": "3600", "Access-Control-Allow-Headers": "x-auth-token,content-type", "Vary": "Origin",
		}},
		{page, "GET", "", map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Headers": ""}},
		{page, "DELETE", "", map[string]string{"Access-Control-Allow-Origin": ""}},
		{page, "GET", "X-Evil", map[string]string{"Access-Control-Allow-Origin": ""}},
		{"https://evil.example", "GET", "", map[string]string{"Access-Control-Allow-Origin": "", "Vary": ""}},
		{"", "GET", "", map[string]string{"Access-Control-Allow-Origin": ""}},
	} {
		rec := ask(h, "OPTIONS", "http://vt.example/v3/volumes", "Origin", c.origin, "Access-Control-Request-Method", c.method,
			"Access-Control-Request-Headers", c.headers)
		if rec.Code != 200 || rec.Body.Len() != 0 {
			t.Errorf("OPTIONS: %d %s", rec.Code, rec.Body)
		}
		for k, v := range c.want {
			if rec.Header().Get(k) != v {
				t.Errorf("%s %s %q: %s is %q, want %q", c.origin, c.method, c.headers, k, rec.Header().Get(k), v)
			}
		}
	}
	rec := ask(h, "GET", "http://vt.example/v3/volumes", "Origin", page)
	if rec.Code != 200 || rec.Header().Get("Access-Control-Allow-Origin") != page ||
		rec.Header().Get("Access-Control-Expose-Headers") != "X-OpenStack-Request-ID" ||
		strings.Join(rec.Header()["Vary"], ",") != "Origin,OpenStack-API-Version" {
		t.Errorf("an answer to a page: %d %v", rec.Code, rec.Header())
	}
	if rec := ask(h, "GET", "http://vt.example/v3/volumes", "Origin", "https://evil.example"); rec.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("an answer to another page: %v", rec.Header())
	}
	// Not configured: as if there were no such thing.
	h = front(t, func(*api.Config) {})
	if rec := ask(h, "OPTIONS", "http://vt.example/v3/volumes", "Origin", page); rec.Code != 404 {
		t.Errorf("OPTIONS without CORS: %d", rec.Code)
	}
	h = front(t, func(c *api.Config) { c.CORS.Origins = []string{"*"} })
	if rec := ask(h, "GET", "http://vt.example/v3/volumes", "Origin", page); rec.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("all pages may ask: %v", rec.Header())
	}
}

func TestLinksBehindProxies(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{nil, "http://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Proto", "https"}, "https://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Host", "cloud.example:443, inner"}, "http://cloud.example:443/v3/"},
		{[]string{"X-Forwarded-Host", "[2001:db8::1]:8776"}, "http://[2001:db8::1]:8776/v3/"},
		{[]string{"X-Forwarded-Prefix", "/volume/"}, "http://vt.example:8776/volume/v3/"},
		{[]string{"Forwarded", `for=192.0.2.6;proto=https;host="cloud.example", for=10.0.0.1`}, "https://cloud.example/v3/"},
		{[]string{"Forwarded", "host=a.example", "X-Forwarded-Host", "b.example"}, "http://a.example/v3/"},
		{[]string{"X-Forwarded-Proto", "javascript"}, "http://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Host", `evil.example/"><script>`}, "http://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Host", "user@evil.example"}, "http://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Prefix", "//evil.example"}, "http://vt.example:8776/v3/"},
		{[]string{"X-Forwarded-Prefix", "/a?b=c"}, "http://vt.example:8776/v3/"},
	} {
		for believe, want := range map[bool]string{true: c.want, false: "http://vt.example:8776/v3/"} {
			h := front(t, func(cfg *api.Config) { cfg.ProxyHeaders = believe })
			rec := ask(h, "GET", "http://vt.example:8776/", c.headers...)
			if !strings.Contains(rec.Body.String(), `"href":"`+want+`"`) {
				t.Errorf("%v, believed %v: %s, want %s", c.headers, believe, rec.Body, want)
			}
		}
	}
}
