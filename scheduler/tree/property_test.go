package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// life is a tree under random operations; its methods are rapid's actions.
type life struct {
	o     tree.Observed
	fresh int
	wait  bool // a root that is wanted again is taken to by the next repair
}

func (l *life) hosts(keep func(m *model.Member) bool) []string {
	var out []string
	for i := range l.o.Members {
		if keep(&l.o.Members[i]) {
			out = append(out, l.o.Members[i].Host)
		}
	}
	slices.Sort(out)
	return out
}

func (l *life) alive(h string) bool { return l.o.Nodes[h].Alive }

func some(t *rapid.T, of []string, most int) []string {
	if len(of) == 0 {
		t.Skip("nobody")
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, min(most, len(of)), rapid.ID[string]).Draw(t, "hosts")
}

func any(*model.Member) bool { return true }

func (l *life) subtree(host string) map[string]bool {
	kids := map[string][]string{}
	for i := range l.o.Members {
		kids[parentOf(&l.o.Members[i])] = append(kids[parentOf(&l.o.Members[i])], l.o.Members[i].Host)
	}
	in := map[string]bool{host: true}
	for todo := []string{host}; len(todo) > 0; {
		h := todo[0]
		todo = todo[1:]
		for _, k := range kids[h] {
			if !in[k] {
				in[k] = true
				todo = append(todo, k)
			}
		}
	}
	return in
}

// take applies a plan and checks what must hold of any.
func (l *life) take(t *rapid.T, what string, p tree.Plan) {
	before := drawn(l.o)
	input := slices.Clone(l.o.Members)
	once := tree.Apply(l.o.Members, p)
	if d := cmp.Diff(input, l.o.Members); d != "" {
		t.Fatalf("%s: Apply changed its input: %s", what, d)
	}
	if d := cmp.Diff(once, tree.Apply(once, p)); d != "" {
		t.Fatalf("%s: applied twice is not once: %s", what, d)
	}
	l.o.Members = once
	for _, c := range p.Changes {
		if p.Reasons[c.Host] == "" && c.NewParent {
			t.Fatalf("%s: %s moved without a reason", what, c.Host)
		}
	}
	fail := func(format string, args ...interface{}) {
		t.Helper()
		t.Fatalf("%s: %s\nbefore:\n%s\nafter:\n%s\nplan: %+v", what, fmt.Sprintf(format, args...), before, drawn(l.o), p.Changes)
	}
	if wrong := tree.Check(l.o.Members, l.o.Degree); len(wrong) > 0 {
		fail("%s", strings.Join(wrong, "\n"))
	}
	switch what {
	case "join":
		l.wait = l.wait || !l.rooted(input)
	case "leave", "lose", "return", "rebalance":
		l.wait = false
	}
	if !l.wait {
		l.connected(fail)
	}
	l.noCircle(fail)
	l.overOnlyInNeed(fail)
	l.minimal(fail, what, input, p)
}

// rooted tells whether there is a living root that takes children.
func (l *life) rooted(ms []model.Member) bool {
	return slices.ContainsFunc(ms, func(m model.Member) bool {
		return m.Role == model.RoleRoot && l.alive(m.Host) && m.State == model.MemberActive
	})
}

// connected: with a living root, everyone reaches it through the living; the dead are leaves.
func (l *life) connected(fail func(string, ...interface{})) {
	at := map[string]*model.Member{}
	for i := range l.o.Members {
		at[l.o.Members[i].Host] = &l.o.Members[i]
	}
	if !l.rooted(l.o.Members) {
		return
	}
	for _, m := range at {
		for q := m; q.Parent != nil; {
			q = at[*q.Parent]
			if !l.alive(q.Host) {
				fail("%s hangs below %s, which is down, though there is a living root", m.Host, q.Host)
			}
		}
		if p := at[parentOf(m)]; p != nil && p.State == model.MemberDraining && !(l.alive(m.Host) && (m.State == model.MemberDraining || m.State == model.MemberLeaving)) {
			fail("%s stays below the draining %s", m.Host, p.Host)
		}
	}
}

// noCircle: whoever goes to the fallback on its own, and however many at once, no
// circle can come about.
func (l *life) noCircle(fail func(string, ...interface{})) {
	next := map[string][]string{}
	for _, m := range l.o.Members {
		for _, p := range []*string{m.Parent, m.Fallback} {
			if p != nil && m.State != model.MemberLeaving {
				next[m.Host] = append(next[m.Host], *p)
			}
		}
	}
	color := map[string]int{}
	var walk func(string)
	walk = func(h string) {
		color[h] = 1
		for _, n := range next[h] {
			if color[n] == 1 {
				fail("parents and fallbacks have a circle through %s", n)
			}
			if color[n] == 0 {
				walk(n)
			}
		}
		color[h] = 2
	}
	for _, m := range l.o.Members {
		if color[m.Host] == 0 {
			walk(m.Host)
		}
	}
}

// overOnlyInNeed: nobody alive is one too many unless some member can't take children.
func (l *life) overOnlyInNeed(fail func(string, ...interface{})) {
	for _, m := range l.o.Members {
		if l.alive(m.Host) && m.State != model.MemberJoining && m.State != model.MemberActive || m.Role == model.RoleRoot && !l.alive(m.Host) {
			return
		}
	}
	kids := map[string]int{}
	for _, m := range l.o.Members {
		if l.alive(m.Host) {
			kids[parentOf(&m)]++
		}
	}
	for _, m := range l.o.Members {
		if kids[m.Host] > l.o.Degree && m.Reason != "was over" {
			over := 0
			for _, k := range l.o.Members {
				if parentOf(&k) == m.Host && l.alive(k.Host) && strings.HasPrefix(k.Reason, tree.OverDegree) {
					over++
				}
			}
			if kids[m.Host]-over > l.o.Degree {
				fail("%s has %d living children", m.Host, kids[m.Host])
			}
		}
	}
}

