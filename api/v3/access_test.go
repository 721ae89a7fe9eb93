package v3_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/api/v3/v3test"
	"github.com/vmthunder/vmthunder/db/model"
)

var projects = map[string]string{
	"A": strings.Repeat("a", 32), "B": strings.Repeat("b", 32), "C": strings.Repeat("c", 32),
}

// cast is an authenticator whose tokens are ROLE@PROJECT: admin has all three roles,
// member two, nothing none.
type cast struct{}

func (cast) Challenge() string { return `Keystone uri="http://keystone.example"` }

func (cast) Authenticate(_ context.Context, h http.Header, _ string) (keystone.Identity, error) {
	role, project, ok := strings.Cut(h.Get("X-Auth-Token"), "@")
	if !ok || h.Get("X-Service-Token") == "expired" {
		return keystone.Identity{}, keystone.ErrUnauthorized
	}
	roles := map[string][]string{"admin": {"admin", "member", "reader"}, "member": {"member", "reader"}, "reader": {"reader"}}[role]
	return keystone.Identity{UserID: role, ProjectID: projects[project], Roles: roles, ServiceToken: h.Get("X-Service-Token") != ""}, nil
}

// cloud is a control plane in memory with one of everything in project A.
type cloud struct {
	t     testing.TB
	h     http.Handler
	store *v3test.Store
	nova  *v3test.Nova
	names map[string]string // what {name} in a table stands for
}

func newCloud(t testing.TB, change ...func(*v3.Config)) *cloud {
	t.Helper()
	c := &cloud{t: t, store: v3test.NewStore(), nova: &v3test.Nova{Uses: map[string]string{}}, names: map[string]string{"project": projects["A"], "server": uuid.NewString()}}
	seen := c.store.Clock
	c.store.NodeRows = []model.Node{{Host: "n1", Compute: true, Enabled: true, Alive: true, AvailabilityZone: "nova", LastSeen: &seen}}
	c.store.LimitRows["volumes"], c.store.LimitRows["gigabytes"] = -1, -1
	image := uuid.New()
	c.names["image"] = image.String()
	c.store.ImageRows = []model.Image{{ID: image, Name: "debian", Status: model.ImageActive}}
	message := uuid.New()
	c.names["message"] = message.String()
	c.store.MessageRows = []model.Message{{ID: message, ProjectID: projects["A"], EventID: "VOLUME_VOLUME_001_001", CreatedAt: seen, ExpiresAt: seen.AddDate(1, 0, 0)}}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	cfg := v3.Config{
		Store: c.store, Scheduler: &v3test.Scheduler{Store: c.store, BackupStatus: model.BackupAvailable}, Nova: c.nova,
		Glance: &v3test.Glance{Images: []model.Image{{ID: image, Name: "debian", SizeBytes: 1 << 20, VirtualBytes: 1 << 30, DiskFormat: "raw"}}},
	}
	for _, set := range change {
		set(&cfg)
	}
	var err error
	if c.h, err = api.New(api.Config{Auth: cast{}, Log: logrus.NewEntry(quiet), V3: cfg}); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"type": `{"name":"plain","extra_specs":{"multiattach":"<is> True"}}`, "private": `{"name":"private","os-volume-type-access:is_public":false,"extra_specs":{"replication_enabled":"<is> True"}}`,
		"spare": `{"name":"spare","extra_specs":{"k":"v","a":"b"}}`,
	} {
		c.make(name, "admin@C", "/types", `{"volume_type":`+body+`}`, "volume_type")
	}
	c.must("admin@C", "POST", "/types/{private}/action", `{"addProjectAccess":{"project":"`+projects["A"]+`"}}`)
	c.must("admin@C", "POST", "/types/{spare}/encryption", `{"encryption":{"provider":"luks","control_location":"front-end"}}`)
	c.make("qos", "admin@C", "/qos-specs", `{"qos_specs":{"name":"q","k":"v"}}`, "qos_specs")
	c.must("admin@C", "PUT", "/default-types/{project}", `{"default_type":{"volume_type":"__DEFAULT__"}}`)
	for _, name := range []string{"volume", "used", "single", "given"} {
		c.make(name, "member@A", "/volumes", `{"volume":{"size":1,"metadata":{"k":"v"}}}`, "volume")
	}
	c.must("member@A", "POST", "/volumes/{volume}/action", `{"os-set_image_metadata":{"metadata":{"k":"v"}}}`)
	c.make("snapshot", "member@A", "/snapshots", `{"snapshot":{"volume_id":"{volume}","metadata":{"k":"v"}}}`, "snapshot")
	c.make("backup", "member@A", "/backups", `{"backup":{"volume_id":"{volume}","metadata":{"k":"v"}}}`, "backup")
	c.make("attachment", "member@A", "/attachments", `{"attachment":{"volume_uuid":"{used}","connector":{"host":"n1"}}}`, "attachment")
	c.must("member@A", "POST", "/attachments/{attachment}/action", `{"os-complete":null}`)
	transfer := c.make("transfer", "member@A", "/os-volume-transfer", `{"transfer":{"volume_id":"{given}"}}`, "transfer")
	c.names["key"], _ = transfer["auth_key"].(string)
	for name, specs := range map[string]string{
		"group_type": `{"k":"v"}`, "spare_group_type": `{}`, "replicated": `{"group_replication_enabled":"<is> True"}`,
	} {
		c.make(name, "admin@C", "/group_types", `{"group_type":{"name":"`+name+`","group_specs":`+specs+`}}`, "group_type")
	}
	for name, kinds := range map[string][2]string{
		"group": {"{group_type}", "__DEFAULT__"}, "spare_group": {"{group_type}", "__DEFAULT__"}, "mirror": {"{replicated}", "private"},
	} {
		c.make(name, "member@A", "/groups", `{"group":{"name":"`+name+`","group_type":"`+kinds[0]+`","volume_types":["`+kinds[1]+`"]}}`, "group")
	}
	c.must("member@A", "PUT", "/groups/{group}", `{"group":{"add_volumes":"{used}"}}`)
	c.make("group_snapshot", "member@A", "/group_snapshots", `{"group_snapshot":{"group_id":"{group}"}}`, "group_snapshot")
	return c
}

