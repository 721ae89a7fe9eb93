package tree_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// after applies a plan and checks the rows.
func after(t *testing.T, o tree.Observed, p tree.Plan) tree.Observed {
	t.Helper()
	o.Members = tree.Apply(o.Members, p)
	sound(t, o)
	return o
}

func want(t *testing.T, o tree.Observed, text string) {
	t.Helper()
	if got := drawn(o); got != strings.TrimPrefix(text, "\n") {
		t.Fatalf("got:\n%s\nwant:%s", got, text)
	}
}

// Thousand nodes are placed at once, not one level per polling wave.
func TestBurstIsOnePlan(t *testing.T) {
	for _, c := range []struct{ degree, n, depth int }{{1, 50, 50}, {2, 1000, 9}, {3, 1000, 6}, {10, 1000, 3}, {10000, 1000, 1}} {
		o := grown(t, c.degree, "origin")
		hosts := names("h", c.n)
		for _, h := range hosts {
			o.Nodes[h.Name] = model.Node{Alive: true}
		}
		p, err := tree.Join(o, hosts)
		if err != nil {
			t.Fatal(err)
		}
		o = after(t, o, p)
		depth := 0
		for _, m := range o.Members {
			depth = max(depth, m.Depth)
		}
		if len(o.Members) != c.n+1 || depth != c.depth || depth > tree.DepthBound(c.n+1, c.degree) {
			t.Errorf("degree %d: %d members, depth %d, want %d", c.degree, len(o.Members), depth, c.depth)
		}
	}
}

func TestJoinPrefersNear(t *testing.T) {
	o := grown(t, 3, "root: a b c")
	for h, at := range map[string][2]string{"a": {"z1", "r1"}, "b": {"z2", "r1"}, "c": {"z2", "r2"}} {
		o.Nodes[h] = model.Node{Alive: true, AvailabilityZone: at[0], Rack: at[1]}
	}
	for _, c := range []struct{ zone, rack, parent, reason string }{
		{"z2", "r2", "c", "shallowest place, same rack"},
		{"z1", "r9", "a", "shallowest place, same availability zone"},
		{"z2", "r9", "b", "shallowest place, same availability zone"},
		{"z9", "r1", "a", "shallowest place"}, // a rack of that name in another zone is not near
		{"", "", "a", "shallowest place"},
	} {
		p, err := tree.Join(o, []tree.Host{{Name: "new", Rack: c.rack, AvailabilityZone: c.zone}})
		if err != nil {
			t.Fatal(err)
		}
		got := p.Changes[0]
		if got.After.Parent != c.parent || got.After.Reason != c.reason || !got.New || !got.NewParent ||
			got.After.State != model.MemberJoining || got.After.Depth != 2 || got.After.Fallback == "" || got.After.Fallback == c.parent {
			t.Errorf("%s %s: %+v", c.zone, c.rack, got)
		}
	}
	// A near place is not taken if it is deeper.
	o = grown(t, 2, "root: a")
	o.Nodes["a"] = model.Node{Alive: true, AvailabilityZone: "z", Rack: "r"}
	p, _ := tree.Join(o, []tree.Host{{Name: "new", Rack: "r", AvailabilityZone: "z"}})
	if got := p.Changes[0].After.Parent; got != "root" {
		t.Errorf("parent %s", got)
	}
}

// Equally shallow and equally near: who has fewest children.
func TestJoinSpreads(t *testing.T) {
	o := grown(t, 4, "root: a b c d")
	p, err := tree.Join(o, names("h", 8))
	if err != nil {
		t.Fatal(err)
	}
	o.Members = tree.Apply(o.Members, p)
	for _, h := range []string{"a", "b", "c", "d"} {
		if n := member(o, h).Children; n != 2 {
			t.Errorf("%s has %d children", h, n)
		}
	}
}

func TestJoinMembers(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c")
	member(o, "c").State = model.MemberLeaving
	member(o, "b").State = model.MemberDraining
	p, err := tree.Join(o, []tree.Host{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "root"}})
	if err != nil || !slices.Equal(p.Refused, []string{"c"}) || len(p.Changes) != 1 || p.Changes[0].Host != "b" ||
		p.Changes[0].After.State != model.MemberActive || p.Changes[0].NewParent {
		t.Fatalf("%v %+v", err, p)
	}
}

func TestJoinNobody(t *testing.T) {
	o := grown(t, 2, "root")
	kill(o, "root")
	p, err := tree.Join(o, names("h", 2))
	if !errors.Is(err, tree.ErrNoParent) || len(p.Changes) != 0 || len(p.Refused) != 2 {
		t.Fatalf("%v %+v", err, p)
	}
	if _, err = tree.Join(tree.Observed{}, names("h", 1)); !errors.Is(err, tree.ErrDegree) {
		t.Fatal(err)
	}
}

