package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Options of all findings.
type Options struct {
	Now time.Time
	// Degree of trees whose image says nothing else.
	Degree int
	// Stuck: work that has not moved for so long is not done any more.
	Stuck time.Duration
}

// list of findings being made.
type list []model.Finding

func (l *list) add(f model.Finding) { *l = append(*l, f) }

// rank orders severities, the worst first.
func rank(s model.Severity) int {
	return slices.Index([]model.Severity{model.SeverityError, model.SeverityWarning, model.SeverityInfo}, s)
}

// Sort puts the worst first, then orders by node, kind and id, and leaves one of each.
func Sort(fs []model.Finding) []model.Finding {
	slices.SortStableFunc(fs, func(a, b model.Finding) int {
		return cmp.Or(cmp.Compare(rank(a.Severity), rank(b.Severity)), cmp.Compare(a.Node, b.Node),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(fs)
}

// Filter keeps findings about what c names.
func Filter(fs []model.Finding, c model.Checkup) []model.Finding {
	return slices.DeleteFunc(slices.Clone(fs), func(f model.Finding) bool {
		return c.Node != "" && f.Node != c.Node ||
			c.Image != "" && (f.Kind != model.FindImage || f.ID != c.Image) ||
			c.Volume != "" && f.Volume != c.Volume && (f.Kind != model.FindVolume || f.ID != c.Volume)
	})
}

// Job is one repair and what it is done to: Node, or ID of what Kind says.
type Job struct {
	Repair model.Repair
	Kind   model.FindingKind
	ID     string
}

// Repairs are what mends the findings, each once. Numbers and trees come first: what is told to nodes
// afterwards counts on them.
func Repairs(fs []model.Finding) []Job {
	var out []Job
	for _, f := range fs {
		if f.Repair == "" {
			continue
		}
		j := Job{f.Repair, f.Kind, f.ID}
		if f.Repair == model.RepairDocument {
			j.Kind, j.ID = model.FindNode, f.Node
		}
		if !slices.Contains(out, j) {
			out = append(out, j)
		}
	}
	order := []model.Repair{
		model.RepairNumbers, model.RepairUsage, model.RepairTree, model.RepairImport, model.RepairRelease, model.RepairStatus, model.RepairDocument,
	}
	slices.SortStableFunc(out, func(a, b Job) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Repair), slices.Index(order, b.Repair)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Ago is a time in the past as people say it: "40 s", "12 min", "3 h", "5 d".
func Ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// count of things: "1 volume", "3 volumes".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
