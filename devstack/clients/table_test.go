package clients

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var table Table
	var out strings.Builder
	if err := table.Write(&out); err != nil || out.Len() != 0 {
		t.Errorf("an empty table: %q, %v", out.String(), err)
	}
	table.Add(Line{Client: "golden", Passed: 289, Failed: 1, Failures: []string{"004 GET extensions: " + strings.Repeat("ä", 200)}})
	table.Add(Line{Client: "Horizon 23", Passed: 4, Skipped: 2, Note: "no Nova"})
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `
client      cases passed failed skipped  note
golden        290    289      1       0
Horizon 23      4      4      0       2  no Nova

golden:
  004 GET extensions: ` + strings.Repeat("ä", 140) + "…\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
