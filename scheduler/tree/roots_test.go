package tree_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// A root that is still importing is nobody's parent or fallback. When it has the image, those who read from
// the other have it as their fallback, instead of one another, and go there if that dies.
func TestSecondRoot(t *testing.T) {
	o := grown(t, 3, "one: a b; two")
	two := member(o, "two")
	two.State = model.MemberImporting
	o.Members = tree.Apply(o.Members, tree.Fallbacks(o))
	p, err := tree.Join(o, []tree.Host{{Name: "c"}, {Name: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Members = tree.Apply(o.Members, p)
	o.Nodes["c"], o.Nodes["d"] = model.Node{Host: "c", Alive: true}, model.Node{Host: "d", Alive: true}
	for _, m := range o.Members {
		if parentOf(&m) == "two" || m.Fallback != nil && *m.Fallback == "two" {
			t.Errorf("%s: parent %s, fallback %v", m.Host, parentOf(&m), m.Fallback)
		}
	}
	if f := member(o, "b").Fallback; f == nil || *f != "a" {
		t.Errorf("b's fallback is %v", f)
	}
	sound(t, o)

	member(o, "two").State = model.MemberActive
	o.Members = tree.Apply(o.Members, tree.Rebalance(o))
	for _, h := range []string{"a", "b"} {
		if m := member(o, h); parentOf(m) != "one" || m.Fallback == nil || *m.Fallback != "two" {
			t.Errorf("%s: parent %s, fallback %v", h, parentOf(m), m.Fallback)
		}
	}
	sound(t, o)

	kill(o, "one")
	o.Members = tree.Apply(o.Members, tree.Lose(o, []string{"one"}))
	for _, h := range []string{"a", "b", "c", "d"} {
		if p := parentOf(member(o, h)); p == "one" {
			t.Errorf("%s reads from who is dead", h)
		}
	}
	sound(t, o)
}
