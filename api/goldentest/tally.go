package goldentest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tally counts outcomes by resource.
type Tally struct {
	count map[string]map[Outcome]int
}

// Add counts a call.
func (t *Tally) Add(c Call, o Outcome) {
	if t.count == nil {
		t.count = map[string]map[Outcome]int{}
	}
	if t.count[c.Resource()] == nil {
		t.count[c.Resource()] = map[Outcome]int{}
	}
	t.count[c.Resource()][o]++
}

// Total is the number of calls with an outcome.
func (t *Tally) Total(o Outcome) (n int) {
	for _, x := range t.count {
		n += x[o]
	}
	return n
}

// String is a table, a resource in a line.
func (t *Tally) String() string {
	outcomes := []Outcome{Same, Deliberate, NotYet, Wrong}
	var b strings.Builder
	line := func(name string, value func(Outcome) int) {
		fmt.Fprintf(&b, "%-20s", name)
		for _, o := range outcomes {
			fmt.Fprintf(&b, " %*d", len(o), value(o))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-20s", "")
	for _, o := range outcomes {
		fmt.Fprintf(&b, " %s", o)
	}
	b.WriteByte('\n')
	for _, r := range slices.Sorted(maps.Keys(t.count)) {
		line(r, func(o Outcome) int { return t.count[r][o] })
	}
	line("all", t.Total)
	return b.String()
}
