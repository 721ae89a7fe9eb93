package tree

import (
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Classes of places. Second-class ones hang below a cut: a member that has lost its
// path, a dead root. They are taken when there is no other.
const (
	sound int8 = iota
	unsound
	classes
)

// entry is one member while a plan is made.
type entry struct {
	host       string
	row        *model.Member // nil for a new one
	was        Place
	fallback   string
	state      model.MemberState
	reason     string
	root       bool
	alive      bool
	back       bool // was dead until now
	drains     bool // its node is to be taken out of service
	accept     bool // may take children
	attached   bool // hangs on a root, in the tree as it is now
	class      int8
	zone, rack string // rack with its zone
	parent     int32  // -1: a root, detached, or not in view
	outside    string // name of a parent that is not in view
	slot       int32  // position in the parent's kids
	depth      int
	kids       []int32
	unseen     int // children that are not in view
	deadLeaves int // children whose place the living may take
}

func (e *entry) count() int { return len(e.kids) + e.unseen }
func (e *entry) live() int  { return e.count() - e.deadLeaves }
func (e *entry) deadLeaf() bool {
	return !e.alive && !e.root && e.count() == 0
}

// work is a tree that a plan is being made on.
type work struct {
	degree   int
	es       []entry // by host name
	roots    []int32
	at       map[string]int32
	pools    [classes]pool
	filled   bool
	homeless []int32 // dead, to be put somewhere at the end
	wasUnder map[int32]int32
	reasons  map[string]string
	refused  []string
	refresh  bool // all fallbacks are looked at, not only those of who has moved
}

// newWork indexes a tree. hosts are to join, dead ones count as dead whatever their
// nodes say. In a partial view the rows' own counts of children are believed.
func newWork(o Observed, hosts []Host, dead []string, partial bool) *work {
	w := &work{
		degree: max(o.Degree, 1), at: make(map[string]int32, len(o.Members)+len(hosts)),
		es: make([]entry, 0, len(o.Members)+len(hosts)), reasons: map[string]string{}, wasUnder: map[int32]int32{},
	}
	for c := range w.pools {
		w.pools[c] = pool{w: w, class: int8(c)}
	}
	for i := range o.Members {
		m := &o.Members[i]
		n, known := o.Nodes[m.Host]
		e := entry{
			host: m.Host, row: m, was: placeOf(m), state: m.State, reason: m.Reason, fallback: deref(m.Fallback),
			root: m.Role == model.RoleRoot, alive: known && n.Alive, drains: n.Draining, depth: m.Depth, parent: -1,
		}
		e.zone, e.rack = near(n.AvailabilityZone, n.Rack)
		w.es = append(w.es, e)
	}
	for _, h := range hosts {
		e := entry{host: h.Name, alive: true, state: model.MemberJoining, parent: -1}
		e.zone, e.rack = near(h.AvailabilityZone, h.Rack)
		w.es = append(w.es, e)
	}
	// Rows before hosts of the same name, which are then dropped.
	slices.SortStableFunc(w.es, func(a, b entry) int { return strings.Compare(a.host, b.host) })
	w.es = slices.CompactFunc(w.es, func(a, b entry) bool { return a.host == b.host })
	for i := range w.es {
		w.at[w.es[i].host] = int32(i)
	}
	for _, h := range dead {
		if i, ok := w.at[h]; ok {
			w.es[i].alive = false
		}
	}
	w.link(partial)
	w.survey(partial)
	return w
}

func near(zone, rack string) (string, string) {
	if rack != "" {
		rack = zone + "\x00" + rack
	}
	return zone, rack
}

func (w *work) link(partial bool) {
	for i := range w.es {
		e := &w.es[i]
		if e.root || e.was.Parent == "" {
			continue
		}
		if p, ok := w.at[e.was.Parent]; ok && p != int32(i) && w.es[p].row != nil {
			e.parent, e.slot = p, int32(len(w.es[p].kids))
			w.es[p].kids = append(w.es[p].kids, int32(i))
		} else {
			e.outside = e.was.Parent
		}
	}
	for i := range w.es {
		e := &w.es[i]
		if partial && e.row != nil {
			e.unseen = max(0, e.row.Children-len(e.kids))
		}
	}
	for i := range w.es {
		e := &w.es[i]
		e.accept = e.alive && !e.drains && (e.state == model.MemberJoining || e.state == model.MemberActive)
		if e.root {
			w.roots = append(w.roots, int32(i))
		}
		if e.parent >= 0 && e.deadLeaf() {
			w.es[e.parent].deadLeaves++
		}
	}
}

// survey finds who hangs on a root and through whom. Part of a tree is believed to.
func (w *work) survey(partial bool) {
	for i := range w.es {
		if e := &w.es[i]; e.root {
			w.spread(int32(i), 0, soundIf(e.alive))
		}
	}
	if !partial {
		return
	}
	for i := range w.es {
		if e := &w.es[i]; e.row != nil && !e.attached && e.outside != "" {
			w.spread(int32(i), e.depth, soundIf(e.alive && e.state != model.MemberPathLost))
		}
	}
}

func soundIf(b bool) int8 {
	if b {
		return sound
	}
	return unsound
}

// below is the class of c under a parent of the given class.
func below(class int8, c *entry) int8 {
	return max(class, soundIf(c.alive && c.state != model.MemberPathLost))
}

// spread attaches a subtree: depths, classes, and into the pools.
func (w *work) spread(top int32, depth int, class int8) {
	type visit struct {
		i     int32
		depth int
		class int8
	}
	stack := []visit{{top, depth, class}}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		e := &w.es[v.i]
		e.attached, e.depth, e.class = true, v.depth, v.class
		w.touch(v.i)
		for _, k := range e.kids {
			stack = append(stack, visit{k, v.depth + 1, below(v.class, &w.es[k])})
		}
	}
}