var placeholder = regexp.MustCompile(`\{[a-z_]+\}`)

func (c *cloud) fill(s string) string {
	return placeholder.ReplaceAllStringFunc(s, func(name string) string {
		if v, ok := c.names[name[1:len(name)-1]]; ok {
			return v
		}
		return name
	})
}

// ask sends a request, at microversion 3.70 if none is among the headers, which are pairs.
func (c *cloud) ask(token, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://vt.example:8776/v3"+c.fill(path), strings.NewReader(c.fill(body)))
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
	c.h.ServeHTTP(rec, r)
	return rec
}

func (c *cloud) must(token, method, path, body string) []byte {
	c.t.Helper()
	rec := c.ask(token, method, path, body)
	if rec.Code >= 300 {
		c.t.Fatalf("%s %s by %s: %d %s", method, path, token, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}

// make creates a thing and remembers its id under a name.
func (c *cloud) make(name, token, path, body, key string) map[string]any {
	c.t.Helper()
	var answer map[string]json.RawMessage
	var made map[string]any
	if b := c.must(token, "POST", path, body); json.Unmarshal(b, &answer) != nil || json.Unmarshal(answer[key], &made) != nil {
		c.t.Fatalf("POST %s: %s", path, b)
	}
	c.names[name], _ = made["id"].(string)
	return made
}

// access is a row of testdata/access.txt.
type access struct {
	method, path, action, rule, target string
	status                             int
	body                               string
}

func (a access) String() string { return strings.TrimSpace(a.method + " " + a.path + " " + a.action) }

func accessTable(t testing.TB) []access {
	t.Helper()
	b, err := os.ReadFile("testdata/access.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []access
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(f) < 5 {
			t.Fatalf("%q is no row", line)
		}
		row := access{method: f[0], rule: f[2], target: f[3]}
		row.path, row.action, _ = strings.Cut(f[1], "#")
		if row.status, err = strconv.Atoi(f[4]); err != nil {
			t.Fatal(err)
		}
		row.body = strings.Join(f[5:], " ")
		if row.action != "" {
			row.body = `{"` + row.action + `":` + row.body + `}`
		}
		out = append(out, row)
	}
	return out
}

// verdicts are what oslo.policy says to a caller of project A: rule → admin, member,
// reader, none, member elsewhere, reader elsewhere. Newer is with enforce_new_defaults.
func verdicts(t *testing.T, newer bool) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../policy/testdata/verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && !strings.HasPrefix(line, "#") {
			out[f[0]] = f[map[bool]int{false: 1, true: 2}[newer]]
		}
	}
	for _, ours := range []string{"images", "tree", "warm", "nodes", "doctor", "drain", "forget_pool"} {
		out["vmthunder:"+ours] = out["volume_extension:services:index"] // rule:admin_api
	}
	return out
}

