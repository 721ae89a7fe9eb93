package scheduler

import (
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestUnplaceable(t *testing.T) {
	node := func(edit func(*model.Node)) model.Node {
		n := model.Node{Host: "h", Alive: true, Enabled: true, Compute: true, AvailabilityZone: "nova", PoolTotal: 10 << 30}
		edit(&n)
		return n
	}
	same := func(*model.Node) {}
	origin := node(func(n *model.Node) { n.Origin, n.Compute = true, false })
	for _, x := range []struct {
		name  string
		nodes []model.Node
		gib   int
		image bool
		want  string // "": it has room
	}{
		{"room", []model.Node{node(same)}, 10, false, ""},
		{"no node", nil, 1, false, "no node is alive"},
		{"dead", []model.Node{node(func(n *model.Node) { n.Alive = false })}, 1, false, "no node is alive"},
		{"disabled", []model.Node{node(func(n *model.Node) { n.Enabled = false })}, 1, false, "no node is alive"},
		{"an origin holds no volumes", []model.Node{origin}, 1, false, "no node is alive"},
		{"no origin", []model.Node{node(same)}, 1, true, "no origin node"},
		{"origin", []model.Node{node(same), origin}, 1, true, ""},
		{"another zone", []model.Node{node(func(n *model.Node) { n.AvailabilityZone = "west" })}, 1, false, "zone nova"},
		{"a zone with a pool of no size", []model.Node{node(func(n *model.Node) { n.PoolTotal = 0 })}, 1, false, "largest pool (0 GiB)"},
		{"larger than the largest", []model.Node{node(same), node(func(n *model.Node) { n.PoolTotal = 20 << 30 })}, 21, false, "largest pool (20 GiB)"},
		{"an image takes what is written", []model.Node{node(same), origin}, 1000, true, ""},
		{"within reason", []model.Node{node(same), origin}, 1001, true, "hundred times"},
	} {
		v := model.Volume{SizeGiB: x.gib, AvailabilityZone: "nova", Status: model.VolumeDownloading}
		got := roomOf(x.nodes).unplaceable(&v, x.image)
		if x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}

func TestLookout(t *testing.T) {
	var l lookout
	now := time.Unix(1000, 0)
	if l.recent(now) != nil {
		t.Error("something was seen before anybody looked")
	}
	r := roomOf(nil)
	l.put(&r, now)
	if l.recent(now.Add(roomAge-1)) != &r {
		t.Error("what was seen just now is looked for again")
	}
	later := now.Add(roomAge)
	if l.recent(later) != nil {
		t.Error("nobody looks again")
	}
	if l.recent(later) != &r {
		t.Error("everybody looks again, not one")
	}
	if l.recent(later.Add(roomAge)) != nil {
		t.Error("the one who was to look did not, and nobody does")
	}
	l.put(nil, time.Time{})
	if l.recent(later) != nil {
		t.Error("what could not be read is remembered")
	}
}
