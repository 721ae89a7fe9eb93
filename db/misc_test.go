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

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// Statuses are written in move.go alone.
func TestOnlyMoveWritesStatuses(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	update := regexp.MustCompile("(?is)UPDATE\\s+(volumes|images|attachments|tree_members|backups)\\b.*?(\\bWHERE\\b|`|\")")
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

// A message about what failed long after it was asked for names the request that asked.
func TestMessageOfRequest(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	v := vol(1)
	v.RequestID = "req-1"
	v = w.create(image(id), v)[0]
	w.must(w.FailImport(w.ctx, id, model.NewEvent(model.ResourceVolume, model.ActionCopyImageToVolume, model.DetailUnknownError), "checksum differs"))
	ms, err := w.Messages(w.ctx, model.ListQuery{})
	w.must(err)
	if len(ms) != 1 || ms[0].RequestID != "req-1" || ms[0].EventID != "VOLUME_VOLUME_005_001" || *ms[0].ResourceUUID != v.ID ||
		ms[0].UserMessage != "copy image to volume:An unknown error occurred. (checksum differs)" {
		t.Errorf("%+v", ms)
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
	if !maps.Equal(u, map[string]int64{"volumes": 2, "gigabytes": 3, "snapshots": 0, "backups": 0, "backup_gigabytes": 0, "groups": 0}) {
		t.Errorf("usage %v", u)
	}
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quota_classes VALUES ('default', 'gigabytes', 6), ('default', 'groups', 1), ('x', 'backups', 0)"))
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas VALUES ('p1', 'groups', 2), ('p2', 'backups', 0)"))
	l, err := w.Limits(w.ctx, "p1")
	w.must(err)
	want := model.CinderQuotas()
	want["volumes"], want["gigabytes"], want["groups"] = -1, 6, 2
	if !maps.Equal(l, want) {
		t.Errorf("limits %v, want %v", l, want)
	}
}
