package scheduler

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

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
		got := roomOf(model.Backend{Name: "b"}, x.nodes).choice("nova", x.specs).unplaceable(&v, x.image)
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

// Volumes of a type that is not for every node are placed, and spread by the room that nodes have.
func TestPlace(t *testing.T) {
	node := func(host, backend string, free int64, edit ...func(*model.Node)) model.Node {
		n := model.Node{
			Host: host, Backend: backend, Alive: true, Enabled: true, Compute: true, AvailabilityZone: "nova",
			PoolState: "rw", PoolTotal: 100 << 30, PoolFree: free << 30,
		}
		for _, e := range edit {
			e(&n)
		}
		return n
	}
	ssd := model.StringMap{"volume_backend_name": "ssd"}
	for _, x := range []struct {
		name  string
		nodes []model.Node
		specs model.StringMap
		want  map[string]int // of ten volumes of 1 GiB; "" is nowhere
	}{
		{"no specs", []model.Node{node("a", "ssd", 50), node("b", "hdd", 50)}, nil, map[string]int{"": 10}},
		{"every node", []model.Node{node("a", "ssd", 50), node("b", "ssd", 50)}, ssd, map[string]int{"": 10}},
		{"one node", []model.Node{node("a", "ssd", 50), node("b", "hdd", 90)}, ssd, map[string]int{"a": 10}},
		{"the other is dead", []model.Node{node("a", "ssd", 50), node("b", "hdd", 50, func(n *model.Node) { n.Alive = false })}, ssd, map[string]int{"a": 10}},
		{"spread", []model.Node{node("a", "ssd", 50), node("b", "ssd", 50), node("c", "hdd", 90)}, ssd, map[string]int{"a": 5, "b": 5}},
		{"by room", []model.Node{node("a", "ssd", 50), node("b", "ssd", 46), node("c", "hdd", 90)}, ssd, map[string]int{"a": 7, "b": 3}},
		{"more than there is", []model.Node{node("a", "ssd", 2), node("b", "ssd", 2), node("c", "hdd", 90)}, ssd, map[string]int{"a": 5, "b": 5}},
		{"full", []model.Node{node("a", "ssd", 1), node("b", "ssd", 50), node("c", "hdd", 90)}, ssd, map[string]int{"b": 10}},
		{"frozen, disabled, elsewhere, broken, dead", []model.Node{
			node("a", "ssd", 90, func(n *model.Node) { n.Frozen = true }), node("b", "ssd", 90, func(n *model.Node) { n.Enabled = false }),
			node("c", "ssd", 90, func(n *model.Node) { n.AvailabilityZone = "west" }), node("d", "ssd", 90, func(n *model.Node) { n.PoolState = "fail" }),
			node("e", "ssd", 90, func(n *model.Node) { n.Alive = false }), node("f", "ssd", 50), node("g", "hdd", 90),
		}, ssd, map[string]int{"f": 10}},
		{"no room", []model.Node{node("a", "ssd", 1), node("b", "hdd", 90)}, ssd, map[string]int{"": 10}},
		{"none", []model.Node{node("b", "hdd", 90)}, ssd, map[string]int{"": 10}},
	} {
		vols := make([]model.Volume, 10)
		for i := range vols {
			vols[i] = model.Volume{ID: uuid.New(), SizeGiB: 1, AvailabilityZone: "nova"}
		}
		r := roomOf(model.Backend{ReservedPercentage: 2}, x.nodes)
		for range 2 { // what was reckoned once must not count the second time
			for i := range vols {
				vols[i].Placed = nil
			}
			r.choice("nova", x.specs).place(vols)
			got := map[string]int{}
			for _, v := range vols {
				got[deref(v.Placed)]++
			}
			if !maps.Equal(got, x.want) {
				t.Errorf("%s: %v, want %v", x.name, got, x.want)
			}
		}
	}
}

// Another type moves a volume only if its node is not for that.
func TestRehoming(t *testing.T) {
	var nodes []model.Node
	for host, backend := range map[string]string{"a": "ssd", "b": "hdd"} {
		nodes = append(nodes, model.Node{
			Host: host, Backend: backend, Alive: true, Enabled: true, Compute: true, AvailabilityZone: "nova",
			PoolState: "rw", PoolTotal: 100 << 30, PoolFree: 50 << 30,
		})
	}
	a, gone := "a", "gone"
	for _, x := range []struct {
		name         string
		home, placed *string
		backend      string
		gib          int
		never        bool
		want         string // HOST, "moves to HOST" or a part of why not
	}{
		{"its own", &a, nil, "ssd", 1, false, "a"},
		{"its own, never", &a, nil, "ssd", 1, true, "a"},
		{"the other", &a, nil, "hdd", 1, false, "moves to b"},
		{"the other, never", &a, nil, "hdd", 1, true, "volume_backend_name=hdd"},
		{"placed, its own", nil, &a, "ssd", 1, true, "a"},
		{"placed, the other", nil, &a, "hdd", 1, false, "moves to b"},
		{"placed, the other, never", nil, &a, "hdd", 1, true, "volume_backend_name=hdd"},
		{"placed, any", nil, &a, "", 1, true, "a"},
		{"nowhere", nil, nil, "hdd", 1, true, "b"},
		{"nowhere, any", nil, nil, "", 1, true, ""},
		{"no node", &a, nil, "tape", 1, false, "volume_backend_name=tape"},
		{"no node, nowhere", nil, nil, "tape", 1, false, "volume_backend_name=tape"},
		{"too large", &a, nil, "hdd", 101, false, "largest pool"},
		{"too large, but there", &a, nil, "ssd", 101, false, "a"},
		{"its node holds volumes no more", &gone, nil, "ssd", 1, true, "holds no volumes"},
	} {
		v := model.Volume{Home: x.home, Placed: x.placed, SizeGiB: x.gib, AvailabilityZone: "nova"}
		var specs model.StringMap
		if x.backend != "" {
			specs = model.StringMap{"volume_backend_name": x.backend}
		}
		p := roomOf(model.Backend{}, nodes).retype(&v, specs, !x.never)
		got := deref(p.host)
		if p.move {
			got = "moves to " + got
		}
		if got += p.why; got != x.want && (p.why == "" || !strings.Contains(p.why, x.want)) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}
