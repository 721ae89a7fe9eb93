package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// grown is a tree written as "root: a b; a: c d"; roots are who has no parent.
func grown(t testing.TB, degree int, text string) tree.Observed {
	t.Helper()
	o := tree.Observed{Degree: degree, Nodes: map[string]model.Node{}}
	parent := map[string]string{}
	var order []string
	see := func(h string) {
		if !slices.Contains(order, h) {
			order = append(order, h)
		}
	}
	for part := range strings.SplitSeq(text, ";") {
		p, kids, _ := strings.Cut(part, ":")
		p = strings.TrimSpace(p)
		see(p)
		for k := range strings.FieldsSeq(kids) {
			see(k)
			parent[k] = p
		}
	}
	for _, h := range order {
		m := model.Member{Host: h, Role: model.RoleRoot, State: model.MemberActive}
		if p, ok := parent[h]; ok {
			m.Role, m.Parent = model.RoleRelay, &p
		}
		for q := parent[h]; q != ""; q = parent[q] {
			m.Depth++
		}
		for _, q := range parent {
			if q == h {
				m.Children++
			}
		}
		o.Members = append(o.Members, m)
		o.Nodes[h] = model.Node{Host: h, Alive: true}
	}
	o.Members = tree.Apply(o.Members, tree.Fallbacks(o))
	sound(t, o)
	return o
}

func sound(t testing.TB, o tree.Observed) {
	t.Helper()
	if wrong := tree.Check(o.Members, o.Degree); len(wrong) > 0 {
		t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), drawn(o))
	}
}

// drawn is the tree as text with its states.
func drawn(o tree.Observed) string {
	var b strings.Builder
	err := tree.Draw(&b, o.Members, func(m model.Member) string {
		var out []string
		if m.State != model.MemberActive {
			out = append(out, string(m.State))
		}
		if !o.Nodes[m.Host].Alive {
			out = append(out, "down")
		}
		if strings.HasPrefix(m.Reason, tree.OverDegree) {
			out = append(out, "over")
		}
		return strings.Join(out, " ")
	})
	if err != nil {
		panic(err)
	}
	return b.String()
}

func member(o tree.Observed, host string) *model.Member {
	for i := range o.Members {
		if o.Members[i].Host == host {
			return &o.Members[i]
		}
	}
	return nil
}

func parentOf(m *model.Member) string {
	if m.Parent == nil {
		return ""
	}
	return *m.Parent
}

func kill(o tree.Observed, hosts ...string) {
	for _, h := range hosts {
		n := o.Nodes[h]
		n.Alive = false
		o.Nodes[h] = n
	}
}

func revive(o tree.Observed, hosts ...string) {
	for _, h := range hosts {
		n := o.Nodes[h]
		n.Alive = true
		o.Nodes[h] = n
	}
}

// remove deletes rows, as the caller does with members that have left.
func remove(o *tree.Observed, host string) {
	m := member(*o, host)
	if p := member(*o, parentOf(m)); p != nil {
		p.Children--
	}
	o.Members = slices.DeleteFunc(o.Members, func(m model.Member) bool { return m.Host == host })
	for i := range o.Members {
		if f := o.Members[i].Fallback; f != nil && *f == host {
			panic(fmt.Sprintf("%s still has the removed %s as fallback", o.Members[i].Host, host))
		}
	}
}

func names(prefix string, n int) []tree.Host {
	hs := make([]tree.Host, n)
	for i := range hs {
		hs[i] = tree.Host{Name: fmt.Sprintf("%s%05d", prefix, i)}
	}
	return hs
}

// frontier is what the store's Frontier would return.
func frontier(o tree.Observed, limit int) tree.Observed {
	f := tree.Observed{Degree: o.Degree, Nodes: o.Nodes}
	for _, m := range o.Members {
		if (m.State == model.MemberJoining || m.State == model.MemberActive) && o.Nodes[m.Host].Alive && m.Children < o.Degree {
			f.Members = append(f.Members, m)
		}
	}
	slices.SortStableFunc(f.Members, func(a, b model.Member) int {
		if a.Depth != b.Depth {
			return a.Depth - b.Depth
		}
		return strings.Compare(a.Host, b.Host)
	})
	f.Members = f.Members[:min(limit, len(f.Members))]
	return f
}
