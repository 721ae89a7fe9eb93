package clients

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// Line of the table: one client and how its cases went. Cases that passed or failed make
// up all of them; those that were not for this cloud are in Skipped.
type Line struct {
	Client                  string
	Passed, Failed, Skipped int
	// Failures name the cases that failed, each with its reason.
	Failures []string
	// Note is what else a reader should know.
	Note string
}

// Table collects lines. It is safe for concurrent use.
type Table struct {
	mu    sync.Mutex
	lines []Line
}

// Add adds a line at the end.
func (t *Table) Add(l Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, l)
}

// maxReason is how much of a reason is shown.
const maxReason = 160

// Write prints the table, and below it the failures of each line. Without lines it
// prints nothing.
func (t *Table) Write(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return nil
	}
	rows := [][]string{{"client", "cases", "passed", "failed", "skipped", "note"}}
	for _, l := range t.lines {
		rows = append(rows, []string{
			l.Client, strconv.Itoa(l.Passed + l.Failed), strconv.Itoa(l.Passed), strconv.Itoa(l.Failed), strconv.Itoa(l.Skipped), l.Note,
		})
	}
	var b strings.Builder
	b.WriteByte('\n')
	for _, r := range rows {
		line := fmt.Sprintf("%-*s %6s %6s %6s %7s  %s", width(rows), r[0], r[1], r[2], r[3], r[4], r[5])
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for _, l := range t.lines {
		if len(l.Failures) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s:\n", l.Client)
		for _, f := range l.Failures {
			if r := []rune(f); len(r) > maxReason {
				f = string(r[:maxReason]) + "…"
			}
			fmt.Fprintf(&b, "  %s\n", f)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width of the first column.
func width(rows [][]string) (w int) {
	for _, r := range rows {
		w = max(w, len(r[0]))
	}
	return w
}
