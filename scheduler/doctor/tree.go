package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// Tree tells what is wrong with an image and its tree. Nodes that are not in the list are dead; imports
// tells that the job is there that has it imported.
func Tree(i model.Image, members []model.Member, nodes map[string]model.Node, imports bool, o Options) []model.Finding {
	var out list
	about := func(s model.Severity, code, text, remedy string, r model.Repair) {
		out.add(model.Finding{Severity: s, Code: code, Kind: model.FindImage, ID: i.ID.String(), Text: text, Remedy: remedy, Repair: r})
	}
	switch i.Status {
	case model.ImageError:
		about(model.SeverityWarning, "import-failed", "could not be imported: "+deref(i.Error), "mend that, then make a volume of it or vmthunder image warm it, which tries again", "")
	case model.ImageQueued, model.ImageImporting:
		if !imports {
			about(model.SeverityError, "no-import", fmt.Sprintf("is %s, but nothing imports it", i.Status), "", model.RepairImport)
		}
	case model.ImageActive:
		roots(members, nodes, about)
	case model.ImageDeleting:
	}
	degree := o.Degree
	if i.Degree != nil {
		degree = *i.Degree
	}
	for _, words := range tree.Check(members, degree) {
		if i.Status != model.ImageActive && words == "the tree has no root" {
			continue // one that failed has let it go
		}
		if strings.Contains(words, " fallback ") { // a few seconds, until the trees are put in shape again
			about(model.SeverityWarning, "fallback", words, "it is put right within a minute; if it is not, see the control plane's log", model.RepairTree)
			continue
		}
		about(model.SeverityError, "tree", words, "", model.RepairTree)
	}
	for m := range slices.Values(members) {
		member(&m, members, nodes, o, &out)
	}
	return out
}

// roots of an image that is active: without one that lives nothing new can be read.
func roots(members []model.Member, nodes map[string]model.Node, about sayer) {
	var dead []string
	all := 0
	for _, m := range members {
		if m.Role != model.RoleRoot || m.State == model.MemberLeaving {
			continue
		}
		all++
		if !nodes[m.Host].Alive {
			dead = append(dead, m.Host)
		}
	}
	switch {
	case all == 0:
		about(model.SeverityError, "no-root", "no node holds it: what is not cached anywhere can't be read", "upload it again and make its volumes anew, or restore the node that held it", "")
	case len(dead) == all:
		about(model.SeverityError, "roots-down", "no node that holds it answers: reads of what is not cached wait", "start "+strings.Join(dead, " or "), "")
	}
}

// member looks at one member as the database has it; what its node sees is looked at by [Node].
func member(m *model.Member, all []model.Member, nodes map[string]model.Node, o Options, out *list) {
	about := model.Finding{Severity: model.SeverityWarning, Kind: model.FindImage, ID: m.ImageID.String(), Node: m.Host}
	node, age := nodes[m.Host], o.Now.Sub(m.UpdatedAt)
	parent := deref(m.Parent)
	if node.Alive && parent != "" && !nodes[parent].Alive && m.State != model.MemberLeaving && anotherLives(m, all, nodes) {
		about.Severity, about.Code, about.Repair = model.SeverityError, "parent-down", model.RepairTree
		about.Text, about.Remedy = fmt.Sprintf("its parent %s does not answer, and it has got no other", parent), "it gets one within a minute; if it does not, see the control plane's log"
		out.add(about)
	}
	if age < o.Stuck || !node.Alive {
		return
	}
	switch m.State {
	case model.MemberDraining, model.MemberLeaving:
		about.Code, about.Text = "member-stuck", fmt.Sprintf("has been %s for %s", m.State, Ago(age))
		about.Remedy, about.Repair = "its agent's log says what is in the way", model.RepairDocument
		out.add(about)
	case model.MemberJoining, model.MemberActive, model.MemberPathLost: // Node says how it is
	}
}

// anotherLives tells whether there is anybody that m could read from.
func anotherLives(m *model.Member, all []model.Member, nodes map[string]model.Node) bool {
	return slices.ContainsFunc(all, func(x model.Member) bool {
		return x.Role == model.RoleRoot && x.Host != m.Host && x.State != model.MemberLeaving && nodes[x.Host].Alive
	})
}
