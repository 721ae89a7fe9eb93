package tree

import (
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Rebalance puts right what plans in a failure had to leave: members below somebody
// dead or draining, too many children, a tree deeper than [DepthBound], fallbacks that
// are not good. A tree that is right is left alone. Needs the whole tree.
func Rebalance(o Observed) Plan {
	w := newWork(o, nil, nil, false)
	w.refresh = true
	w.repair()
	for i := range w.es {
		w.relieve(int32(i))
	}
	w.bury()
	w.raise()
	w.fits()
	return w.plan()
}

// fits takes the mark from those who are not one too many any more.
func (w *work) fits() {
	for i := range w.es {
		e := &w.es[i]
		if overDegree(e.reason) && e.parent >= 0 && w.es[e.parent].count() <= w.degree {
			e.reason = strings.TrimPrefix(e.reason, OverDegree)
		}
	}
}

// relieve moves children away from a member with too many: the dead first, then those
// that have just come back, whom nobody reads from, then those that are said to be too
// many, then small subtrees. Who is on its way out goes by itself.
func (w *work) relieve(p int32) {
	pe := &w.es[p]
	if pe.count() <= w.degree {
		return
	}
	kids := slices.Clone(pe.kids)
	slices.Sort(kids)
	size := func(k int32) (n int) {
		stack := []int32{k}
		for len(stack) > 0 {
			n++
			last := len(stack) - 1
			stack = append(stack[:last], w.es[stack[last]].kids...)
		}
		return n
	}
	type kid struct{ i, order int32 }
	var movable []kid
	staying := 0
	for _, k := range kids {
		e := &w.es[k]
		switch {
		case e.deadLeaf():
			movable = append(movable, kid{k, 0})
		case goes(e.state):
			continue
		case e.back && e.count() == 0:
			movable = append(movable, kid{k, 1})
		case overDegree(e.reason):
			movable = append(movable, kid{k, 2})
		default:
			movable = append(movable, kid{k, 2 + int32(size(k))})
		}
		staying++
	}
	slices.SortStableFunc(movable, func(a, b kid) int { return int(a.order - b.order) })
	for _, k := range movable {
		if staying <= w.degree {
			return
		}
		e := &w.es[k.i]
		if e.deadLeaf() {
			w.detach(k.i)
			e.attached = false
			w.homeless = append(w.homeless, k.i)
			staying--
			continue
		}
		if w.move(k.i, "one child too many: ", w.es[k.i].depth+len(w.es)) {
			staying--
		}
	}
}

// move takes a subtree to the best sound place above the given depth, or leaves it.
func (w *work) move(c int32, cause string, above int) bool {
	w.fill()
	e := &w.es[c]
	from := e.parent
	w.detach(c)
	w.cutOff(c)
	accepted := w.es[from].accept
	w.es[from].accept = false // not where it was
	p, why := w.pools[sound].best(e)
	w.es[from].accept = accepted
	w.touch(from)
	if p >= 0 && w.es[p].depth+1 < above {
		w.settle(c, p, cause+why)
		return true
	}
	w.attach(c, from)
	if fe := &w.es[from]; fe.attached {
		w.spread(c, fe.depth+1, below(fe.class, e))
	}
	return false
}

// raise moves what is deeper than the bound to the shallowest places. Every move
// makes its subtree shallower, so it ends.
func (w *work) raise() {
	n := 0
	for i := range w.es {
		if w.es[i].attached {
			n++
		}
	}
	bound := DepthBound(n, w.degree)
	for moved := true; moved; {
		moved = false
		var deep []int32
		for i := range w.es {
			e := &w.es[i]
			if e.attached && e.alive && !e.root && e.depth > bound && !goes(e.state) && e.state != model.MemberPathLost {
				deep = append(deep, int32(i))
			}
		}
		slices.SortStableFunc(deep, func(a, b int32) int { return w.es[a].depth - w.es[b].depth })
		for _, c := range deep {
			if e := &w.es[c]; e.depth > bound && w.move(c, "tree too deep: ", e.depth) {
				moved = true
			}
		}
	}
	w.bury()
}
