package tree

import (
	"fmt"

	"github.com/vmthunder/vmthunder/db/model"
)

// Join places hosts, as many as there are, in one plan. The view may be partial: a
// frontier (members that could take a child, shallowest first) and the rows that the
// hosts themselves have already; children that are not in it are known by the rows'
// counts. A frontier of one member gives no fallback; [Fallbacks] does later.
//
// Hosts that are members stay where they are; draining ones become active again, and
// move if their place is no longer good. Leaving ones are refused: they can join when
// they have left. Where all are full because others are leaving, a host is one too many
// for a while, and its Reason says so. ErrNoParent: nobody in view takes children.
func Join(o Observed, hosts []Host) (Plan, error) {
	if o.Degree < 1 {
		return Plan{}, fmt.Errorf("join: %w", ErrDegree)
	}
	w := newWork(o, hosts, nil, true)
	wanted := make(map[int32]bool, len(hosts))
	for _, h := range hosts {
		wanted[w.at[h.Name]] = true
	}
	var homeless int
	for i := range w.es { // by name: the order of the input does not matter
		c := int32(i)
		if !wanted[c] {
			continue
		}
		e := &w.es[i]
		switch {
		case e.row == nil:
			// Room is short only while others drain or have lost their path.
			if !w.place(c, ask{over: true}) {
				w.refuse(e.host, "no member can take a child")
				homeless++
			}
		case e.state == model.MemberLeaving:
			w.refuse(e.host, "is leaving; it can join when it has left")
		case e.state == model.MemberDraining:
			w.revive(c)
		default:
			w.say(e.host, "is a member already")
		}
	}
	if homeless > 0 {
		return w.plan(), fmt.Errorf("join: %d of %d hosts: %w", homeless, len(wanted), ErrNoParent)
	}
	return w.plan(), nil
}

// revive keeps a draining member after all.
func (w *work) revive(c int32) {
	e := &w.es[c]
	e.state = model.MemberActive
	e.accept = e.alive
	w.say(e.host, "wanted again")
	p := e.parent
	if p < 0 || w.es[p].accept && w.es[p].count() <= w.degree {
		if !e.root {
			e.reason = "wanted again, same place"
		}
		w.touch(c)
		return
	}
	w.detach(c)
	w.cutOff(c)
	if e.deadLeaf() { // takes no place that the living want
		e.attached = false
		w.homeless = append(w.homeless, c)
		w.bury()
		return
	}
	if !w.place(c, ask{cause: "wanted again: ", over: true}) {
		w.back(c)
		e.reason = "wanted again, nobody else can be its parent"
	}
}