// The dead don't hold places that the living could have.
func TestJoinTakesPlaceOfTheDead(t *testing.T) {
	o := grown(t, 1, "root: a")
	kill(o, "a")
	o = after(t, o, tree.Lose(o, []string{"a"}))
	p, err := tree.Join(o, names("n", 1))
	if err != nil {
		t.Fatal(err)
	}
	o.Nodes["n00000"] = model.Node{Alive: true}
	o = after(t, o, p)
	want(t, o, `
root
└─ n00000 joining
   └─ a path-lost down
`)
	revive(o, "a")
	o = after(t, o, tree.Return(o, "a"))
	want(t, o, `
root
└─ n00000 joining
   └─ a joining
`)
}

func TestLeave(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c d; b: e; c: f g")
	leaf := after(t, o, tree.Leave(o, "f"))
	want(t, leaf, `
root
├─ a
│  ├─ c
│  │  ├─ f leaving
│  │  └─ g
│  └─ d
└─ b
   └─ e
`)
	o = after(t, o, tree.Leave(o, "a"))
	want(t, o, `
root
├─ a draining
└─ b
   ├─ c
   │  ├─ f
   │  └─ g
   └─ e
      └─ d
`)
	o = after(t, o, tree.Drained(o, "a"))
	if member(o, "a").State != model.MemberLeaving {
		t.Fatal(drawn(o))
	}
}

// In a chain there is no room beside the one who leaves: its child is one too many
// until it has gone, which is said, and right afterwards.
func TestLeaveChain(t *testing.T) {
	o := grown(t, 1, "root: a; a: b; b: c")
	o = after(t, o, tree.Leave(o, "a"))
	want(t, o, `
root
├─ a draining
└─ b over
   └─ c
`)
	o = after(t, o, tree.Drained(o, "a"))
	remove(&o, "a")
	o = after(t, o, tree.Rebalance(o))
	want(t, o, `
root
└─ b
   └─ c
`)
}

// The original never ended here.
func TestLeaveTwoPendingChildren(t *testing.T) {
	o := grown(t, 2, "root: a; a: b c; b: d; c: e")
	for i := range o.Members {
		if o.Members[i].Host != "root" {
			o.Members[i].State = model.MemberJoining
		}
	}
	o = after(t, o, tree.Leave(o, "a", "b", "c"))
	for _, h := range []string{"b", "c"} {
		o = after(t, o, tree.Drained(o, h))
		remove(&o, h)
	}
	o = after(t, o, tree.Drained(o, "a"))
	remove(&o, "a")
	o = after(t, o, tree.Rebalance(o))
	want(t, o, `
root
└─ d joining
   └─ e joining
`)
}

func TestLeaveRefused(t *testing.T) {
	o := grown(t, 2, "root: a")
	member(o, "a").Pinned = true
	p := tree.Leave(o, "root", "a", "nobody")
	if !p.Empty() || len(p.Refused) != 3 {
		t.Fatalf("%+v", p)
	}
}

