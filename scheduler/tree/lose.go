package tree

import "github.com/vmthunder/vmthunder/db/model"

// Lose says that nodes have died. Their children move to their fallbacks if those are
// good, else to the best places. A dead member stays one, for it may have volumes: a
// leaf, state path-lost, which joins again below when it is back ([Return]); if it was
// on its way out it leaves. A dead root stays a root; if it is the only one, its
// children keep their places, there is nothing to move to. Needs the whole tree.
func Lose(o Observed, hosts []string) Plan {
	w := newWork(o, nil, hosts, false)
	w.refresh = true
	for _, h := range hosts {
		i, ok := w.at[h]
		if !ok {
			continue // a node is a member of some trees only
		}
		e := &w.es[i]
		e.accept = false
		switch {
		case e.root:
			w.say(h, "is down; a root stays a root")
			continue
		case e.state == model.MemberJoining, e.state == model.MemberActive:
			e.state = model.MemberPathLost
		}
		w.say(h, "is down; it stays a member, as a leaf")
	}
	w.repair()
	for _, h := range hosts {
		if i, ok := w.at[h]; ok && w.es[i].state == model.MemberDraining && w.es[i].count() == 0 {
			w.es[i].state = model.MemberLeaving // nobody can be reading from it
		}
	}
	return w.plan()
}

// Return says that nodes are back. They join again where their rows have them, or
// in a proper place if they were one too many there. Whoever had to stay below
// something dead is helped too. Needs the whole tree, with these nodes alive.
func Return(o Observed, hosts ...string) Plan {
	w := newWork(o, nil, nil, false)
	w.refresh = true
	for _, h := range hosts {
		i, ok := w.at[h]
		if !ok {
			continue
		}
		e := &w.es[i]
		if e.root || !e.alive || e.state != model.MemberPathLost {
			w.say(h, "nothing to do")
			continue
		}
		e.state, e.accept, e.back = model.MemberJoining, true, true
		if e.parent >= 0 {
			p := &w.es[e.parent]
			if p.attached {
				w.spread(i, p.depth+1, below(p.class, e))
			}
		}
		w.say(h, "is back")
	}
	w.repair()
	for _, h := range hosts {
		if i, ok := w.at[h]; ok && w.es[i].parent >= 0 && w.es[w.es[i].parent].count() > w.degree {
			w.relieve(w.es[i].parent)
		}
	}
	w.fits()
	return w.plan()
}

// PathLost says that host cannot reach badParent, which may well be alive. Host gets
// another parent, if there is one not below badParent; what hangs below badParent is
// the second choice, more children than the degree the third. If there is nobody at
// all it keeps its parent. Needs the whole tree.
func PathLost(o Observed, host, badParent string) Plan {
	w := newWork(o, nil, nil, false)
	w.refresh = true
	i, ok := w.at[host]
	if !ok {
		w.refuse(host, "is not a member")
		return w.plan()
	}
	e := &w.es[i]
	switch {
	case e.root:
		w.refuse(host, "is a root")
		return w.plan()
	case e.state == model.MemberLeaving:
		w.say(host, "is leaving")
		return w.plan()
	case e.parent < 0 || w.es[e.parent].host != badParent:
		w.say(host, "has another parent by now")
		return w.plan()
	}
	if !goes(e.state) {
		e.state, e.accept = model.MemberPathLost, false
	}
	bad := e.parent
	w.detach(i)
	w.cutOff(i)
	if b := &w.es[bad]; b.attached {
		b.accept = false
		w.spread(bad, b.depth, unsound)
	}
	if w.place(i, ask{cause: "can't reach " + badParent + ": ", over: true}) {
		w.say(host, w.es[i].reason)
	} else {
		w.back(i)
		w.say(host, "can't reach "+badParent+", but nobody else can be its parent")
	}
	return w.plan()
}
