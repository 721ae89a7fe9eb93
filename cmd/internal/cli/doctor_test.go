package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

func diagnosis() view.Diagnosis {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seen := at.Add(-4 * time.Second)
	return view.Diagnosis{At: at, Looked: view.Looked{Nodes: 3, Answered: 2, Images: 1, Volumes: 12, Snapshots: 4, OldestNode: "n2", OldestSeen: &seen}}
}

func TestPrintDiagnosis(t *testing.T) {
	well := diagnosis()
	ill := diagnosis()
	ill.Findings = []view.Finding{
		{Severity: "error", Kind: "node", ID: "n2", Node: "n2", Text: "it has been silent for 3 min;\n  it holds 2 volumes", Remedy: "start the host"},
		{Severity: "warning", Kind: "volume", ID: "v1", Node: "n1", Text: "is building", Repair: "document", Remedy: "see its agent's log"},
		{Severity: "info", Kind: "image", ID: "i1", Node: "n1", Text: "is importing"},
	}
	mended := diagnosis()
	mended.Findings = ill.Findings[2:]
	mended.Mended = []view.Mended{{Repair: "document", Of: "node n1", Text: "was given a new document"}, {Repair: "tree", Of: "image i1", Error: "the database is away"}}
	later := well.At.Add(time.Second) // it reported while others were looked at
	well.Looked.OldestSeen = &later
	mended.Looked.OldestSeen, mended.Looked.Cut = nil, []string{"jobs"}
	for name, c := range map[string]struct {
		d    view.Diagnosis
		want string
	}{
		"well": {well, "nothing found: 3 nodes, of which 2 answered; 1 image, 12 volumes, 4 snapshots; the oldest report is of 0s ago, from n2\n"},
		"ill": {ill, `SEVERITY  WHAT       NODE  REPAIR   FINDING
error     node       n2    by hand  it has been silent for 3 min; it holds 2 volumes
                                    → start the host
warning   volume v1  n1    safe     is building
                                    → see its agent's log
info      image i1   n1             is importing

3 nodes, of which 2 answered; 1 image, 12 volumes, 4 snapshots; the oldest report is of 4s ago, from n2
vmthunder doctor --repair does something about 1 of them
`},
		"mended": {mended, `mended: node n1: was given a new document
not mended: image i1: the database is away

SEVERITY  WHAT      NODE  REPAIR  FINDING
info      image i1  n1            is importing

3 nodes, of which 2 answered; 1 image, 12 volumes, 4 snapshots; n2 has never reported; too long to be looked at as a whole: jobs
`},
	} {
		var b strings.Builder
		if err := printDiagnosis(&b, c.d); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, b.String(), c.want)
		}
	}
}

// Infos are nothing wrong; what is left after a repair is, and what could not be mended.
func TestWrong(t *testing.T) {
	for name, c := range map[string]struct {
		d    view.Diagnosis
		want bool
	}{
		"nothing": {view.Diagnosis{}, false},
		"info":    {view.Diagnosis{Findings: []view.Finding{{Severity: "info"}}}, false},
		"warning": {view.Diagnosis{Findings: []view.Finding{{Severity: "info"}, {Severity: "warning"}}}, true},
		"error":   {view.Diagnosis{Findings: []view.Finding{{Severity: "error"}}}, true},
		"mended":  {view.Diagnosis{Mended: []view.Mended{{Text: "done"}}}, false},
		"not":     {view.Diagnosis{Mended: []view.Mended{{Error: "no"}}}, true},
	} {
		if got := wrong(c.d); got != c.want {
			t.Errorf("%s: wrong: %t", name, got)
		}
	}
}

// Without a service to ask the status says that nothing was looked at, whatever the reason.
func TestDoctorCannotLook(t *testing.T) {
	for _, name := range []string{"OS_AUTH_URL", "OS_USERNAME", "OS_USER_ID", "OS_APPLICATION_CREDENTIAL_ID", "OS_TOKEN"} {
		t.Setenv(name, "")
	}
	if got := Operator([]string{"doctor"}); got != exitUnlooked {
		t.Errorf("status %d without OS_AUTH_URL", got)
	}
	if got := Operator([]string{"doctor", "-o", "xml"}); got != exitUsage {
		t.Errorf("status %d for an output that there is not", got)
	}
	t.Setenv("OS_AUTH_URL", "http://127.0.0.1:1/v3")
	t.Setenv("OS_USERNAME", "admin")
	t.Setenv("OS_PASSWORD", "x")
	t.Setenv("OS_PROJECT_NAME", "admin")
	if got := Operator([]string{"doctor"}); got != exitUnlooked {
		t.Errorf("status %d where nobody listens", got)
	}
	if err := error(statusError{exitWrong, nil}); err.Error() != "" || errors.Unwrap(err) != nil {
		t.Error("an error that has said it all says more")
	}
}

func TestProgress(t *testing.T) {
	said := make(chan string, 100)
	end := progress(writerFunc(func(p []byte) { said <- string(p) }), true, time.Millisecond)
	if first := <-said; !strings.HasPrefix(first, "\rlooking at the nodes, 0 s") {
		t.Errorf("%q", first)
	}
	end()
	last := ""
	for len(said) > 0 {
		last = <-said
	}
	if last != "\r\033[K" {
		t.Errorf("it ends with %q", last)
	}
	var b bytes.Buffer
	progress(&b, false, time.Nanosecond)()
	if b.Len() > 0 {
		t.Errorf("where nobody looks: %q", b.String())
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
