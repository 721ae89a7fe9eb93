package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// logLine is what is wanted of a line of the agent's or the control plane's debug log.
type logLine struct {
	Message string        `json:"msg"`
	Step    string        `json:"step"`
	Command string        `json:"command"`
	Volumes []string      `json:"volumes"`
	Took    time.Duration `json:"took"`
}

// Messages of the logs.
const (
	logStep     = "step ended"                 // agent: one step of a plan
	logExecuted = "executed"                   // agent: an external command
	logApplied  = "document applied"           // agent: the volumes waited for are as they should
	logAnswered = "document sent and answered" // control plane: the same with the bus
)

// parseLog reads the lines of a log of JSON objects; a line that is something else is empty,
// and the last is left out if it is not whole. ends are where each line ends.
func parseLog(text []byte) (lines []logLine, ends []int) {
	at := 0
	for line := range bytes.Lines(text) {
		if at += len(line); !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var l logLine
		if json.Unmarshal(line, &l) != nil {
			l = logLine{}
		}
		lines, ends = append(lines, l), append(ends, at)
	}
	return lines, ends
}

// logTail is a log that is read from where it was last read to.
type logTail struct {
	path   string
	offset int
}

// upTo waits until the log says that a document with the volume was dealt with, and returns
// all lines up to there that were not returned before.
func (t *logTail) upTo(ctx context.Context, message, volume string) ([]logLine, error) {
	var found []logLine
	err := cluster.Wait(ctx, 10*time.Second, "the log "+t.path+" to tell of volume "+volume, func() (bool, error) {
		text, err := os.ReadFile(t.path)
		if err != nil || len(text) < t.offset {
			return false, err
		}
		lines, ends := parseLog(text[t.offset:])
		end := slices.IndexFunc(lines, func(l logLine) bool { return l.Message == message && slices.Contains(l.Volumes, volume) })
		if end < 0 {
			return false, nil
		}
		found = lines[:end+1]
		t.offset += ends[end]
		return true, nil
	})
	return found, err
}

// skip forgets what the log holds so far.
func (t *logTail) skip() error {
	st, err := os.Stat(t.path)
	if err == nil {
		t.offset = int(st.Size())
	}
	return err
}

// anatomy is where the time of one attach or detach went on its home, in ms.
type anatomy struct {
	bus      float64 // the document's way to the agent and the answer's back, with both codings
	agent    float64 // the agent's part, without its steps: looks at the node, plan, waits
	steps    map[string]float64
	commands map[string]int // how often each program was executed
	executed float64        // ms in which they ran
}

// dissect takes one operation on a volume apart: the agent's lines of that time, and the
// control plane's.
func dissect(volume string, agent, control []logLine) (anatomy, error) {
	a := anatomy{steps: map[string]float64{}, commands: map[string]int{}}
	var applied, answered time.Duration
	for _, l := range agent {
		switch {
		case l.Message == logApplied && slices.Contains(l.Volumes, volume):
			applied = l.Took
		case l.Message == logExecuted:
			program, _, _ := strings.Cut(l.Command, " ")
			a.commands[program]++
			a.executed += milliseconds(l.Took)
		case l.Message == logStep:
			a.steps[stepKind(l.Step, volume)] += milliseconds(l.Took)
		}
	}
	for _, l := range control {
		if l.Message == logAnswered && slices.Contains(l.Volumes, volume) {
			answered = l.Took
		}
	}
	if applied == 0 || answered == 0 {
		return a, fmt.Errorf("the logs do not say how long volume %s took", volume)
	}
	a.bus = milliseconds(answered - applied)
	a.agent = milliseconds(applied)
	for _, ms := range a.steps {
		a.agent -= ms
	}
	return a, nil
}

// stepKind is a step's name without ids: "make device …-base".
func stepKind(step, volume string) string {
	what, name, ok := strings.Cut(step, "vmthunder-volume-"+volume)
	if !ok {
		kind, _, _ := strings.Cut(step, " of ")
		kind, _, _ = strings.Cut(kind, " vmthunder-")
		kind, _, _ = strings.Cut(kind, " iqn.")
		return kind
	}
	if part := strings.TrimPrefix(name, "-"); part != "" {
		return what + "(" + part + ")"
	}
	return what + "(volume)"
}
