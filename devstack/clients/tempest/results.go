package tempest

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Outcome of a test.
type Outcome string

// Outcomes. A test that fails as it is expected to has passed; one that unexpectedly
// succeeds, or of which only the start was seen, has failed.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result of one test, or of setUpClass or tearDownClass of a class of tests.
type Result struct {
	Test    string // dotted name, without the ids that tempest appends in brackets
	Outcome Outcome
	Time    time.Duration
	Reason  string // of a failure: its first line; of a skip: the reason given
	Detail  string // of a failure: the traceback
}

// Class says that the result is of a whole class, "setUpClass (NAME)".
func (r Result) Class() bool { return strings.Contains(r.Test, "Class (") }

// Results of a run, by name.
type Results []Result

// ReadResults reads a subunit v2 stream.
func ReadResults(r io.Reader) (Results, error) {
	type state struct {
		Result
		start      time.Time
		ended      bool
		trace, why strings.Builder
	}
	tests := map[string]*state{}
	err := readPackets(r, func(p packet) {
		if p.test == "" || p.status == statusExists {
			return
		}
		s := tests[p.test]
		if s == nil {
			s = &state{Result: Result{Test: name(p.test), Outcome: Failed, Reason: "it has not ended"}}
			tests[p.test] = s
		}
		if s.ended { // a class's failure is reported for each of its tests
			return
		}
		switch {
		case strings.HasPrefix(p.file, "traceback"):
			s.trace.Write(p.content)
		case p.file == "reason":
			s.why.Write(p.content)
		}
		switch p.status {
		case statusNone:
			return
		case statusInProgress:
			s.start = p.at
			return
		case statusSuccess, statusExpectedFailure:
			s.Outcome = Passed
		case statusSkip:
			s.Outcome = Skipped
		default:
			s.Outcome = Failed
		}
		s.ended = true
		if !s.start.IsZero() && p.at.After(s.start) {
			s.Time = p.at.Sub(s.start)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("results of tempest: %w", err)
	}
	var out Results
	for _, s := range tests {
		if s.ended {
			s.Reason = strings.Join(strings.Fields(s.why.String()), " ")
		}
		if s.ended && s.Outcome == Failed {
			s.Detail = s.trace.String()
			s.Reason = cmp.Or(firstError(s.Detail), s.Reason)
		}
		out = append(out, s.Result)
	}
	slices.SortFunc(out, func(a, b Result) int { return cmp.Compare(a.Test, b.Test) })
	return out, nil
}

// name drops the tags and ids that tempest puts behind a test's name, "[id-…,smoke]".
func name(id string) string {
	n, _, _ := strings.Cut(id, "[")
	return n
}

// maxReason is the length of a reason in bytes at which it is cut off.
const maxReason = 400

// firstError finds what an exception says in a Python traceback: the lines behind the last
// line of code, in one.
func firstError(trace string) string {
	lines := strings.Split(strings.TrimSpace(trace), "\n")
	last := -1
	for i, l := range lines {
		if strings.HasPrefix(l, "  File ") {
			last = i
		}
	}
	rest := lines[last+1:]
	for len(rest) > 0 && (strings.HasPrefix(rest[0], " ") || rest[0] == "") { // code and its marks
		rest = rest[1:]
	}
	said := strings.Join(strings.Fields(strings.Join(rest, " ")), " ")
	said = strings.TrimPrefix(said, "tempest.lib.exceptions.")
	said = strings.TrimPrefix(said, "testtools.matchers._impl.")
	if len(said) > maxReason {
		said = strings.ToValidUTF8(said[:maxReason], "") + "…"
	}
	return said
}

// Count of tests with an outcome; classes count separately.
type Count struct {
	Tests, Passed, Failed, Skipped int
	ClassesFailed, ClassesSkipped  int
}

// Count counts.
func (rs Results) Count() Count {
	var c Count
	for _, r := range rs {
		if r.Class() {
			switch r.Outcome {
			case Failed:
				c.ClassesFailed++
			case Skipped:
				c.ClassesSkipped++
			}
			continue
		}
		c.Tests++
		switch r.Outcome {
		case Passed:
			c.Passed++
		case Failed:
			c.Failed++
		case Skipped:
			c.Skipped++
		}
	}
	return c
}

func (c Count) String() string {
	return fmt.Sprintf("%d tests: %d passed, %d failed, %d skipped; whole classes: %d failed, %d skipped",
		c.Tests, c.Passed, c.Failed, c.Skipped, c.ClassesFailed, c.ClassesSkipped)
}

// Failures are the results that failed, classes included.
func (rs Results) Failures() Results {
	var out Results
	for _, r := range rs {
		if r.Outcome == Failed {
			out = append(out, r)
		}
	}
	return out
}

// Write prints a line per result: outcome, seconds, name and reason, with tabs between.
func (rs Results) Write(w io.Writer) error {
	for _, r := range rs {
		if _, err := fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\n", r.Outcome, r.Time.Seconds(), r.Test, r.Reason); err != nil {
			return err
		}
	}
	return nil
}
