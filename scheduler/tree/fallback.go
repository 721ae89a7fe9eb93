package tree

import (
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// Fallbacks proposes a fallback for every member whose own is missing or no longer
// good: gone, dead, leaving, its parent, or in a place where children that switch on
// their own could close a circle.
func Fallbacks(o Observed) Plan {
	w := newWork(o, nil, nil, false)
	w.refresh = true
	return w.plan()
}

// uncles are those who may be named as fallbacks, by depth.
type uncles struct {
	any, free [][]int32 // by name; free ones have room for a child
	freeAt    []int     // depths with free ones
	next      []int     // where to go on, so that the load is spread
	nextFree  []int
}

func (w *work) uncles() *uncles {
	u := &uncles{}
	for i := range w.es {
		e := &w.es[i]
		if !e.attached || !e.accept || e.class != sound {
			continue
		}
		for len(u.any) <= e.depth {
			u.any, u.free = append(u.any, nil), append(u.free, nil)
			u.next, u.nextFree = append(u.next, 0), append(u.nextFree, 0)
		}
		u.any[e.depth] = append(u.any[e.depth], int32(i))
		if e.live() < w.degree {
			u.free[e.depth] = append(u.free[e.depth], int32(i))
		}
	}
	for d, f := range u.free {
		if len(f) > 0 {
			u.freeAt = append(u.freeAt, d)
		}
	}
	return u
}

// setFallbacks gives a fallback to who has moved, to whom a move could close a circle and, in a
// refresh, to all who need one.
func (w *work) setFallbacks() {
	var u *uncles
	for i := range w.es {
		e := &w.es[i]
		moved := e.parent >= 0 && w.es[e.parent].host != e.was.Parent
		if e.root || e.parent < 0 || !moved && !w.refresh && !w.tooDeep(int32(i)) || w.goodFallback(int32(i)) {
			continue
		}
		if u == nil {
			u = w.uncles()
		}
		e.fallback = ""
		if f := w.uncleOf(int32(i), u); f >= 0 {
			e.fallback = w.es[f].host
		}
	}
}

// goodFallback tells whether i's fallback may stay. One that has lost its path may:
// it will be back, and changing it twice costs four documents.
func (w *work) goodFallback(i int32) bool {
	e := &w.es[i]
	f, ok := w.at[e.fallback]
	if !ok {
		return false
	}
	fe := &w.es[f]
	if !fe.alive || fe.drains || !fe.attached || goes(fe.state) || fe.state == model.MemberImporting || f == e.parent {
		return false
	}
	if fe.depth != e.depth {
		return fe.depth < e.depth
	}
	// Who reads from the same root is better than nobody, but not than another root.
	return f < i && (fe.parent != e.parent || e.depth == 1 && !w.otherRoot(e.parent))
}

// tooDeep tells whether i's fallback is no longer above it: either may hang below somebody who
// has moved.
func (w *work) tooDeep(i int32) bool {
	e := &w.es[i]
	f, ok := w.at[e.fallback]
	return ok && w.es[f].attached && (w.es[f].depth > e.depth || w.es[f].depth == e.depth && f > i)
}

// uncleOf chooses a fallback for i, or -1: nobody but shallower members, or as deep
// ones with a smaller name, so that no set of switches closes a circle. A shallower
// member never hangs below i's parent, so it outlives it.
func (w *work) uncleOf(i int32, u *uncles) int32 {
	e := &w.es[i]
	for _, d := range u.freeAt {
		if d >= e.depth {
			break
		}
		if f := turn(u.free[d], &u.nextFree[d], e.parent); f >= 0 {
			return f
		}
	}
	if e.depth < len(u.free) {
		if f := w.cousin(i, u.free[e.depth]); f >= 0 {
			return f
		}
	}
	for d := min(e.depth, len(u.any)) - 1; d >= 0; d-- {
		if f := turn(u.any[d], &u.next[d], e.parent); f >= 0 {
			return f
		}
	}
	if e.depth == 1 && len(u.any) > 1 { // the only root's child: at least another path to it
		if at, _ := slices.BinarySearch(u.any[1], i); at > 0 {
			return u.any[1][at-1]
		}
	}
	return -1
}

// cousin is the next smaller one with another parent.
func (w *work) cousin(i int32, level []int32) int32 {
	const probes = 64
	at, _ := slices.BinarySearch(level, i)
	for k := at - 1; k >= 0 && k >= at-probes; k-- {
		if w.es[level[k]].parent != w.es[i].parent {
			return level[k]
		}
	}
	return -1
}

// turn goes round a list, leaving one out.
func turn(list []int32, next *int, but int32) int32 {
	for range min(2, len(list)) {
		f := list[*next%len(list)]
		*next = (*next + 1) % len(list)
		if f != but {
			return f
		}
	}
	return -1
}
