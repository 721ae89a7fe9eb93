package wire

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/scheduler"
)

// restSite is the REST API over a real database, with one of everything.
type restSite struct {
	*site
	h     http.Handler
	names map[string]string
}

const hostileProject = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func newRestSite(t *testing.T) *restSite {
	t.Helper()
	s := &restSite{site: newSite(t, scheduler.Options{}, "o1", "n1"), names: map[string]string{
		"project": hostileProject, "server": uuid.NewString(), "image": uuid.NewString(), "message": uuid.NewString(), "key": "0123456789abcdef",
	}}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.h, err = api.New(api.Config{Auth: keystone.NoAuth{}, Log: logrus.NewEntry(quiet), V3: v3.Config{
		Store: APIStore(s.store), Scheduler: s.svc, Now: time.Now,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"type": `{"name":"plain"}`, "private": `{"name":"p","os-volume-type-access:is_public":false}`, "spare": `{"name":"s"}`} {
		s.make(name, "/types", "volume_type", `{"volume_type":`+body+`}`)
	}
	s.make("qos", "/qos-specs", "qos_specs", `{"qos_specs":{"name":"q","k":"v"}}`)
	for _, name := range []string{"volume", "used", "single", "given"} {
		s.make(name, "/volumes", "volume", `{"volume":{"size":1,"metadata":{"k":"v"}}}`)
	}
	s.make("snapshot", "/snapshots", "snapshot", `{"snapshot":{"volume_id":"{volume}"}}`)
	s.make("attachment", "/attachments", "attachment", `{"attachment":{"volume_uuid":"{used}"}}`)
	s.make("transfer", "/os-volume-transfer", "transfer", `{"transfer":{"volume_id":"{given}"}}`)
	s.make("group_type", "/group_types", "group_type", `{"group_type":{"name":"gt","group_specs":{"k":"v"}}}`)
	for _, name := range []string{"group", "spare_group", "mirror"} {
		s.make(name, "/groups", "group", `{"group":{"group_type":"{group_type}","volume_types":["{type}"]}}`)
	}
	s.make("member", "/volumes", "volume", `{"volume":{"size":1,"volume_type":"{type}","group_id":"{group}"}}`)
	s.make("group_snapshot", "/group_snapshots", "group_snapshot", `{"group_snapshot":{"group_id":"{group}"}}`)
	return s
}

var named = regexp.MustCompile(`\{[a-z_]+\}`)

func (s *restSite) fill(text string) string {
	return named.ReplaceAllStringFunc(text, func(n string) string {
		if v, ok := s.names[n[1:len(n)-1]]; ok {
			return v
		}
		return n
	})
}

func (s *restSite) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://vt.example/", strings.NewReader(body))
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut("/v3"+s.fill(path), "?") // as it came, however odd
	r.Header.Set("X-Auth-Token", "admin:"+hostileProject)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("OpenStack-API-Version", "volume 3.70")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	s.h.ServeHTTP(rec, r)
	return rec
}

func (s *restSite) make(name, path, key, body string) {
	s.t.Helper()
	rec := s.ask("POST", path, s.fill(body))
	var answer map[string]json.RawMessage
	var made struct{ ID string }
	if json.Unmarshal(rec.Body.Bytes(), &answer) != nil || json.Unmarshal(answer[key], &made) != nil || made.ID == "" {
		s.t.Fatalf("POST %s: %d %s", path, rec.Code, rec.Body)
	}
	s.names[name] = made.ID
}

// sane tells what is wrong with an answer to whatever request: a server's error, one that
// is no fault of Cinder's form, or one that shows the inside. One that says what is not
// supported or not there yet is fine.
func sane(rec *httptest.ResponseRecorder) string {
	body := rec.Body.String()
	for _, inside := range []string{"goroutine ", "runtime error", ".go:", "pq: ", "SQLSTATE", "sql: "} {
		if strings.Contains(body, inside) {
			return "it shows " + inside
		}
	}
	if rec.Code < 400 {
		return ""
	}
	if rec.Code >= 500 && rec.Code != http.StatusServiceUnavailable {
		return "the server erred"
	}
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") && rec.Code == http.StatusNotFound {
		return "" // the router's
	}
	var f map[string]struct {
		Code    int
		Message *string
	}
	if json.Unmarshal(rec.Body.Bytes(), &f) != nil || len(f) != 1 {
		return "it is no fault"
	}
	for _, one := range f {
		if one.Code != rec.Code || one.Message == nil {
			return "its fault is not Cinder's"
		}
	}
	return ""
}

// poison is what may stand where a value is expected.
func poison() []string {
	long := strings.Repeat("x", 300)
	return []string{
		"null", "true", "-1", "0", "1.5", "99999999999999999999", "1e400", `""`, `" "`, `"\u0000"`, `"a\u0000b"`, `"\ud800"`, "\"\xff\xfe\"",
		`"` + long + `"`, `[]`, `{}`, `{"a":1}`, `[1]`, `{"\u0000":"\u0000"}`, `{"` + long + `":"x"}`, `"2147483648"`, `2147483648`,
		`"00000000-0000-0000-0000-000000000000"`, `"'; DROP TABLE volumes; --"`, `"%s%n"`, `"../../etc/passwd"`,
	}
}

