package tree_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func newLife(t *rapid.T) *life {
	l := &life{o: tree.Observed{Degree: rapid.IntRange(1, 4).Draw(t, "degree"), Nodes: map[string]model.Node{}}}
	for i := range rapid.IntRange(1, 2).Draw(t, "roots") {
		h := fmt.Sprintf("root%d", i)
		l.o.Members = append(l.o.Members, model.Member{Host: h, Role: model.RoleRoot, State: model.MemberActive})
		l.o.Nodes[h] = model.Node{Host: h, Alive: true, Rack: "r0", AvailabilityZone: "z0"}
	}
	return l
}

func (l *life) Join(t *rapid.T) {
	n := rapid.IntRange(1, 12).Draw(t, "n")
	var hosts []tree.Host
	for range n {
		l.fresh++
		h := tree.Host{
			// Names not in the order of joining.
			Name: fmt.Sprintf("h%02d-%d", (l.fresh*37)%100, l.fresh),
			Rack: fmt.Sprint("r", l.fresh%3), AvailabilityZone: fmt.Sprint("z", l.fresh%2),
		}
		hosts = append(hosts, h)
		l.o.Nodes[h.Name] = model.Node{Host: h.Name, Alive: true, Rack: h.Rack, AvailabilityZone: h.AvailabilityZone}
	}
	view := l.o
	if part := rapid.Bool().Draw(t, "frontier only"); part {
		if view = frontier(l.o, 64); len(view.Members) == 0 {
			view = l.o
		}
	}
	p, err := tree.Join(view, hosts)
	possible := len(l.hosts(func(m *model.Member) bool {
		return l.alive(m.Host) && (m.State == model.MemberActive || m.State == model.MemberJoining)
	})) > 0
	if possible && err != nil {
		t.Fatalf("join: %v\n%s", err, drawn(l.o))
	}
	if placed := len(slices.DeleteFunc(slices.Clone(p.Changes), func(c tree.Change) bool { return !c.New })); (placed == n) != (err == nil) {
		t.Fatalf("join: %d of %d placed, %v", placed, n, err)
	}
	l.take(t, "join", p)
}

func (l *life) Again(t *rapid.T) {
	hosts := some(t, l.hosts(any), 3)
	var hs []tree.Host
	for _, h := range hosts {
		hs = append(hs, tree.Host{Name: h})
	}
	p, err := tree.Join(l.o, hs)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if slices.Contains(p.Refused, h) != (member(l.o, h).State == model.MemberLeaving) {
			t.Fatalf("join again %s (%s): refused %v", h, member(l.o, h).State, p.Refused)
		}
	}
	l.take(t, "join", p)
	for _, h := range hosts {
		if member(l.o, h).State == model.MemberDraining {
			t.Fatalf("%s still drains", h)
		}
	}
}

func (l *life) Leave(t *rapid.T) {
	hosts := some(t, l.hosts(any), 3)
	p := tree.Leave(l.o, hosts...)
	l.take(t, "leave", p)
	for _, h := range hosts {
		m := member(l.o, h)
		gone := m.State == model.MemberDraining || m.State == model.MemberLeaving
		if gone == slices.Contains(p.Refused, h) {
			t.Fatalf("leave %s: state %s, refused %v\n%s", h, m.State, p.Refused, drawn(l.o))
		}
		if m.State == model.MemberLeaving && m.Children > 0 {
			t.Fatalf("%s is leaving with children", h)
		}
	}
}

func (l *life) Drained(t *rapid.T) {
	hosts := some(t, l.hosts(func(m *model.Member) bool { return m.State == model.MemberDraining && m.Children == 0 }), 3)
	l.take(t, "drained", tree.Drained(l.o, hosts...))
	for _, h := range hosts {
		if s := member(l.o, h).State; s != model.MemberLeaving {
			t.Fatalf("%s is %s", h, s)
		}
	}
}

func (l *life) Left(t *rapid.T) {
	for _, h := range some(t, l.hosts(func(m *model.Member) bool { return m.State == model.MemberLeaving && l.alive(m.Host) }), 5) {
		remove(&l.o, h)
	}
}

func (l *life) Lose(t *rapid.T) {
	hosts := some(t, l.hosts(func(m *model.Member) bool { return l.alive(m.Host) }), 6)
	kill(l.o, hosts...)
	p := tree.Lose(l.o, hosts)
	l.take(t, "lose", p)
	for _, h := range hosts {
		if m := member(l.o, h); m.Role == model.RoleRelay && (m.State == model.MemberActive || m.State == model.MemberJoining) {
			t.Fatalf("%s is down and %s", h, m.State)
		}
	}
}

func (l *life) Return(t *rapid.T) {
	hosts := some(t, l.hosts(func(m *model.Member) bool { return !l.alive(m.Host) }), 6)
	revive(l.o, hosts...)
	l.take(t, "return", tree.Return(l.o, hosts...))
	for _, h := range hosts {
		if m := member(l.o, h); m.State == model.MemberPathLost {
			t.Fatalf("%s is back and path-lost", h)
		}
	}
}

func (l *life) PathLost(t *rapid.T) {
	relays := l.hosts(func(m *model.Member) bool { return m.Role == model.RoleRelay && l.alive(m.Host) })
	h := some(t, relays, 1)[0]
	m := *member(l.o, h)
	own := l.subtree(h)
	p := tree.PathLost(l.o, h, parentOf(&m))
	l.take(t, "pathlost", p)
	if m.State == model.MemberLeaving {
		return
	}
	now := parentOf(member(l.o, h))
	if now != parentOf(&m) {
		if own[now] {
			t.Fatalf("%s was put into its own subtree", h)
		}
		return
	}
	for _, c := range l.o.Members {
		if c.Host != now && !own[c.Host] && l.alive(c.Host) && (c.State == model.MemberActive || c.State == model.MemberJoining) {
			t.Fatalf("%s kept the parent %s, which it can't reach, though there is %s\n%s", h, now, c.Host, drawn(l.o))
		}
	}
}

func (l *life) PathBack(t *rapid.T) {
	for _, h := range some(t, l.hosts(func(m *model.Member) bool { return m.State == model.MemberPathLost && l.alive(m.Host) }), 5) {
		member(l.o, h).State = model.MemberActive
	}
}

func (l *life) Rebalance(t *rapid.T) {
	l.take(t, "rebalance", tree.Rebalance(l.o))
	healthy := true
	for _, m := range l.o.Members {
		healthy = healthy && l.alive(m.Host) && (m.State == model.MemberActive || m.State == model.MemberJoining)
	}
	if !healthy {
		return
	}
	bound := tree.DepthBound(len(l.o.Members), l.o.Degree)
	for _, m := range l.o.Members {
		if m.Depth > bound || m.Children > l.o.Degree || strings.HasPrefix(m.Reason, tree.OverDegree) {
			t.Fatalf("%s: depth %d (bound %d), %d children, %s\n%s", m.Host, m.Depth, bound, m.Children, m.Reason, drawn(l.o))
		}
	}
	if again := tree.Rebalance(l.o); !again.Empty() {
		t.Fatalf("a balanced tree is balanced again: %+v\n%s", again.Changes, drawn(l.o))
	}
}
