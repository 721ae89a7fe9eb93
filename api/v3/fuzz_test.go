package v3_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// sane fails for an answer that no request may get: a server's error, one that shows the
// inside, or a refusal that has not the form of Cinder's faults.
func sane(t *testing.T, what string, rec *httptest.ResponseRecorder) {
	t.Helper()
	body := rec.Body.String()
	for _, inside := range []string{"goroutine ", "runtime error", ".go:"} {
		if strings.Contains(body, inside) {
			t.Fatalf("%s: shows %q: %s", what, inside, body)
		}
	}
	for _, h := range []string{"X-Openstack-Request-Id", "X-Compute-Request-Id"} {
		if _, err := uuid.Parse(strings.TrimPrefix(rec.Header().Get(h), "req-")); err != nil {
			t.Fatalf("%s: %s is %q", what, h, rec.Header().Get(h))
		}
	}
	switch {
	case rec.Code >= 500:
		t.Fatalf("%s: %d %s", what, rec.Code, body)
	case rec.Code < 400, rec.Code == http.StatusNotFound && strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html"):
		return
	}
	var f map[string]struct {
		Code    any
		Message *string
	}
	if json.Unmarshal(rec.Body.Bytes(), &f) == nil && len(f) == 1 {
		for _, one := range f {
			if one.Code == float64(rec.Code) && one.Message != nil {
				return
			}
		}
	}
	if rec.Code == http.StatusNotFound && strings.Contains(body, `"404 Not Found"`) {
		return // the router's, for those who ask for JSON
	}
	t.Fatalf("%s: %d is no fault of Cinder's: %s", what, rec.Code, body)
}

// fuzzed is a cloud that is made anew before it has grown too large to be fast.
type fuzzed struct {
	*cloud
	left int
}

func (f *fuzzed) at(t *testing.T) *cloud {
	if f.left--; f.left <= 0 {
		f.cloud, f.left = newCloud(t), 300
	}
	f.t = t
	return f.cloud
}

// rawAsk sends what url.Parse would not have: the target as it came over the wire.
func (c *cloud) rawAsk(token, method, path, query, body, mv string, set func(http.Header)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://vt.example:8776/", strings.NewReader(body))
	r.URL.Path, r.URL.RawQuery = "/v3"+c.fill(path), query
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("OpenStack-API-Version", "volume "+mv)
	if set != nil {
		set(r.Header)
	}
	rec := httptest.NewRecorder()
	c.h.ServeHTTP(rec, r)
	return rec
}

// FuzzBody: bodies of every POST and PUT; which one is the first argument.
func FuzzBody(f *testing.F) {
	var readers []access
	for _, row := range accessTable(f) {
		if row.body != "" {
			readers = append(readers, row)
		}
	}
	for i, row := range readers {
		for _, mv := range []uint8{0, 70} {
			f.Add(uint8(i), mv, []byte(row.body))
		}
	}
	for _, b := range []string{
		`{"volume":{"size":1,"size":2}}`, `{"volume":` + strings.Repeat("[", 20000), `{"a":"\u0000"}`, "\xff", `{"":{}}`, `[]`, `null`, ` `, "{}{}",
		`{"volume":{"size":1e999}}`, `{"volume":{"metadata":{"\ud800":"x"}}}`, "\xef\xbb\xbf{}",
	} {
		f.Add(uint8(0), uint8(70), []byte(b))
	}
	var world fuzzed
	f.Fuzz(func(t *testing.T, which, mv uint8, body []byte) {
		row := readers[int(which)%len(readers)]
		c := world.at(t)
		rec := c.rawAsk("admin@A", row.method, row.path, "", c.fill(string(body)), version(mv), nil)
		sane(t, row.String(), rec)
	})
}

func version(mv uint8) string { return "3." + strconv.Itoa(int(mv)%71) }

