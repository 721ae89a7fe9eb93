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
		specs model.StringMap
		want  string // "": it has room
	}{
		{"room", []model.Node{node(same)}, 10, false, nil, ""},
		{"no node", nil, 1, false, nil, "no node is alive"},
		{"dead", []model.Node{node(func(n *model.Node) { n.Alive = false })}, 1, false, nil, "no node is alive"},
		{"disabled", []model.Node{node(func(n *model.Node) { n.Enabled = false })}, 1, false, nil, "no node is alive"},
		{"an origin holds no volumes", []model.Node{origin}, 1, false, nil, "no node is alive"},
		{"no origin", []model.Node{node(same)}, 1, true, nil, "no origin node"},
		{"origin", []model.Node{node(same), origin}, 1, true, nil, ""},
		{"another zone", []model.Node{node(func(n *model.Node) { n.AvailabilityZone = "west" })}, 1, false, nil, "zone nova"},
		{"a zone with a pool of no size", []model.Node{node(func(n *model.Node) { n.PoolTotal = 0 })}, 1, false, nil, "largest pool (0 GiB)"},
		{"larger than the largest", []model.Node{node(same), node(func(n *model.Node) { n.PoolTotal = 20 << 30 })}, 21, false, nil, "largest pool (20 GiB)"},
		{"an image takes what is written", []model.Node{node(same), origin}, 1000, true, nil, ""},
		{"of this kind", []model.Node{node(same)}, 1, false, model.StringMap{"volume_backend_name": "b", "multiattach": "<is> True"}, ""},
		{"of another kind", []model.Node{node(same)}, 1, false, model.StringMap{"storage_protocol": "FC"}, "as the volume type wants it: storage_protocol=FC"},
		{"one of two is enough", []model.Node{node(same), node(func(n *model.Node) { n.PoolTotal = 20 << 30 })}, 1, false, model.StringMap{"total_capacity_gb": ">= 15"}, ""},
		{"within reason", []model.Node{node(same), origin}, 1001, true, nil, "hundred times"},
	} {
		v := model.Volume{SizeGiB: x.gib, AvailabilityZone: "nova", Status: model.VolumeDownloading}
		got := roomOf(model.Backend{Name: "b"}, x.nodes).unplaceable(&v, x.specs, x.image)
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
	r := roomOf(model.Backend{}, nil)
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