// cutOff takes a subtree out of the pools; it returns its height.
func (w *work) cutOff(top int32) int {
	height := 0
	type visit struct {
		i int32
		h int
	}
	stack := []visit{{top, 0}}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		height = max(height, v.h)
		w.es[v.i].attached = false
		for _, k := range w.es[v.i].kids {
			stack = append(stack, visit{k, v.h + 1})
		}
	}
	return height
}

func (w *work) touch(i int32) {
	if e := &w.es[i]; w.filled && e.attached && e.accept {
		w.pools[e.class].add(i)
	}
}

func (w *work) fill() {
	if w.filled {
		return
	}
	w.filled = true
	for i := range w.es {
		w.touch(int32(i))
	}
}

// attach only links; spread does the rest.
func (w *work) attach(c, p int32) {
	e, pe := &w.es[c], &w.es[p]
	if pe.deadLeaf() && pe.parent >= 0 {
		w.es[pe.parent].deadLeaves--
		w.touch(pe.parent)
	}
	e.parent, e.slot, e.outside = p, int32(len(pe.kids)), ""
	pe.kids = append(pe.kids, c)
	if e.deadLeaf() {
		pe.deadLeaves++
	}
	w.touch(p)
}

func (w *work) detach(c int32) {
	e := &w.es[c]
	p := e.parent
	e.outside = ""
	if p < 0 {
		return
	}
	pe := &w.es[p]
	last := pe.kids[len(pe.kids)-1]
	pe.kids[e.slot] = last
	w.es[last].slot = e.slot
	pe.kids = pe.kids[:len(pe.kids)-1]
	if e.deadLeaf() {
		pe.deadLeaves--
	}
	e.parent = -1
	if _, ok := w.wasUnder[c]; !ok {
		w.wasUnder[c] = p
	}
	if pe.deadLeaf() && pe.parent >= 0 {
		w.es[pe.parent].deadLeaves++
		w.touch(pe.parent)
	}
	w.touch(p)
}

// settle puts a detached subtree below p. If p is full, somebody dead makes room.
func (w *work) settle(c, p int32, reason string) {
	w.attach(c, p)
	e, pe := &w.es[c], &w.es[p]
	e.reason = reason
	if pe.attached {
		w.spread(c, pe.depth+1, below(pe.class, e))
	}
	for e.alive && pe.count() > w.degree && pe.deadLeaves > 0 {
		out := int32(-1)
		for _, k := range pe.kids {
			if w.es[k].deadLeaf() && (out < 0 || k < out) {
				out = k
			}
		}
		w.detach(out)
		w.es[out].attached = false
		w.homeless = append(w.homeless, out)
	}
	if !e.alive && !e.deadLeaf() {
		w.mark(p)
	}
}

// mark says of the dead below p that they are too many. They stay: with nobody alive to
// take them there is nowhere to move them to.
func (w *work) mark(p int32) {
	pe := &w.es[p]
	kids := slices.Sorted(slices.Values(pe.kids))
	staying := pe.unseen
	for _, k := range kids {
		if e := &w.es[k]; !goes(e.state) && !overDegree(e.reason) {
			staying++
		}
	}
	for _, k := range kids {
		if e := &w.es[k]; staying > w.degree && e.deadLeaf() && !goes(e.state) && !overDegree(e.reason) {
			e.reason = OverDegree + e.reason
			staying--
		}
	}
}

// how much a placement may ask for.
type ask struct {
	cause     string // said before the reason
	soundOnly bool   // nothing below a cut
	over      bool   // above the degree, if nothing else is possible
}

// place finds a place for a detached subtree and settles it there: the fallback
// that it knows if that is good, else the best. It tells whether there was one.
func (w *work) place(c int32, a ask) bool {
	w.fill()
	e := &w.es[c]
	if f, ok := w.at[e.fallback]; ok && e.row != nil {
		if fe := &w.es[f]; fe.attached && fe.accept && fe.class == sound && fe.live() < w.degree {
			w.settle(c, f, a.cause+"the fallback known in advance")
			return true
		}
	}
	last := classes
	if a.soundOnly {
		last = unsound
	}
	for class := sound; class < last; class++ {
		if p, why := w.pools[class].best(e); p >= 0 {
			w.settle(c, p, a.cause+why)
			return true
		}
	}
	for class := sound; a.over && class < last; class++ {
		if p := w.pools[class].least(); p >= 0 {
			w.settle(c, p, OverDegree+a.cause+"nobody else has room")
			return true
		}
	}
	return false
}

// back puts a detached subtree where it was.
func (w *work) back(c int32) {
	p, ok := w.wasUnder[c]
	if !ok {
		w.es[c].outside = w.es[c].was.Parent
		return
	}
	reason := w.es[c].reason
	w.attach(c, p)
	w.es[c].reason = reason
	if pe := &w.es[p]; pe.attached {
		w.spread(c, pe.depth+1, below(pe.class, &w.es[c]))
	}
}

// bury finds places for the dead that made room, where they are least in the way.
func (w *work) bury() {
	if len(w.homeless) == 0 {
		return
	}
	w.fill()
	for _, c := range w.homeless {
		p := int32(-1)
		for class := sound; p < 0 && class < classes; class++ {
			p = w.pools[class].deepest()
		}
		if p >= 0 {
			w.settle(c, p, "down: kept as a leaf")
			continue
		}
		for class := sound; p < 0 && class < classes; class++ {
			p = w.pools[class].least()
		}
		if p >= 0 {
			w.settle(c, p, OverDegree+"down: kept as a leaf, nobody has room")
			continue
		}
		w.back(c)
	}
	w.homeless = nil
}
