package tree

import "slices"

// repair moves everybody whose parent is dead or on its way out, living subtrees as
// they are, tallest first, then the dead as leaves. Children of dead roots move only
// if there is a living root to move to.
func (w *work) repair() {
	rooted := false
	for i := range w.es {
		rooted = rooted || w.es[i].root && w.es[i].alive
	}
	type top struct {
		i      int32
		height int
		cause  string
	}
	var tops []top
	for i := range w.es {
		if e := &w.es[i]; !e.attached && !e.root && e.row != nil {
			w.unring(int32(i))
		}
	}
	for i := range w.es {
		c := int32(i)
		e := &w.es[i]
		if e.root || e.row == nil {
			continue
		}
		cause := ""
		if e.parent < 0 {
			cause = "it hung on nothing: "
		} else {
			p := &w.es[e.parent]
			switch {
			case p.root && !p.alive && !rooted:
				if w.refresh {
					w.say(e.host, "the only root "+p.host+" is down; it keeps its place")
				}
				continue
			case !p.alive:
				cause = p.host + " is down: "
			case goes(p.state) && (!e.alive || !goes(e.state)):
				cause = p.host + " leaves: "
			case p.drains && (!p.root || w.otherRoot(e.parent)):
				cause = p.host + " drains: "
			default:
				continue
			}
			w.detach(c)
		}
		if e.alive {
			tops = append(tops, top{i: c, cause: cause})
		} else {
			w.homeless = append(w.homeless, c)
		}
	}
	for i := range tops {
		tops[i].height = w.cutOff(tops[i].i)
	}
	for _, c := range w.homeless {
		w.cutOff(c)
	}
	slices.SortStableFunc(tops, func(a, b top) int { return b.height - a.height })
	for _, t := range tops {
		if !w.place(t.i, ask{cause: t.cause, over: true}) {
			w.back(t.i)
			w.say(w.es[t.i].host, t.cause+"nobody else can be its parent; it keeps its place")
		}
	}
	w.bury()
}

// unring opens a circle that i hangs on or is part of, if there is one. Rows from
// this package have none; others' might.
func (w *work) unring(i int32) {
	seen := map[int32]bool{}
	for i >= 0 && !seen[i] {
		seen[i] = true
		if w.es[i].attached {
			return
		}
		if w.es[i].parent < 0 {
			return
		}
		i = w.es[i].parent
	}
	w.detach(i)
	delete(w.wasUnder, i)
}
