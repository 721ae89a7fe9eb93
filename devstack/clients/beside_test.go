//go:build lab

package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// request is one that both services are asked. {name} in path and body stands for the id
// that an earlier answer had, see save.
type request struct {
	method, path, version, body string
	save                        string // name for the id in the answer's only object
	settle                      bool   // afterwards, wait for the volumes to be at rest
}

// side is one of the two services.
type side struct {
	base, project string
	token         string
	client        *http.Client
	ids           map[string]string
}

// answered is what is compared.
type answered struct {
	Status  int
	Type    string
	Version string
	Body    any
}

// ask sends a request and returns the answer with ids, times and addresses made alike.
func (s *side) ask(ctx context.Context, r request) (answered, error) {
	var names []string
	for name, id := range s.ids {
		names = append(names, "{"+name+"}", id)
	}
	fill := strings.NewReplacer(names...)
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(fill.Replace(r.body))
	}
	path := strings.NewReplacer(`"`, "%22", "'", "%27", "{", "%7B", "}", "%7D", " ", "%20").Replace(fill.Replace(r.path))
	req, err := http.NewRequestWithContext(ctx, r.method, s.base+"/v3/"+s.project+path, body)
	if err != nil {
		return answered{}, err
	}
	req.Header.Set("X-Auth-Token", s.token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.version != "" {
		req.Header.Set("OpenStack-API-Version", "volume "+r.version)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answered{}, err
	}
	if r.save != "" {
		var one map[string]struct{ ID string }
		if err := json.Unmarshal(raw, &one); err != nil || len(one) != 1 {
			return answered{}, fmt.Errorf("%s %s: %s: no id in %.300s", r.method, r.path, resp.Status, raw)
		}
		for _, x := range one {
			if x.ID == "" {
				return answered{}, fmt.Errorf("%s %s: %s: no id in %.300s", r.method, r.path, resp.Status, raw)
			}
			s.ids[r.save] = x.ID
		}
	}
	a := answered{Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Version: resp.Header.Get("OpenStack-API-Version")}
	if json.Unmarshal(raw, &a.Body) != nil {
		a.Body = string(raw)
	}
	a.Body = s.alike("", a.Body)
	return a, nil
}