var leaf = regexp.MustCompile(`("(?:[^"\\]|\\.)*"|true|false|null|[0-9]+)([,}\]])`)

// TestHostileBodies: every body that the API reads, with every value in it exchanged for
// every poison, on a real database.
func TestHostileBodies(t *testing.T) {
	s := newRestSite(t)
	b, err := os.ReadFile("../../../api/v3/testdata/access.txt")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || strings.HasPrefix(line, "#") {
			continue
		}
		path, action, _ := strings.Cut(f[1], "#")
		body := s.fill(strings.Join(f[5:], " "))
		if action != "" {
			body = `{"` + action + `":` + body + `}`
		}
		for _, at := range leaf.FindAllStringSubmatchIndex(body, -1) {
			for _, p := range poison() {
				bad := body[:at[2]] + p + body[at[3]:]
				asked++
				if rec := s.ask(f[0], path, bad); sane(rec) != "" {
					t.Errorf("%s %s %s: %s: %d %s", f[0], path, bad, sane(rec), rec.Code, rec.Body)
				}
			}
		}
	}
	if asked < 1000 {
		t.Errorf("only %d bodies", asked)
	}
}

// TestHostileQueries: every list, with every parameter that it reads.
func TestHostileQueries(t *testing.T) {
	s := newRestSite(t)
	values := []string{
		"", "%00", "a%00b", "%ff%fe", "-1", "0", "1", "99999999999999999999", "1.5", "None", "True", "%7B%7D", "%7B%22a%22%3A%22%00%22%7D",
		"%7B%22a%22%3A%22%5Cu0000%22%7D", "%7B'a':%20'b'%7D", "gt:2020-01-01", "gt:%00", "lt:99999-01-01", "created_at:asc,%00", "%", "%zz",
		"%25", "_", "%5C", "00000000-0000-0000-0000-000000000000", "a,b,,c", ":", "id:asc,id:desc", strings.Repeat("x", 3000), "%E2%80%AE", ";",
	}
	keys := []string{
		"limit", "offset", "marker", "sort", "sort_key", "sort_dir", "all_tenants", "with_count", "name", "name~", "status", "metadata", "metadata~",
		"glance_metadata", "bootable", "size", "size~", "created_at", "updated_at", "consumes_quota", "group_id", "group_type_id", "list_volume", "id", "host", "is_public",
		"extra_specs", "volume_id", "instance_id", "resource_uuid", "project_id", "usage", "detail", "volume_type", "%00", "%ff", "a[b]",
		"migration_status", "availability_zone", "user_id", "volume_type_id", "snapshot_id", "source_volid", "multiattach", "description~",
	}
	for _, path := range []string{
		"/volumes", "/volumes/detail", "/volumes/summary", "/snapshots/detail", "/attachments/detail", "/types", "/qos-specs", "/messages",
		"/os-volume-transfer/detail", "/volume-transfers/detail", "/backups/detail", "/groups/detail", "/group_types", "/group_snapshots/detail",
		"/consistencygroups/detail", "/cgsnapshots", "/limits", "/os-services", "/os-hosts",
		"/scheduler-stats/get_pools", "/resource_filters", "/os-quota-sets/{project}", "/qos-specs/{qos}/associate",
	} {
		for _, key := range keys {
			for _, value := range values {
				if rec := s.ask("GET", path+"?"+key+"="+value, ""); sane(rec) != "" {
					t.Errorf("%s?%s=%.40s: %s: %d %s", path, key, value, sane(rec), rec.Code, rec.Body)
				}
			}
		}
	}
}

// TestHostilePaths: what may stand where an id is expected.
func TestHostilePaths(t *testing.T) {
	s := newRestSite(t)
	for _, id := range []string{"\x00", "\xff", "%", "..", strings.Repeat("x", 9000), "'; --", "{\u202e", "00000000000000000000000000000000", "é"} {
		for _, path := range []string{
			"/volumes/*", "/volumes/*/metadata", "/volumes/{volume}/metadata/*", "/volumes/{volume}/encryption/*", "/snapshots/*", "/attachments/*",
			"/types/*", "/types/{type}/extra_specs/*", "/types/{type}/encryption/*", "/qos-specs/*", "/messages/*", "/os-volume-transfer/*",
			"/os-quota-sets/*", "/os-quota-class-sets/*", "/default-types/*", "/os-hosts/*", "/capabilities/*", "/extensions/*", "/backups/*",
			"/groups/*", "/group_types/*", "/group_types/{group_type}/group_specs/*", "/group_snapshots/*", "/consistencygroups/*", "/os-services/*", "/vmthunder/images/*/tree",
		} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				body := map[bool]string{true: `{"meta":{"a":"b"}}`}[method == "PUT"]
				if rec := s.ask(method, strings.ReplaceAll(path, "*", id), body); sane(rec) != "" {
					t.Errorf("%s %s with %.40q: %s: %d %s", method, path, id, sane(rec), rec.Code, rec.Body)
				}
			}
		}
	}
}
