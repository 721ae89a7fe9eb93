package bench

import (
	"context"
	"fmt"
	"strings"
)

// spreadResult is one run of one contestant.
type spreadResult struct {
	seconds float64 // from the word to the last node's end
	origin  float64 // bytes that the origin has sent, by the unique bytes
	relay   float64 // the same of the worst relay, by its children too; 0 without relays
	busy    float64 // share of the host's processors that was in use, 0 to 1
	kernels float64 // seconds of processor time that the nodes used
	request float64 // bytes that a request to the origin was for, on average; 0 if not counted
	moved   int     // attempts given up because a node took another parent while it read
}

func (r spreadResult) String() string {
	return fmt.Sprintf("last node %.1f s, origin sent %.3f × the set, worst relay %.3f, nodes used %.1f s of the processors, which were %.0f %% busy",
		r.seconds, r.origin, r.relay, r.kernels, 100*r.busy)
}

// spreadContestant is one way to bring the set to all nodes.
type spreadContestant struct {
	degree  int    // of VMThunder's tree, 0 for a peer
	who     string // the peer
	note    string
	run     func(ctx context.Context, rate spreadRate) (spreadResult, error)
	results []spreadResult
}

func (c *spreadContestant) words() string {
	if c.degree > 0 {
		return fmt.Sprintf("tree of degree %d", c.degree)
	}
	return c.who
}

// spreadSlack is what a tree may be slower than its busiest link would be without any
// overhead, and originSlack what a node may send more than its children need.
const (
	spreadSlack = 1.15
	originSlack = 1.05
)

// busyLimit is from where on the processors count as the limit, and othersLimit what of
// them may be other programs'.
const (
	busyLimit   = 0.9
	othersLimit = 0.2
)

// rows are the contestant's figures at a rate, on a host with so many processors. few says
// that there were fewer runs than asked for.
func (c *spreadContestant) rows(rate spreadRate, processors int, few bool) []Row {
	n := float64(len(c.results))
	var seconds, origin, relay []float64
	var took, busy, kernels, request float64
	moved := 0
	for _, r := range c.results {
		seconds = append(seconds, r.seconds/(spreadSet/rate.bytes))
		origin, relay = append(origin, r.origin), append(relay, r.relay)
		took, busy, kernels, moved = took+r.seconds/n, busy+r.busy/n, kernels+r.kernels/n, moved+r.moved
		request += r.request / n
	}
	of := ""
	if c.degree > 0 {
		of = fmt.Sprintf(", degree %d", c.degree)
	}
	last := Row{What: "last node ÷ (set ÷ " + rate.words + ")" + of, Who: c.who, Unit: "×", Samples: seconds}
	sent := Row{What: "origin's payload ÷ set" + of, Who: c.who, Unit: "×", Samples: origin, Note: c.note}
	own := kernels / took / float64(processors)
	notes := []string{fmt.Sprintf("the nodes' kernels used %.1f s of processor time, %.0f %% of what there was", kernels, 100*own)}
	if c.degree > 0 {
		last.Goal = AtMost(spreadSlack * float64(c.degree))
		sent.Goal = AtMost(originSlack * float64(c.degree))
		sent.Note = "bytes that the exported device was read for, as its kernel counts them; frames add 5 % on the wire"
	}
	switch {
	case busy > busyLimit && own > busyLimit-othersLimit:
		notes = append(notes, "so the processors are the limit, not the links")
	case busy > busyLimit:
		notes = append(notes, fmt.Sprintf("and other programs the rest (%.0f %% busy): the time says little", 100*busy))
	}
	if request > 0 {
		notes = append(notes, fmt.Sprintf("a request to the origin was for %.1f KiB on average", request/1024))
	}
	if few {
		notes = append(notes, fmt.Sprintf("%s, for one takes long", counted(len(c.results), "run")))
	}
	if moved > 0 {
		notes = append(notes, fmt.Sprintf("%s more did not count: a node had lost its parent for a moment and read from another", counted(moved, "run")))
	}
	last.Note = strings.Join(notes, "; ")
	if rate.oneOnly {
		return []Row{last} // the payload has been shown
	}
	rows := []Row{last, sent}
	if c.degree > 0 {
		rows = append(rows, Row{What: "worst relay's payload ÷ (set × its children)" + of, Unit: "×", Samples: relay, Goal: AtMost(originSlack)})
	}
	return rows
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
