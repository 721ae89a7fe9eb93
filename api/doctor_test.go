package api_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// GET looks, POST mends; both say what is left.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	seen := w.store.Clock.Add(-time.Minute)
	w.sched.Diagnosis = model.Diagnosis{
		At: w.store.Clock, Nodes: 2, Answered: 1, Images: 3, Volumes: 4, Snapshots: 5, OldestHost: "n2", Oldest: &seen, More: []string{"jobs"},
		Findings: []model.Finding{
			{Severity: model.SeverityError, Code: "stuck", Kind: model.FindSnapshot, ID: "s1", Node: "n1", Volume: "v1", Text: "has been deleting for 3 h", Remedy: "wait", Repair: model.RepairStatus},
			{Severity: model.SeverityWarning, Code: "problem", Kind: model.FindNode, ID: "n1", Node: "n1", Text: "no disk"},
		},
	}
	a := w.do("admin", "GET", "/vmthunder/doctor?node=n1&volume=v1", "").body
	first, _ := a["findings"].([]any)[0].(map[string]any)
	for k, want := range map[string]string{
		"severity": "error", "code": "stuck", "kind": "snapshot", "id": "s1", "node": "n1", "volume": "v1",
		"text": "has been deleting for 3 h", "remedy": "wait", "repair": "status",
	} {
		if first[k] != want {
			t.Errorf("%s is %v, want %s", k, first[k], want)
		}
	}
	looked, _ := a["looked"].(map[string]any)
	if fmt.Sprintf("%v %v %v %v %v %v %v", looked["nodes"], looked["answered"], looked["images"], looked["volumes"], looked["snapshots"], looked["oldest_node"], looked["cut"]) != "2 1 3 4 5 n2 [jobs]" {
		t.Errorf("looked at %v", looked)
	}
	if len(a["mended"].([]any)) != 0 {
		t.Errorf("GET has mended %v", a["mended"])
	}
	a = w.do("admin", "POST", "/vmthunder/doctor", "").body
	if left, did := a["findings"].([]any), a["mended"].([]any); len(left) != 1 || len(did) != 1 {
		t.Errorf("left %v, mended %v", left, did)
	}
	if want := []string{"doctor {n1  v1 false}", "doctor {   true}"}; !slices.Equal(w.sched.Calls, want) {
		t.Errorf("asked %q", w.sched.Calls)
	}
	w.refused(w.do("admin", "GET", "/vmthunder/doctor?host=n1", ""), 400, "Invalid parameter host")
	w.sched.DoctorErr = fmt.Errorf("node n9: %w", model.ErrNotFound)
	w.refused(w.do("admin", "GET", "/vmthunder/doctor?node=n9", ""), 404, "n9")
	w.sched.DoctorErr = fmt.Errorf("%w: \"x\" is no id", model.ErrInvalid)
	w.refused(w.do("admin", "GET", "/vmthunder/doctor?image=x", ""), 400, "is no id")
	w.sched.DoctorErr = errors.New("boom")
	if a := w.do("admin", "GET", "/vmthunder/doctor", ""); a.status != 500 {
		t.Errorf("status %d", a.status)
	}
}