// expected is the status that a caller is to see.
func (a access) expected(t *testing.T, says map[string]string, token string) int {
	t.Helper()
	role, project, ok := strings.Cut(token, "@")
	if !ok {
		return http.StatusUnauthorized
	}
	if role == "admin" || a.target == "all" {
		return a.status
	}
	at := map[string]int{"member": 1, "reader": 2, "none": 3}[role]
	elsewhere := project != "A"
	if elsewhere && a.target == "own" {
		return http.StatusNotFound
	}
	if elsewhere && a.target == "deny" {
		at += 3
	}
	if a.rule == "-" {
		return a.status
	}
	verdict, ok := says[a.rule]
	if !ok {
		t.Fatalf("%s: there is no rule %s", a, a.rule)
	}
	if verdict[at] == 'y' {
		return a.status
	}
	return http.StatusForbidden
}

// TestAccess asks every route and every action as everybody.
func TestAccess(t *testing.T) {
	table := accessTable(t)
	complete(t, table)
	t.Run("defaults", func(t *testing.T) { everybody(t, table, false) })
	t.Run("enforce_new_defaults", func(t *testing.T) { everybody(t, table, true) })
}

func everybody(t *testing.T, table []access, newer bool) {
	t.Helper()
	says := verdicts(t, newer)
	rules, err := policy.New(policy.Options{NewDefaults: newer})
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() *cloud { return newCloud(t, func(cfg *v3.Config) { cfg.Policy = rules }) }
	callers := []struct{ name, token, service string }{
		{"admin", "admin@C", ""}, {"member", "member@A", ""}, {"reader", "reader@A", ""}, {"no role", "none@A", ""},
		{"member of another project", "member@B", ""}, {"reader of another project", "reader@B", ""},
		{"expired token", "expired", ""}, {"no token", "", ""},
		{"service for a member", "member@A", "nova"}, {"service for another's member", "member@B", "nova"},
		{"expired service token", "member@A", "expired"},
	}
	c := fresh()
	for _, row := range table {
		for _, who := range callers {
			want := row.expected(t, says, who.token)
			var headers []string
			if who.service != "" {
				headers = []string{"X-Service-Token", who.service}
			}
			if who.service == "expired" {
				want = http.StatusUnauthorized
			}
			before := c.rows()
			rec := c.ask(who.token, row.method, row.path, row.body, headers...)
			after := c.rows()
			switch {
			case rec.Code != want:
				t.Errorf("%s by %s: %d, want %d: %s", row, who.name, rec.Code, want, rec.Body)
			case want == http.StatusForbidden && !slices.ContainsFunc([]string{row.rule, "volume:get ", "backup:get ", "group:get ", "group:get_group_snapshot ", "not authorized"}, func(s string) bool {
				return strings.Contains(rec.Body.String(), s)
			}):
				t.Errorf("%s by %s: %s does not name %s", row, who.name, rec.Body, row.rule)
			case want >= http.StatusBadRequest && before != after:
				t.Errorf("%s by %s was refused, and changed something", row, who.name)
			}
			if before != after { // the next one is to find everything as it was
				c = fresh()
			}
		}
	}
}

// rows are all that there is, as text.
func (c *cloud) rows() (text string) {
	c.store.Do(func(s *v3test.Store) {
		b, err := json.Marshal([]any{
			s.VolumeRows, s.SnapshotRows, s.AttachmentRows, s.TypeRows, s.TypeAccessRows, s.EncryptionRows, s.DefaultRows, s.QoSRows,
			s.BackupRows, s.TransferRows, s.GroupTypeRows, s.GroupRows, s.GroupSnapshotRows, s.NodeRows, s.MessageRows, s.MemberRows, s.QuotaRows, s.ClassRows,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		text = string(b)
	})
	return text
}

// complete fails for every route and action that is not in the table.
func complete(t *testing.T, table []access) {
	t.Helper()
	for _, r := range (&v3.API{}).Routes() {
		form := regexp.MustCompile("^" + placeholder.ReplaceAllString(r.Path, "[^/]+") + "$")
		actions := r.Actions
		if actions == nil {
			actions = []string{""}
		}
		for _, action := range actions {
			found := false
			for _, row := range table {
				path, _, _ := strings.Cut(row.path, "?")
				found = found || row.method == r.Method && row.action == action && form.MatchString(path)
			}
			if !found {
				t.Errorf("%s %s %s is not in testdata/access.txt", r.Method, r.Path, action)
			}
		}
	}
}