// Wanted again, but the place is no longer good.
func TestJoinDrainingMoves(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c; b: d")
	o = after(t, o, tree.Leave(o, "a", "c"))
	member(o, "c").State = model.MemberDraining // it still serves somebody
	p, err := tree.Join(o, []tree.Host{{Name: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	o = after(t, o, p)
	want(t, o, `
root
├─ a draining
└─ b
   ├─ c
   └─ d
`)
}

func TestRebalanceRaises(t *testing.T) {
	o := grown(t, 2, "root: a; a: b; b: c; c: d; d: e; e: f; f: g; g: h; h: i; i: j")
	p := tree.Rebalance(o)
	o = after(t, o, p)
	moved := 0
	for _, c := range p.Changes {
		if c.NewParent {
			moved++
		}
	}
	for _, m := range o.Members {
		if m.Depth > tree.DepthBound(len(o.Members), 2) {
			t.Fatal(drawn(o))
		}
	}
	if moved != 1 { // one subtree is enough
		t.Errorf("%d moves\n%s", moved, drawn(o))
	}
}

func TestReturnServes(t *testing.T) {
	o := grown(t, 1, "root: a")
	kill(o, "a")
	o = after(t, o, tree.Lose(o, []string{"a"}))
	revive(o, "a")
	p := tree.Return(o, "a")
	if c := p.Changes; len(c) != 1 || c[0].After.State != model.MemberJoining || c[0].NewParent {
		t.Fatalf("%+v", c)
	}
}

// In a chain the child of the dead takes a place over the degree; when the dead is back it is
// not the living, whom somebody reads from, that moves again.
func TestReturnGoesBelow(t *testing.T) {
	o := grown(t, 1, "root: a; a: b; b: c")
	o.Members = tree.Apply(o.Members, tree.PathLost(o, "b", "a"))
	for i := range o.Members {
		if o.Members[i].State == model.MemberPathLost {
			o.Members[i].State = model.MemberActive
		}
	}
	kill(o, "a")
	o = after(t, o, tree.Lose(o, []string{"a"}))
	revive(o, "a")
	o = after(t, o, tree.Return(o, "a"))
	want(t, o, `
root
└─ b
   └─ c
      └─ a joining
`)
}

func TestLoseGoesToFallback(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c d; b: e")
	member(o, "c").Fallback = new("e")
	kill(o, "a")
	p := tree.Lose(o, []string{"a"})
	o.Members = tree.Apply(o.Members, p)
	sound(t, o)
	// c and d to their fallbacks; a stays as a leaf, nobody needs its place.
	want(t, o, `
root
├─ a path-lost down
└─ b
   ├─ d
   └─ e
      └─ c
`)
	if r := member(o, "c").Reason; r != "a is down: the fallback known in advance" {
		t.Error(r)
	}
}

func TestLoseOnlyRoot(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c")
	kill(o, "root")
	p := tree.Lose(o, []string{"root"})
	for _, c := range p.Changes {
		if c.NewParent {
			t.Errorf("%+v", c)
		}
	}
	if p.Reasons["a"] != "the only root root is down; it keeps its place" {
		t.Error(p.Reasons)
	}
	// One of two: everybody moves to the other.
	o = grown(t, 2, "r1: a b; a: c; r2")
	kill(o, "r1")
	o = after(t, o, tree.Lose(o, []string{"r1"}))
	want(t, o, `
r1 down
r2
├─ a
│  └─ c
└─ b
`)
}

func TestLoseAllButRoot(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c d; b: e f")
	all := []string{"a", "b", "c", "d", "e", "f"}
	kill(o, all...)
	o = after(t, o, tree.Lose(o, all))
	for _, h := range all {
		if m := member(o, h); parentOf(m) != "root" || m.State != model.MemberPathLost {
			t.Fatal(drawn(o))
		}
	}
	revive(o, all...)
	o = after(t, o, tree.Return(o, all...))
	o = after(t, o, tree.Rebalance(o))
	for _, m := range o.Members {
		if m.Children > 2 || strings.HasPrefix(m.Reason, tree.OverDegree) {
			t.Fatal(drawn(o))
		}
	}
}

func TestPathLost(t *testing.T) {
	// To somebody who does not hang below the bad parent.
	o := grown(t, 2, "root: a b; a: c d; b: e")
	got := after(t, o, tree.PathLost(o, "c", "a"))
	if p := parentOf(member(got, "c")); p == "a" || p == "d" {
		t.Fatal(drawn(got))
	}
	// To one below it, if the others are full.
	o = grown(t, 2, "root: a b; a: c d; b: e f; e: g h; f: i j; g: k l; h: m n; i: o p; j: q r")
	for _, h := range []string{"k", "l", "m", "n", "o", "p", "q", "r"} {
		member(o, h).State = model.MemberPathLost
	}
	got = after(t, o, tree.PathLost(o, "c", "a"))
	if p := parentOf(member(got, "c")); p != "d" {
		t.Fatal(drawn(got))
	}
	// Nobody else: the same parent, and why.
	o = grown(t, 2, "root: a; a: b")
	p := tree.PathLost(o, "a", "root")
	got = after(t, o, p)
	if parentOf(member(got, "a")) != "root" || p.Reasons["a"] != "can't reach root, but nobody else can be its parent" {
		t.Fatal(p.Reasons, drawn(got))
	}
	// An old complaint.
	if p = tree.PathLost(o, "b", "root"); !p.Empty() {
		t.Fatalf("%+v", p)
	}
}

func TestFallbacks(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c d; b: e")
	for h, f := range map[string]string{"root": "", "a": "", "b": "a", "c": "b", "d": "b", "e": "d"} {
		got := ""
		if p := member(o, h).Fallback; p != nil {
			got = *p
		}
		if got != f {
			t.Errorf("fallback of %s is %q, want %q", h, got, f)
		}
	}
	if p := tree.Fallbacks(o); !p.Empty() {
		t.Errorf("not once: %+v", p)
	}
	// In a chain, the grandparent.
	o = grown(t, 1, "root: a; a: b; b: c")
	if f := member(o, "c").Fallback; f == nil || *f != "a" {
		t.Error(f)
	}
}
