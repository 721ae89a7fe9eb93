package tree

import (
	"errors"
	"math"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// ErrNoParent is returned when no member at all could take a child. After a call with
// a frontier only, the whole tree may still have one.
var ErrNoParent = errors.New("no member of the tree can take a child")

// ErrDegree is returned for a degree below 1.
var ErrDegree = errors.New("degree of a tree must be at least 1")

// OverDegree begins the Reason of a member that is one child too many for its parent.
const OverDegree = "over degree: "

// Observed is one image's tree as the database has it.
type Observed struct {
	Degree  int            // most children per member, ≥ 1
	Members []model.Member // of one image
	// Nodes of the members by host. A host that is missing counts as dead.
	Nodes map[string]model.Node
}

// Host that wants to join.
type Host struct {
	Name             string
	Rack             string // "" unknown
	AvailabilityZone string // "" unknown
}

// Place is a member's place in the tree and why it has it.
type Place struct {
	Parent   string // "" for a root
	Fallback string // "" if there is none
	Depth    int    // 0 for a root
	State    model.MemberState
	Reason   string
}

// Change of one member's row. Children counts follow from the parents.
type Change struct {
	Host          string
	New           bool // there was no row; After is that of a relay
	Before, After Place
	// NewParent: the member logs in somewhere else, so it needs a new CHAP secret.
	NewParent bool
}

// Plan is what to write, parents before their children, then who drains or leaves.
type Plan struct {
	Changes []Change
	// Reasons say for every host that was asked for or touched why it is as it is,
	// changed or not.
	Reasons map[string]string
	// Refused lists hosts for which what was asked for could not be done; see Reasons.
	Refused []string
}

// Empty tells that there is nothing to write.
func (p Plan) Empty() bool { return len(p.Changes) == 0 }

// Hosts lists everyone whose desired state differs after the plan: the members that
// change, their old and new parents and fallbacks.
func (p Plan) Hosts() []string {
	var out []string
	seen := map[string]bool{"": true}
	add := func(h string) {
		if !seen[h] {
			seen[h] = true
			out = append(out, h)
		}
	}
	for _, c := range p.Changes {
		add(c.Host)
		for _, b := range []Place{c.Before, c.After} {
			add(b.Parent)
			add(b.Fallback)
		}
	}
	return out
}

// Apply returns the members as they are after the plan, Children counts included;
// the input is left alone. Applying twice is the same as once. The secret of a member
// with a new parent is the caller's to set.
func Apply(members []model.Member, p Plan) []model.Member {
	out := make([]model.Member, len(members), len(members)+len(p.Changes))
	copy(out, members)
	at := make(map[string]int, cap(out))
	for i := range out {
		at[out[i].Host] = i
	}
	for _, c := range p.Changes {
		if _, ok := at[c.Host]; !ok && c.New {
			m := model.Member{Host: c.Host, Role: model.RoleRelay}
			if len(members) > 0 {
				m.ImageID = members[0].ImageID
			}
			at[c.Host] = len(out)
			out = append(out, m)
		}
	}
	count := func(host string, by int) {
		if i, ok := at[host]; ok {
			out[i].Children += by
		}
	}
	for _, c := range p.Changes {
		i, ok := at[c.Host]
		if !ok {
			continue
		}
		m := &out[i]
		if old := deref(m.Parent); old != c.After.Parent {
			count(old, -1)
			count(c.After.Parent, +1)
		}
		m.Parent, m.Fallback = ref(c.After.Parent), ref(c.After.Fallback)
		m.Depth, m.State, m.Reason = c.After.Depth, c.After.State, c.After.Reason
	}
	return out
}

// DepthBound is the depth that a tree of n members never exceeds by joining, and
// not after a Rebalance: ceil(log_degree(n+1)) + 1, or n for a chain.
func DepthBound(n, degree int) int {
	if degree <= 1 {
		return n
	}
	d, reach := 0, 1 // reach = degree^d
	for reach < n+1 {
		if reach > math.MaxInt/degree {
			return d + 2
		}
		reach *= degree
		d++
	}
	return d + 1
}

func placeOf(m *model.Member) Place {
	return Place{
		Parent: deref(m.Parent), Fallback: deref(m.Fallback),
		Depth: m.Depth, State: m.State, Reason: m.Reason,
	}
}

func overDegree(reason string) bool { return strings.HasPrefix(reason, OverDegree) }

// goes tells that a member is on its way out.
func goes(s model.MemberState) bool {
	return s == model.MemberDraining || s == model.MemberLeaving
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