// FuzzRequestQuery: the query of every list and of everything else that is asked by GET or DELETE.
func FuzzRequestQuery(f *testing.F) {
	var asked []access
	for _, row := range accessTable(f) {
		if row.body == "" {
			asked = append(asked, row)
		}
	}
	for _, q := range []string{
		"limit=1&marker={volume}&sort=name:asc,size", "sort_key=id&sort_dir=desc&offset=3", "name~=x&status=error&metadata={'a':'b'}",
		"created_at=gt:2020-01-01,lt:2021-01-01T00:00:00", "all_tenants=1&with_count=True", "is_public=None&extra_specs={\"a\":\"b\"}", "limit=-1",
		"%ff=%00", "a=%zz", "usage=True", "detail=True&name=x", "cascade=True&force=True", "bootable=maybe&size=99999999999999999999",
	} {
		for i := range asked {
			f.Add(uint8(i), uint8(70), q)
		}
	}
	var world fuzzed
	f.Fuzz(func(t *testing.T, which, mv uint8, query string) {
		row := asked[int(which)%len(asked)]
		c := world.at(t)
		for _, token := range []string{"admin@A", "member@A"} {
			path, _, _ := strings.Cut(row.path, "?")
			sane(t, row.String()+"?"+query, c.rawAsk(token, row.method, path, c.fill(query), "", version(mv), nil))
		}
	})
}

// FuzzPath: what may stand for an id, a key or a name.
func FuzzPath(f *testing.F) {
	for _, p := range []string{
		"/volumes/x", "/volumes/{volume}.json", "/volumes//metadata", "/types/{type}/extra_specs/%", "/../..", "//", "/{project}/volumes", "/\x00", "/é",
		"/volumes/{volume}/encryption/\xff", "/os-quota-sets/..", "/default-types/{project}/", "/os-services/enable", "/capabilities/n1@vmthunder",
	} {
		f.Add("GET", p)
		f.Add("PUT", p)
	}
	var world fuzzed
	f.Fuzz(func(t *testing.T, method, path string) {
		if method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return // net/http does not take it
		}
		if !strings.HasPrefix(path, "/") {
			return
		}
		c := world.at(t)
		sane(t, method+" "+path, c.rawAsk("admin@A", method, path, "", `{"a":{"b":"c"}}`, "3.70", nil))
	})
}

// FuzzHeaders: microversion, tokens, conditions, types and what proxies say.
func FuzzHeaders(f *testing.F) {
	f.Add("volume 3.70", "member@A", "", `"d41d8cd98f00b204e9800998ecf8427e"`, "cloud.example", "https", "/volume", "application/json", "req-x")
	f.Add("compute 2.1,volume latest", "admin@C", "nova", `W/"x", *`, "[::1]:1", "javascript", "//evil", "text/plain; charset=x", "req-"+uuid.NewString())
	f.Add("volume 3.99", "x", "expired", "*", "a b", "", "..", "application/json; =", "\xff")
	f.Add("volume 99999999999999999999.1", "", "", ",", "", "", "", "", "")
	var world fuzzed
	f.Fuzz(func(t *testing.T, mv, token, service, match, host, proto, prefix, kind, request string) {
		c := world.at(t)
		for _, path := range []string{"/volumes/detail", "/volumes/{volume}/metadata", "/volumes/{volume}/metadata/k"} {
			method, body := "GET", ""
			if path != "/volumes/detail" {
				method, body = "PUT", `{"metadata":{"a":"b"}}`
			}
			rec := c.rawAsk(token, method, path, "", body, "3.70", func(h http.Header) {
				for k, v := range map[string]string{
					"OpenStack-API-Version": mv, "X-Service-Token": service, "If-Match": match, "X-Forwarded-Host": host, "X-Forwarded-Proto": proto,
					"X-Forwarded-Prefix": prefix, "Forwarded": "host=" + host + ";proto=" + proto, "Content-Type": kind, "X-OpenStack-Request-ID": request,
				} {
					if h.Del(k); v != "" {
						h.Set(k, v)
					}
				}
			})
			sane(t, method+" "+path, rec)
			if strings.Contains(rec.Header().Get("OpenStack-API-Version"), "\n") {
				t.Fatal("a header of the answer has two lines")
			}
		}
	})
}
