package tree

import (
	"bufio"
	"io"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Draw writes the tree as text, one line per member: its host and what label says of
// it (nil: nothing). Roots and children are sorted by host. Members that don't reach
// a root come last, below a line that says so. The error is the writer's.
func Draw(w io.Writer, members []model.Member, label func(model.Member) string) error {
	d := &drawing{w: bufio.NewWriter(w), kids: map[string][]model.Member{}, drawn: map[string]bool{}, label: label}
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b model.Member) int { return strings.Compare(a.Host, b.Host) })
	var roots []model.Member
	for _, m := range sorted {
		if m.Parent == nil {
			roots = append(roots, m)
		} else {
			d.kids[*m.Parent] = append(d.kids[*m.Parent], m)
		}
	}
	for _, m := range roots {
		d.line("", m)
		d.below(nil, m.Host)
	}
	lost := false
	for _, m := range sorted {
		if d.drawn[m.Host] {
			continue
		}
		if !lost {
			lost = true
			d.put("not connected to a root:\n")
		}
		d.line("? "+*m.Parent+" → ", m)
	}
	if err := d.w.Flush(); err != nil {
		return err
	}
	return d.err
}

type drawing struct {
	w     *bufio.Writer
	kids  map[string][]model.Member
	drawn map[string]bool
	label func(model.Member) string
	err   error
}

func (d *drawing) put(s string) {
	if _, err := d.w.WriteString(s); err != nil && d.err == nil {
		d.err = err
	}
}

func (d *drawing) line(prefix string, m model.Member) {
	d.drawn[m.Host] = true
	d.put(prefix)
	d.put(m.Host)
	if d.label != nil {
		if l := d.label(m); l != "" {
			d.put(" " + l)
		}
	}
	d.put("\n")
}

func (d *drawing) below(prefix []byte, host string) {
	kids := d.kids[host]
	for i, k := range kids {
		if d.drawn[k.Host] {
			continue
		}
		branch, rest := "├─ ", "│  "
		if i == len(kids)-1 {
			branch, rest = "└─ ", "   "
		}
		d.line(string(prefix)+branch, k)
		d.below(append(prefix, rest...), k.Host)
	}
}