// minimal: who moves had a parent that is dead, draining or cut, or asked for it;
// Rebalance and Return may also move who is too many or too deep.
func (l *life) minimal(fail func(string, ...interface{}), what string, before []model.Member, p tree.Plan) {
	if what == "rebalance" || what == "return" {
		return
	}
	state := map[string]model.MemberState{}
	for _, m := range before {
		state[m.Host] = m.State
	}
	for _, m := range l.o.Members {
		if m.State == model.MemberDraining {
			state[m.Host] = m.State
		}
	}
	for _, c := range p.Changes {
		if c.New || !c.NewParent || !l.alive(c.Host) {
			continue
		}
		from := c.Before.Parent
		switch {
		case !l.alive(from), state[from] == model.MemberDraining, state[from] == model.MemberLeaving:
		case what == "pathlost" && p.Reasons[c.Host] != "":
		case what == "join" && c.Before.State == model.MemberDraining:
		default:
			fail("%s moved from its healthy parent %s to %s", c.Host, from, c.After.Parent)
		}
	}
}

func TestAnyLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		t.Repeat(rapid.StateMachineActions(l))
	})
}

func (l *life) Check(*rapid.T) {} // take has checked

// Joining alone keeps the depth bound, however the hosts come, in bursts or one by
// one, seeing all or a frontier.
func TestJoinDepth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		for range rapid.IntRange(1, 8).Draw(t, "bursts") {
			l.Join(t)
			bound := tree.DepthBound(len(l.o.Members), l.o.Degree)
			for _, m := range l.o.Members {
				if m.Depth > bound {
					t.Fatalf("%s at depth %d, bound %d\n%s", m.Host, m.Depth, bound, drawn(l.o))
				}
				if m.Children > l.o.Degree {
					t.Fatalf("%s has %d children", m.Host, m.Children)
				}
			}
		}
	})
}

// The order of the input makes no difference.
func TestOrderOfInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		l.Join(t)
		l.Join(t)
		shuffled := l.o
		shuffled.Members = rapid.Permutation(l.o.Members).Draw(t, "members")
		victims := some(t, l.hosts(any), 4)
		hosts := names("new", 7)
		other := rapid.Permutation(hosts).Draw(t, "hosts")
		kill(l.o, victims...)
		a, b := tree.Lose(l.o, victims), tree.Lose(shuffled, rapid.Permutation(victims).Draw(t, "victims"))
		if d := cmp.Diff(a, b); d != "" {
			t.Fatal(d)
		}
		a, errA := tree.Join(l.o, hosts)
		b, errB := tree.Join(shuffled, other)
		if d := cmp.Diff(a, b); d != "" || (errA == nil) != (errB == nil) {
			t.Fatal(d, errA, errB)
		}
	})
}

// Everyone leaves, a few at a time, in any order, and it ends.
func TestEverybodyLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		l.Join(t)
		l.Join(t)
		left := l.hosts(func(m *model.Member) bool { return m.Role == model.RoleRelay })
		left = rapid.Permutation(left).Draw(t, "order")
		for len(left) > 0 {
			n := rapid.IntRange(1, min(5, len(left))).Draw(t, "n")
			l.take(t, "leave", tree.Leave(l.o, left[:n]...))
			left = left[n:]
		}
		for round := 0; ; round++ {
			for _, h := range l.hosts(func(m *model.Member) bool { return m.State == model.MemberLeaving }) {
				remove(&l.o, h)
			}
			drains := l.hosts(func(m *model.Member) bool { return m.State == model.MemberDraining && m.Children == 0 })
			if len(drains) == 0 {
				break
			}
			l.take(t, "drained", tree.Drained(l.o, drains...))
		}
		if rest := l.hosts(func(m *model.Member) bool { return m.Role == model.RoleRelay }); len(rest) > 0 {
			t.Fatalf("%v never left\n%s", rest, drawn(l.o))
		}
	})
}

// A tree from rows that nobody should have written is put right, not walked forever.
func TestBrokenRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		o := tree.Observed{Degree: rapid.IntRange(1, 3).Draw(t, "degree"), Nodes: map[string]model.Node{}}
		host := func(i int) string { return fmt.Sprintf("h%d", i) }
		for i := range n {
			m := model.Member{Host: host(i), Role: model.RoleRelay, State: model.MemberActive}
			if i == 0 {
				m.Role = model.RoleRoot
			} else {
				p := host(rapid.IntRange(0, n).Draw(t, "parent"))
				m.Parent = &p
			}
			o.Members = append(o.Members, m)
			o.Nodes[host(i)] = model.Node{Host: host(i), Alive: true}
		}
		o.Members = tree.Apply(o.Members, tree.Rebalance(o))
		kids := map[string]int{}
		for _, m := range o.Members {
			kids[parentOf(&m)]++
		}
		for i := range o.Members {
			o.Members[i].Children = kids[o.Members[i].Host]
		}
		if wrong := tree.Check(o.Members, o.Degree); len(wrong) > 0 {
			t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), drawn(o))
		}
	})
}