var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$`)

// differs are keys whose values are the service's own.
var differs = []string{"os-vol-host-attr:host", "service_uuid", "user_id", "host_name", "request_id", "updated_at", "shared_targets", "attachment_id"}

func (s *side) alike(key string, v any) any {
	if slices.Contains(differs, key) {
		return "…"
	}
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			x[k] = s.alike(k, x[k])
		}
	case []any:
		for i := range x {
			x[i] = s.alike(key, x[i])
		}
	case string:
		if timeForm.MatchString(x) {
			return "TIME"
		}
		for name, id := range s.ids {
			x = strings.ReplaceAll(x, id, "{"+name+"}")
		}
		v = strings.NewReplacer(s.base, "URL", s.project, "{project}").Replace(x)
	}
	return v
}

// unlike lists where two answers differ.
func unlike(path string, want, have any) []string {
	w, wok := want.(map[string]any)
	h, hok := have.(map[string]any)
	ws, wsok := want.([]any)
	hs, hsok := have.([]any)
	var out []string
	switch {
	case wok && hok:
		keys := map[string]bool{}
		for k := range w {
			keys[k] = true
		}
		for k := range h {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			x, there := w[k]
			y, here := h[k]
			switch {
			case !here:
				out = append(out, fmt.Sprintf("%s.%s is missing, Cinder's %v", path, k, x))
			case !there:
				out = append(out, fmt.Sprintf("%s.%s is not in Cinder's answer", path, k))
			default:
				out = append(out, unlike(path+"."+k, x, y)...)
			}
		}
	case wsok && hsok && len(ws) == len(hs):
		for i := range ws {
			out = append(out, unlike(fmt.Sprintf("%s[%d]", path, i), ws[i], hs[i])...)
		}
	case !reflect.DeepEqual(want, have):
		out = append(out, fmt.Sprintf("%s is %v, Cinder's %v", path, brief(have), brief(want)))
	}
	return out
}

// brief shortens a value for people; of objects it shows names.
func brief(v any) any {
	switch x := v.(type) {
	case map[string]any:
		if n, ok := x["name"]; ok {
			return n
		}
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = brief(x[i])
		}
		return out
	}
	return v
}

var moving = regexp.MustCompile(`"status":"(creating|downloading|deleting|extending|retyping|uploading)"`)

// settle waits until no volume changes by itself.
func (s *side) settle(ctx context.Context) error {
	var text []byte
	err := cluster.Wait(ctx, 2*time.Minute, "volumes to be at rest at "+s.base, func() (bool, error) {
		a, err := s.ask(ctx, request{method: "GET", path: "/volumes/detail"})
		if err != nil {
			return false, err
		}
		text, err = json.Marshal(a.Body)
		return !moving.Match(text), err
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// besideType is the name of the volumes' type.
const besideType = "beside"

// sweep removes the volumes of the project, and the type.
func (s *side) sweep(ctx context.Context) error {
	list := func(path, key string) (ids []string, err error) {
		a, err := s.ask(ctx, request{method: "GET", path: path})
		if err != nil {
			return nil, err
		}
		body, _ := a.Body.(map[string]any)
		items, _ := body[key].([]any)
		for _, x := range items {
			m, _ := x.(map[string]any)
			if key == "volumes" || m["name"] == besideType {
				ids = append(ids, fmt.Sprint(m["id"]))
			}
		}
		return ids, nil
	}
	s.ids = map[string]string{}
	volumes, err := list("/volumes", "volumes")
	if err != nil {
		return err
	}
	for _, id := range volumes {
		for _, body := range []string{`{"os-reset_status":{"status":"available","attach_status":"detached"}}`, `{"os-force_delete":{}}`} {
			if _, err := s.ask(ctx, request{method: "POST", path: "/volumes/" + id + "/action", body: body}); err != nil {
				return err
			}
		}
	}
	err = cluster.Wait(ctx, 2*time.Minute, "volumes to be gone at "+s.base, func() (bool, error) {
		volumes, err := list("/volumes", "volumes")
		return len(volumes) == 0, err
	})
	if err != nil {
		return err
	}
	types, err := list("/types", "volume_types")
	if err != nil {
		return err
	}
	for _, id := range types {
		if _, err := s.ask(ctx, request{method: "DELETE", path: "/types/" + id}); err != nil {
			return err
		}
	}
	return nil
}

// Ours and the real Cinder are asked the same, one after the other, and must answer the
// same but for ids, times and what differs on purpose.
func TestBesideCinder(t *testing.T) {
	s := current(t)
	s.need(t, lab.Cinder)
	ctx := limit(t, 20*time.Minute)
	project, err := s.c.Admin().Project(ctx)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.lab.Token(ctx, "admin", "admin")
	if err != nil {
		t.Fatal(err)
	}
	image := s.image(t, lab.ImageRaw)
	open := func(url string) *side {
		base, _, _ := strings.Cut(url, "/v3")
		return &side{base: base, project: project, token: token, client: s.lab.HTTPClient()}
	}
	ours, theirs := open(s.lab.VolumeURL()), open(s.lab.CinderURL())
	for _, x := range []*side{theirs, ours} {
		if err := x.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		x.ids["image"] = image
		t.Cleanup(func() {
			if err := x.sweep(limit(t, 2*time.Minute)); err != nil {
				t.Error(err)
			}
		})
	}
	line := Line{Client: "beside the real Cinder 21"}
	var notes strings.Builder
	for _, r := range requests() {
		want, err := theirs.ask(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		have, err := ours.ask(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if r.settle {
			for _, x := range []*side{theirs, ours} {
				if err := x.settle(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		name := strings.Join(strings.Fields(strings.Join([]string{r.method, r.path, r.version, r.body}, " ")), " ")
		bad := unlike("", want.Body, have.Body)
		if want.Status != have.Status || want.Type != have.Type || want.Version != have.Version {
			bad = append(bad, fmt.Sprintf("status %d, %s, %s; Cinder's %d, %s, %s",
				have.Status, have.Type, have.Version, want.Status, want.Type, want.Version))
		}
		why, known := besideDifferences()[name]
		if len(bad) > 0 && !known {
			line.Failed++
			line.Failures = append(line.Failures, name+": "+strings.Join(bad, "; "))
			t.Errorf("%s:\n  %s", name, strings.Join(bad, "\n  "))
		} else {
			line.Passed++
		}
		if len(bad) > 0 {
			fmt.Fprintf(&notes, "%s: %s\n  %s\n", name, why, strings.Join(bad, "\n  "))
			continue
		}
		fmt.Fprintf(&notes, "%s: %d\n", name, want.Status)
	}
	table.Add(line)
	if err := os.WriteFile(filepath.Join(artefacts(t, "beside"), "differences.txt"), []byte(notes.String()), 0o644); err != nil {
		t.Error(err)
	}
}
