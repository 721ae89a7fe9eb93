package scheduler

import (
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestNextRoot(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	origin := func(host string, edit ...func(*model.Node)) model.Node {
		n := model.Node{Host: host, Origin: true, Alive: true, Enabled: true, ImageFree: 1 << 40, LastSeen: ago(0)}
		for _, e := range edit {
			e(&n)
		}
		return n
	}
	dead := func(gone time.Duration) func(*model.Node) {
		return func(n *model.Node) { n.Alive, n.LastSeen = false, ago(gone) }
	}
	root := func(host string, s model.MemberState) model.Member {
		return model.Member{Host: host, Role: model.RoleRoot, State: s}
	}
	active := model.MemberActive
	a, b, c := origin("a"), origin("b"), origin("c")
	for _, x := range []struct {
		name    string
		members []model.Member
		nodes   []model.Node
		wanted  int
		want    string
	}{
		{"a second", []model.Member{root("a", active)}, []model.Node{a, b}, 2, "b"},
		{"with the most room", []model.Member{root("a", active)}, []model.Node{a, b, origin("c", func(n *model.Node) { n.ImageFree++ })}, 2, "c"},
		{"there are two", []model.Member{root("a", active), root("b", active)}, []model.Node{a, b, c}, 2, ""},
		{"a third", []model.Member{root("a", active), root("b", active)}, []model.Node{a, b, c}, 3, "c"},
		{"one is wanted", []model.Member{root("a", active)}, []model.Node{a, b}, 1, ""},
		{"no other origin", []model.Member{root("a", active)}, []model.Node{a, {Host: "b", Alive: true, Enabled: true}}, 2, ""},
		{"one imports", []model.Member{root("a", active), root("b", model.MemberImporting)}, []model.Node{a, b, c}, 3, ""},
		{"one leaves", []model.Member{root("a", active), root("b", model.MemberLeaving)}, []model.Node{a, b, c}, 2, "c"},
		{"the other is a relay", []model.Member{root("a", active), {Host: "b", Role: model.RoleRelay, State: active}}, []model.Node{a, b}, 2, ""},
		{"the other has no room", []model.Member{root("a", active)}, []model.Node{a, origin("b", func(n *model.Node) { n.ImageFree = 1 })}, 2, ""},
		{"the other is disabled", []model.Member{root("a", active)}, []model.Node{a, origin("b", func(n *model.Node) { n.Enabled = false })}, 2, ""},
		{"dead for a while", []model.Member{root("a", active), root("b", active)}, []model.Node{a, origin("b", dead(time.Minute)), c}, 2, ""},
		{"dead for long", []model.Member{root("a", active), root("b", active)}, []model.Node{a, origin("b", dead(time.Hour)), c}, 2, "c"},
		{"the importer is dead for long", []model.Member{root("a", active), root("b", model.MemberImporting)}, []model.Node{a, origin("b", dead(time.Hour)), c}, 2, "c"},
		{"the only one is dead for long", []model.Member{root("a", active)}, []model.Node{origin("a", dead(time.Hour)), c}, 1, "c"},
		{"never seen", []model.Member{root("a", active), root("b", active)}, []model.Node{a, {Host: "b", Origin: true}, c}, 2, "c"},
	} {
		n, ok := nextRoot(model.Image{SizeBytes: 1 << 30}, x.members, nodeMap(x.nodes), x.wanted, now.Add(-10*time.Minute))
		if ok != (x.want != "") || n.Host != x.want {
			t.Errorf("%s: %q, %v; want %q", x.name, n.Host, ok, x.want)
		}
	}
}
