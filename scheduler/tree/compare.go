package tree

import "slices"

func (w *work) say(host, reason string) { w.reasons[host] = reason }

func (w *work) refuse(host, reason string) {
	w.say(host, reason)
	w.refused = append(w.refused, host)
}

// plan compares the tree with what it was.
func (w *work) plan() Plan {
	w.bury()
	w.setFallbacks()
	p := Plan{Reasons: w.reasons, Refused: w.refused}
	for i := range w.es {
		e := &w.es[i]
		if e.row == nil && e.parent < 0 {
			continue // it could not be placed
		}
		now := Place{Parent: e.outside, Fallback: e.fallback, Depth: e.depth, State: e.state, Reason: e.reason}
		if e.parent >= 0 {
			now.Parent = w.es[e.parent].host
		}
		if now == e.was {
			continue
		}
		p.Changes = append(p.Changes, Change{
			Host: e.host, New: e.row == nil, Before: e.was, After: now, NewParent: now.Parent != e.was.Parent,
		})
		if _, said := w.reasons[e.host]; !said {
			w.reasons[e.host] = now.Reason
		}
	}
	slices.SortStableFunc(p.Changes, func(a, b Change) int {
		if ga, gb := goes(a.After.State), goes(b.After.State); ga != gb {
			if ga {
				return 1
			}
			return -1
		}
		return a.After.Depth - b.After.Depth
	})
	return p
}
