package tree_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(o *tree.Observed)
		say   string
	}{
		"circle": {func(o *tree.Observed) {
			m := member(*o, "a")
			m.Parent, m.Depth = new("c"), 3
			member(*o, "root").Children--
			member(*o, "c").Children++
		}, "a does not reach a root: a → c → a"},
		"fan-out":  {func(o *tree.Observed) { o.Degree = 1 }, "root has 2 children, more than the degree 1"},
		"depth":    {func(o *tree.Observed) { member(*o, "c").Depth = 5 }, "c has depth 5, but its parent a has 1"},
		"count":    {func(o *tree.Observed) { member(*o, "c").Children = 1 }, "c is said to have 1 children, but has 0"},
		"stranger": {func(o *tree.Observed) { member(*o, "c").Parent = new("x") }, "c has the parent x, which is not a member"},
		"twice":    {func(o *tree.Observed) { o.Members = append(o.Members, *member(*o, "c")) }, "c is a member twice"},
		"orphan":   {func(o *tree.Observed) { member(*o, "c").Parent = nil }, "c has no parent"},
		"leaving":  {func(o *tree.Observed) { member(*o, "a").State = model.MemberLeaving }, "c has the parent a, which is leaving"},
		"fallback": {func(o *tree.Observed) { member(*o, "b").Fallback = new("c") }, "b has the fallback c, which is deeper: a circle could close"},
		"parent":   {func(o *tree.Observed) { member(*o, "c").Fallback = new("a") }, "c has its parent a as fallback"},
		"no root":  {func(o *tree.Observed) { o.Members = o.Members[1:] }, "the tree has no root"},
	} {
		t.Run(name, func(t *testing.T) {
			o := grown(t, 2, "root: a b; a: c")
			c.spoil(&o)
			if got := tree.Check(o.Members, o.Degree); !slices.Contains(got, c.say) {
				t.Errorf("%q not in %q", c.say, got)
			}
		})
	}
}

func TestDraw(t *testing.T) {
	o := grown(t, 2, "r2; r1: b a; a: d c")
	member(o, "b").Parent = new("gone")
	slices.Reverse(o.Members)
	var b strings.Builder
	if err := tree.Draw(&b, o.Members, func(m model.Member) string { return "(" + string(m.Role) + ")" }); err != nil {
		t.Fatal(err)
	}
	const want = `r1 (root)
└─ a (relay)
   ├─ c (relay)
   └─ d (relay)
r2 (root)
not connected to a root:
? gone → b (relay)
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
