package tree

// pool holds who could take a child, by depth and by place, so that each of many
// placements costs a logarithm. Entries are not taken out when they become wrong but
// skipped when met: an item is good only while the member's count of children is
// the one it was put in with.
type pool struct {
	w      *work
	class  int8
	levels []level
	low    int // no level below this depth has a good item
	high   int // no level above this depth has a free place
	over   ranks
	// overBuilt: over is kept up to date. It is needed rarely.
	overBuilt bool
}

// level is one depth; its heaps are made when it is first asked.
type level struct {
	todo  []int32
	built bool
	all   ranks
	zone  map[string]*ranks
	rack  map[string]*ranks
}

type item struct {
	key uint64
	idx int32 // entries are in the order of their names
}

func (a item) less(b item) bool { return a.key < b.key || a.key == b.key && a.idx < b.idx }

// ranks is a binary heap, least first.
type ranks []item

func (h *ranks) push(it item) {
	s := append(*h, it)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !s[i].less(s[up]) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
	*h = s
}

func (h *ranks) pop() {
	s := *h
	last := len(s) - 1
	s[0] = s[last]
	s = s[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(s) {
			break
		}
		if c+1 < len(s) && s[c+1].less(s[c]) {
			c++
		}
		if !s[c].less(s[i]) {
			break
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
	*h = s
}

// add puts a member in, or in again after its children or depth have changed.
func (p *pool) add(i int32) {
	e := &p.w.es[i]
	if p.overBuilt {
		p.over.push(item{overKey(e), i})
	}
	if e.live() >= p.w.degree {
		return
	}
	for len(p.levels) <= e.depth {
		p.levels = append(p.levels, level{})
	}
	l := &p.levels[e.depth]
	if l.built {
		l.push(i, e)
	} else {
		l.todo = append(l.todo, i)
	}
	p.low = min(p.low, e.depth)
	p.high = max(p.high, e.depth)
}

func (l *level) push(i int32, e *entry) {
	it := item{uint64(e.count()), i}
	l.all.push(it)
	if e.zone != "" {
		into(l.zone, e.zone).push(it)
	}
	if e.rack != "" {
		into(l.rack, e.rack).push(it)
	}
}

func into(m map[string]*ranks, key string) *ranks {
	h := m[key]
	if h == nil {
		h = new(ranks)
		m[key] = h
	}
	return h
}

func (p *pool) build(l *level) {
	if l.built {
		return
	}
	l.built = true
	l.zone, l.rack = map[string]*ranks{}, map[string]*ranks{}
	for _, i := range l.todo {
		l.push(i, &p.w.es[i])
	}
	l.todo = nil
}

// top returns the first good item of a heap at the given depth, or -1.
func (p *pool) top(h *ranks, depth int) int32 {
	if h == nil {
		return -1
	}
	for len(*h) > 0 {
		it := (*h)[0]
		e := &p.w.es[it.idx]
		if e.attached && e.accept && e.class == p.class && e.depth == depth &&
			uint64(e.count()) == it.key && e.live() < p.w.degree {
			return it.idx
		}
		h.pop()
	}
	return -1
}

// best is the place for c: the shallowest depth with room; there, c's rack before its
// zone before any; then who has fewest children; then by name. -1: there is none.
func (p *pool) best(c *entry) (int32, string) {
	for ; p.low < len(p.levels); p.low++ {
		l := &p.levels[p.low]
		p.build(l)
		if c.rack != "" {
			if i := p.top(l.rack[c.rack], p.low); i >= 0 {
				return i, "shallowest place, same rack"
			}
		}
		if c.zone != "" {
			if i := p.top(l.zone[c.zone], p.low); i >= 0 {
				return i, "shallowest place, same availability zone"
			}
		}
		if i := p.top(&l.all, p.low); i >= 0 {
			return i, "shallowest place"
		}
	}
	return -1, ""
}

// deepest is the place for somebody dead: a free one that the living want least.
func (p *pool) deepest() int32 {
	p.high = min(p.high, len(p.levels)-1)
	for ; p.high >= 0; p.high-- {
		l := &p.levels[p.high]
		p.build(l)
		if i := p.top(&l.all, p.high); i >= 0 && p.w.es[i].count() < p.w.degree {
			return i
		}
	}
	return -1
}

// least is who has fewest children, however many; then the shallowest. -1: nobody.
func (p *pool) least() int32 {
	if !p.overBuilt {
		p.overBuilt = true
		for i := range p.w.es {
			if e := &p.w.es[i]; e.attached && e.accept && e.class == p.class {
				p.over.push(item{overKey(e), int32(i)})
			}
		}
	}
	for len(p.over) > 0 {
		it := p.over[0]
		e := &p.w.es[it.idx]
		if e.attached && e.accept && e.class == p.class && overKey(e) == it.key {
			return it.idx
		}
		p.over.pop()
	}
	return -1
}

func overKey(e *entry) uint64 { return uint64(e.count())<<32 | uint64(uint32(e.depth)) }
