package tree

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Check tells in words what is wrong with one image's rows, sorted; nothing for a
// sound tree. It looks at rows alone, so it can't tell the dead from the living.
func Check(members []model.Member, degree int) []string {
	c := &checker{at: map[string]*model.Member{}, kids: map[string][]*model.Member{}, degree: degree}
	if degree < 1 {
		c.say("degree %d is below 1", degree)
	}
	for i := range members {
		m := &members[i]
		if c.at[m.Host] != nil {
			c.say("%s is a member twice", m.Host)
			continue
		}
		if m.ImageID != members[0].ImageID {
			c.say("%s is a member of another image", m.Host)
		}
		c.at[m.Host] = m
		c.kids[deref(m.Parent)] = append(c.kids[deref(m.Parent)], m)
	}
	roots := 0
	for _, m := range c.at {
		if m.Role == model.RoleRoot {
			roots++
		}
		c.parent(m)
		c.children(m)
		c.fallback(m)
	}
	if roots == 0 && len(members) > 0 {
		c.say("the tree has no root")
	}
	c.circles()
	slices.Sort(c.found)
	return c.found
}

type checker struct {
	at     map[string]*model.Member
	kids   map[string][]*model.Member // by parent
	degree int
	found  []string
}

func (c *checker) say(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

func (c *checker) parent(m *model.Member) {
	p := deref(m.Parent)
	switch {
	case m.Role != model.RoleRoot && m.Role != model.RoleRelay:
		c.say("%s has the unknown role %q", m.Host, m.Role)
	case m.Role == model.RoleRoot && p != "":
		c.say("%s is a root but has the parent %s", m.Host, p)
	case m.Role == model.RoleRoot && m.Depth != 0:
		c.say("%s is a root but has depth %d", m.Host, m.Depth)
	case m.Role == model.RoleRelay && p == "":
		c.say("%s has no parent", m.Host)
	case p == m.Host:
		c.say("%s is its own parent", m.Host)
	case p != "" && c.at[p] == nil:
		c.say("%s has the parent %s, which is not a member", m.Host, p)
	case p != "" && m.Depth != c.at[p].Depth+1:
		c.say("%s has depth %d, but its parent %s has %d", m.Host, m.Depth, p, c.at[p].Depth)
	case p != "" && c.at[p].State == model.MemberLeaving:
		c.say("%s has the parent %s, which is leaving", m.Host, p)
	}
}

func (c *checker) children(m *model.Member) {
	kids := c.kids[m.Host]
	if m.Children != len(kids) {
		c.say("%s is said to have %d children, but has %d", m.Host, m.Children, len(kids))
	}
	staying := 0
	for _, k := range kids {
		if !goes(k.State) && !overDegree(k.Reason) {
			staying++
		}
	}
	if staying > c.degree {
		c.say("%s has %d children, more than the degree %d", m.Host, staying, c.degree)
	}
}

func (c *checker) fallback(m *model.Member) {
	f := deref(m.Fallback)
	if f == "" || m.State == model.MemberLeaving {
		return
	}
	switch o := c.at[f]; {
	case o == nil:
		c.say("%s has the fallback %s, which is not a member", m.Host, f)
	case f == m.Host:
		c.say("%s is its own fallback", m.Host)
	case f == deref(m.Parent):
		c.say("%s has its parent %s as fallback", m.Host, f)
	case goes(o.State):
		c.say("%s has the fallback %s, which is %s", m.Host, f, o.State)
	case o.Depth > m.Depth || o.Depth == m.Depth && o.Host > m.Host:
		c.say("%s has the fallback %s, which is deeper: a circle could close", m.Host, f)
	}
}

// circles finds everybody who does not reach a root.
func (c *checker) circles() {
	reached := map[string]bool{}
	var queue []*model.Member
	for _, m := range c.at {
		if m.Role == model.RoleRoot && m.Parent == nil {
			queue = append(queue, m)
			reached[m.Host] = true
		}
	}
	for len(queue) > 0 {
		m := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, k := range c.kids[m.Host] {
			if !reached[k.Host] {
				reached[k.Host] = true
				queue = append(queue, k)
			}
		}
	}
	for _, m := range c.at {
		if !reached[m.Host] {
			c.say("%s does not reach a root: %s", m.Host, c.way(m))
		}
	}
}

func (c *checker) way(m *model.Member) string {
	way := []string{m.Host}
	for p := deref(m.Parent); p != "" && len(way) < 8; {
		seen := slices.Contains(way, p)
		way = append(way, p)
		if seen || c.at[p] == nil {
			break
		}
		p = deref(c.at[p].Parent)
	}
	return strings.Join(way, " → ")
}
