package tree

import (
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// Leave takes members out that nothing needs any more. Without children they are
// leaving at once; with, the children get other parents in this plan and the member
// drains: it serves until they have switched (then see [Drained]). Pinned members and
// a root that others need are refused. Needs the whole tree.
func Leave(o Observed, hosts ...string) Plan {
	w := newWork(o, nil, nil, false)
	w.refresh = true
	for _, h := range hosts {
		i, ok := w.at[h]
		switch {
		case !ok:
			w.refuse(h, "is not a member")
		case w.es[i].row.Pinned:
			w.refuse(h, "is pinned")
		case w.es[i].state == model.MemberLeaving:
			w.say(h, "is leaving already")
		case w.es[i].root && w.es[i].state != model.MemberDraining && !w.otherRoot(i) && w.es[i].count() > 0:
			w.refuse(h, "is the only root, and others read from it")
		default:
			w.leave(i)
		}
	}
	w.repair()
	for _, h := range hosts {
		i, ok := w.at[h]
		if ok && goes(w.es[i].state) && w.es[i].count() > 0 {
			w.es[i].state = model.MemberDraining
			w.say(h, "drains; it waits for its children")
		}
	}
	return w.plan()
}

func (w *work) leave(i int32) {
	e := &w.es[i]
	e.accept = false
	if e.state == model.MemberDraining {
		w.say(e.host, "is draining already")
		return
	}
	e.state = model.MemberLeaving
	w.say(e.host, "not needed, has no children")
	for _, k := range e.kids {
		if w.es[k].alive {
			e.state = model.MemberDraining
			w.say(e.host, "not needed, its children move first")
			return
		}
	}
}

// otherRoot tells whether a living root but i stays.
func (w *work) otherRoot(i int32) bool {
	return slices.ContainsFunc(w.roots, func(k int32) bool { return k != i && w.es[k].accept })
}

// Drained lets draining members leave that have no children any more. To be called
// when the nodes themselves report that nobody is logged in.
func Drained(o Observed, hosts ...string) Plan {
	w := newWork(o, nil, nil, false)
	for _, h := range hosts {
		i, ok := w.at[h]
		switch {
		case !ok:
			w.refuse(h, "is not a member")
		case w.es[i].state != model.MemberDraining:
			w.say(h, "does not drain")
		case w.es[i].count() > 0:
			w.refuse(h, "has children still")
		default:
			w.es[i].state = model.MemberLeaving
			w.say(h, "its children have gone")
		}
	}
	return w.plan()
}
