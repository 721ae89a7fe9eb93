package tree_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func drain(o tree.Observed, host string, on bool) {
	n := o.Nodes[host]
	n.Draining = on
	o.Nodes[host] = n
}

// Nobody stays below a node that drains, comes to be below it, or has it as a fallback; it stays where it is,
// for volumes may live there.
func TestDrainingNode(t *testing.T) {
	o := grown(t, 2, "root: a b; a: c d; b: e")
	drain(o, "a", true)
	o.Members = tree.Apply(o.Members, tree.Rebalance(o))
	sound(t, o)
	p, err := tree.Join(o, []tree.Host{{Name: "f"}, {Name: "g"}, {Name: "h"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Members = tree.Apply(o.Members, p)
	for _, m := range o.Members {
		if parentOf(&m) == "a" || m.Fallback != nil && *m.Fallback == "a" {
			t.Errorf("%s: parent %s, fallback %v\n%s", m.Host, parentOf(&m), m.Fallback, drawn(o))
		}
	}
	if m := member(o, "a"); parentOf(m) != "root" || m.State != model.MemberActive {
		t.Errorf("a is %+v", m)
	}
	o.Members = tree.Apply(o.Members, tree.Rebalance(o))
	if again := tree.Rebalance(o); !again.Empty() {
		t.Errorf("it does not come to rest: %+v", again.Changes)
	}
}

// Children of a root that drains go to another root. Where there is none they stay.
func TestDrainingRoot(t *testing.T) {
	o := grown(t, 2, "one: a b; two")
	drain(o, "one", true)
	o.Members = tree.Apply(o.Members, tree.Rebalance(o))
	sound(t, o)
	for _, h := range []string{"a", "b"} {
		if p := parentOf(member(o, h)); p == "one" {
			t.Errorf("%s reads from the root that drains\n%s", h, drawn(o))
		}
	}
	o = grown(t, 2, "one: a b")
	drain(o, "one", true)
	o.Members = tree.Apply(o.Members, tree.Rebalance(o))
	sound(t, o)
	for _, h := range []string{"a", "b"} {
		if m := member(o, h); parentOf(m) == "" || m.State != model.MemberActive {
			t.Errorf("%s: %+v", h, m)
		}
	}
}
