package db_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// Statuses are written in move.go alone.
func TestOnlyMoveWritesStatuses(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	update := regexp.MustCompile("(?is)UPDATE\\s+(volumes|images|attachments|tree_members)\\b.*?(\\bWHERE\\b|`|\")")
	status := regexp.MustCompile(`(?i)\b(status|state)\s*=`)
	attach := regexp.MustCompile(`(?i)UPDATE\s+attachments.*\battach_status\s*=`)
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || f == "move.go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range update.FindAllString(string(b), -1) {
			if status.MatchString(u) || attach.MatchString(u) {
				t.Errorf("%s: %s", f, u)
			}
		}
	}
}

func TestTypes(t *testing.T) {
	w := newWorld(t)
	var g errgroup.Group
	made := make([]model.VolumeType, 5)
	for i := range made { // replicas that start together
		g.Go(func() (err error) { made[i], err = w.EnsureType(w.ctx, "__DEFAULT__"); return err })
	}
	w.must(g.Wait())
	for _, m := range made {
		if m.ID != made[0].ID || !m.IsPublic {
			t.Errorf("%+v", m)
		}
	}
	secret, err := w.PutType(w.ctx, model.VolumeType{Name: "secret", ExtraSpecs: model.StringMap{"degree": "2"}}, true)
	w.must(err)
	if _, err := w.PutType(w.ctx, model.VolumeType{Name: "secret"}, true); !errors.Is(err, model.ErrExists) || err.Error() != "Volume Type secret already exists." {
		t.Errorf("same name: %v", err)
	}
	if _, err := w.PutType(w.ctx, model.VolumeType{ID: uuid.New(), Name: "x"}, false); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	secret.Description = new("d")
	if got, err := w.PutType(w.ctx, secret, false); err != nil || *got.Description != "d" || got.ExtraSpecs["degree"] != "2" || got.UpdatedAt == nil {
		t.Errorf("%+v, %v", got, err)
	}
	names := func(project string, public *bool) string {
		ts, err := w.Types(w.ctx, model.ListQuery{ProjectID: project, Sort: []model.SortKey{{Column: "name"}}}, public)
		w.must(err)
		var out []string
		for _, t := range ts {
			out = append(out, t.Name)
		}
		return strings.Join(out, " ")
	}
	w.must(w.ExecRaw(w.ctx, "INSERT INTO volume_type_access VALUES ($1, 'p2')", secret.ID))
	for _, c := range []struct {
		project string
		public  *bool
		want    string
	}{
		{"", nil, "__DEFAULT__ secret"},
		{"p1", nil, "__DEFAULT__"},
		{"p2", nil, "__DEFAULT__ secret"},
		{"", new(false), "secret"},
		{"p1", new(false), ""},
		{"p2", new(true), "__DEFAULT__"},
	} {
		if got := names(c.project, c.public); got != c.want {
			t.Errorf("project %q: %q, want %q", c.project, got, c.want)
		}
	}
	if _, err := w.TypeByName(w.ctx, "secret", "p1"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("not for p1: %v", err)
	}
	if got, err := w.TypeByName(w.ctx, "secret", "p2"); err != nil || got.ID != secret.ID {
		t.Errorf("for p2: %v", err)
	}
	v := vol(1)
	v.VolumeTypeID = &secret.ID
	v = w.create(nil, v)[0]
	if err := w.DeleteType(w.ctx, secret.ID); !errors.Is(err, model.ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	w.must(w.ExecRaw(w.ctx, "DELETE FROM volumes"))
	w.must(w.DeleteType(w.ctx, secret.ID))
	if _, err := w.Type(w.ctx, secret.ID); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	m := model.Message{ProjectID: "p1", ResourceType: "VOLUME", EventID: "VOLUME_VOLUME_001_002", UserMessage: "no room"}
	w.must(w.AddMessage(w.ctx, m))
	m.ProjectID, m.ExpiresAt = "p2", time.Now().Add(-time.Hour)
	w.must(w.AddMessage(w.ctx, m))
	ms, err := w.Messages(w.ctx, model.ListQuery{})
	w.must(err)
	if len(ms) != 1 || ms[0].Level != "ERROR" || ms[0].ExpiresAt.Sub(ms[0].CreatedAt) != 30*24*time.Hour {
		t.Fatalf("%+v", ms)
	}
	if _, err := w.Message(w.ctx, ms[0].ID, "p2"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("another project: %v", err)
	}
	if err := w.DeleteMessage(w.ctx, ms[0].ID, "p2"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("another project: %v", err)
	}
	if got, err := w.Message(w.ctx, ms[0].ID, "p1"); err != nil || got.UserMessage != "no room" {
		t.Errorf("%+v, %v", got, err)
	}
	w.must(w.DeleteMessage(w.ctx, ms[0].ID, "p1"))
	if n, err := w.PurgeMessages(w.ctx); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestQuotas(t *testing.T) {
	w := newWorld(t, db.Options{QuotaDefaults: map[string]int64{"volumes": -1, "gigabytes": 5}})
	free := vol(7)
	w.create(nil, vol(1), vol(2), free)
	w.must(w.ExecRaw(w.ctx, "UPDATE volumes SET consumes_quota = size_gib < 7"))
	u, err := w.Usage(w.ctx, "p1")
	w.must(err)
	if !maps.Equal(u, map[string]int64{"volumes": 2, "gigabytes": 3, "snapshots": 0}) {
		t.Errorf("usage %v", u)
	}
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quota_classes VALUES ('default', 'gigabytes', 6), ('default', 'groups', 1), ('x', 'backups', 0)"))
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas VALUES ('p1', 'groups', 2), ('p2', 'backups', 0)"))
	l, err := w.Limits(w.ctx, "p1")
	w.must(err)
	want := db.CinderQuotas()
	want["volumes"], want["gigabytes"], want["groups"] = -1, 6, 2
	if !maps.Equal(l, want) {
		t.Errorf("limits %v, want %v", l, want)
	}
}
