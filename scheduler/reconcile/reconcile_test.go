package reconcile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/reconcile"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

var options = reconcile.Options{MaxImageBytes: 1 << 40}

// cluster is a database: nodes, images' trees, volumes.
type cluster struct {
	nodes   map[string]model.Node
	images  map[uuid.UUID]model.Image
	members []model.Member
	volumes []model.Volume
}

// state does what the store's NodeState does.
func (c cluster) state(host string) model.NodeState {
	s := model.NodeState{
		Node: c.nodes[host], Images: c.images, Parents: map[uuid.UUID]model.Node{},
		Fallbacks: map[uuid.UUID]model.Node{}, Children: map[uuid.UUID][]model.ChildMember{},
	}
	is := func(p *string) bool { return p != nil && *p == host }
	for _, m := range c.members {
		if m.Host == host {
			s.Members = append(s.Members, m)
			if m.Parent != nil {
				s.Parents[m.ImageID] = c.nodes[*m.Parent]
			}
			if m.Fallback != nil {
				s.Fallbacks[m.ImageID] = c.nodes[*m.Fallback]
			}
		}
		if is(m.Parent) || is(m.Fallback) || m.ObservedParent == host {
			s.Children[m.ImageID] = append(s.Children[m.ImageID], model.ChildMember{Member: m, Node: c.nodes[m.Host]})
		}
	}
	for _, v := range c.volumes {
		if is(v.Home) {
			s.Volumes = append(s.Volumes, v)
		}
	}
	return s
}

func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }

func drawCluster(t *rapid.T) cluster {
	c := cluster{nodes: map[string]model.Node{}, images: map[uuid.UUID]model.Image{}}
	n := rapid.IntRange(2, 9).Draw(t, "nodes")
	host := func(i int) string { return fmt.Sprintf("Node_%d", i) }
	for i := range n {
		c.nodes[host(i)] = model.Node{
			Host: host(i), Address: fmt.Sprintf("10.0.0.%d:3260", i), Initiator: "iqn.1993-08.org.debian:" + host(i),
			Alive: true, Generation: int64(i),
		}
	}
	for k := range rapid.IntRange(1, 3).Draw(t, "images") {
		img := model.Image{ID: id(k), Status: model.ImageActive, SizeBytes: 10, DeviceBytes: int64(rapid.SampledFrom([]int{0, 4096}).Draw(t, "bytes"))}
		c.images[img.ID] = img
		o := tree.Observed{Degree: rapid.IntRange(1, 3).Draw(t, "degree"), Nodes: c.nodes, Members: []model.Member{
			{ImageID: img.ID, Host: host(k % n), Role: model.RoleRoot, State: model.MemberActive},
		}}
		for i := range rapid.IntRange(0, n-1).Draw(t, "relays") {
			if i == k%n {
				continue
			}
			p, err := tree.Join(o, []tree.Host{{Name: host(i)}})
			if err != nil {
				t.Fatal(err)
			}
			o.Members = tree.Apply(o.Members, p)
		}
		o.Members = tree.Apply(o.Members, tree.Fallbacks(o))
		if leave := rapid.IntRange(0, n-1).Draw(t, "leave"); leave != k%n {
			o.Members = tree.Apply(o.Members, tree.Leave(o, host(leave)))
		}
		for i := range o.Members {
			o.Members[i].Secret = fmt.Sprintf("secret-%d-%d", k, i)
			o.Members[i].ObservedParent = rapid.SampledFrom([]string{"", host(0), host(1)}).Draw(t, "observed")
		}
		c.members = append(c.members, o.Members...)
	}
	for k := range rapid.IntRange(0, 8).Draw(t, "volumes") {
		home, thin := host(rapid.IntRange(0, n-1).Draw(t, "home")), int64(k)
		v := model.Volume{ID: id(100 + k), SizeGiB: 1, Home: &home, ThinID: &thin, Status: rapid.SampledFrom([]model.VolumeStatus{
			model.VolumeAvailable, model.VolumeInUse, model.VolumeDeleting, model.VolumeError, model.VolumeErrorDeleting, model.VolumeDetaching,
		}).Draw(t, "status")}
		for j := range rapid.IntRange(0, 3).Draw(t, "attachments") {
			at := host(rapid.IntRange(0, n-1).Draw(t, "at"))
			raw, _ := json.Marshal(model.Connector{Host: at, Initiator: c.nodes[at].Initiator})
			v.Attachments = append(v.Attachments, model.Attachment{
				ID: id(1000 + 10*k + j), CreatedAt: time.Unix(int64(j), 0), Connector: raw, ChapSecret: fmt.Sprintf("chap-%d-%d", k, j),
				Status: rapid.SampledFrom([]model.AttachStatus{
					model.AttachReserved, model.AttachAttaching, model.AttachAttached, model.AttachDetaching, model.AttachErrorAttaching,
				}).Draw(t, "attach status"),
			})
		}
		c.volumes = append(c.volumes, v)
	}
	return c
}

// Nothing is Absent but what its row says is deleting or leaving; nothing is left out.
func TestPresence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		absent := map[string]bool{}
		images, volumes := 0, 0
		for h := range c.nodes {
			d := reconcile.Desired(c.state(h), options)
			images, volumes = images+len(d.Images), volumes+len(d.Volumes)
			for _, i := range d.Images {
				absent[h+i.ID] = i.State == model.Absent
				if (i.Source != nil) != (i.Role == model.RoleRoot && i.State == model.Present) {
					t.Fatalf("source of %+v", i)
				}
			}
			for _, v := range d.Volumes {
				absent[v.ID] = v.State == model.Absent
				if len(v.Hosts) > 0 && v.State != model.Present || v.Bytes != 1<<30 {
					t.Fatalf("%+v", v)
				}
			}
		}
		if images != len(c.members) || volumes != len(c.volumes) {
			t.Fatalf("%d images of %d, %d volumes of %d", images, len(c.members), volumes, len(c.volumes))
		}
		for _, m := range c.members {
			if absent[m.Host+m.ImageID.String()] != (m.State == model.MemberLeaving) {
				t.Fatalf("%s %s", m.Host, m.State)
			}
		}
		for _, v := range c.volumes {
			if absent[v.ID.String()] != (v.Status == model.VolumeDeleting) {
				t.Fatalf("%s %s", v.ID, v.Status)
			}
		}
	})
}

// Who is told to log in somewhere is let in there, by the same name and secret.
func TestPortalsHaveChildren(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		docs := map[string]model.Desired{}
		for h := range c.nodes {
			docs[h] = reconcile.Desired(c.state(h), options)
		}
		for h, d := range docs {
			for _, i := range d.Images {
				if i.Role == model.RoleRelay && i.State == model.Present && i.Parent == nil {
					t.Fatalf("%s has no parent for %s", h, i.ID)
				}
				portals := i.Alternates
				if i.Parent != nil {
					portals = append(slices.Clone(portals), *i.Parent)
				}
				for _, p := range portals {
					if p.Address != c.nodes[p.Host].Address || p.IQN != model.ImageIQN(p.Host, i.ID) {
						t.Fatalf("%+v", p)
					}
					at := slices.IndexFunc(docs[p.Host].Images, func(o model.DesiredImage) bool { return o.ID == i.ID })
					if at < 0 {
						t.Fatalf("%s does not have image %s", p.Host, i.ID)
					}
					want := model.Child{Host: h, Initiator: c.nodes[h].Initiator, User: p.User, Secret: p.Secret}
					if !slices.Contains(docs[p.Host].Images[at].Children, want) {
						t.Fatalf("%s does not let in %s: %+v", p.Host, h, docs[p.Host].Images[at].Children)
					}
				}
			}
		}
	})
}

// Same rows, in whatever order, same bytes.
func TestSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		s := c.state("Node_0")
		a, _ := json.Marshal(reconcile.Desired(s, options))
		s.Members = rapid.Permutation(s.Members).Draw(t, "members")
		s.Volumes = rapid.Permutation(s.Volumes).Draw(t, "volumes")
		for i := range s.Volumes {
			s.Volumes[i].Attachments = rapid.Permutation(s.Volumes[i].Attachments).Draw(t, "attachments")
		}
		for k := range c.images {
			s.Children[k] = rapid.Permutation(s.Children[k]).Draw(t, "children")
		}
		if b, _ := json.Marshal(reconcile.Desired(s, options)); string(a) != string(b) {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}

func TestVolumePresence(t *testing.T) {
	home, thin := "home", int64(7)
	attached := func(host string, s model.AttachStatus) model.Attachment {
		raw, _ := json.Marshal(model.Connector{Host: host, Initiator: "iqn." + host})
		return model.Attachment{Status: s, Connector: raw, ChapSecret: "secret-of-" + host}
	}
	for name, c := range map[string]struct {
		status model.VolumeStatus
		atts   []model.Attachment
		state  model.Presence
		hosts  int
	}{
		"nobody":            {model.VolumeAvailable, nil, model.Inactive, 0},
		"reserved":          {model.VolumeReserved, []model.Attachment{{Status: model.AttachReserved}}, model.Inactive, 0},
		"no connector":      {model.VolumeAttaching, []model.Attachment{{Status: model.AttachAttaching}}, model.Inactive, 0},
		"json null":         {model.VolumeAttaching, []model.Attachment{{Status: model.AttachAttaching, Connector: model.JSON("null")}}, model.Inactive, 0},
		"local":             {model.VolumeInUse, []model.Attachment{attached("home", model.AttachAttached)}, model.Present, 0},
		"remote":            {model.VolumeInUse, []model.Attachment{attached("b", model.AttachAttaching)}, model.Present, 1},
		"three":             {model.VolumeInUse, []model.Attachment{attached("c", model.AttachAttached), attached("b", model.AttachDetaching), attached("home", model.AttachAttached)}, model.Present, 2},
		"twice on one host": {model.VolumeInUse, []model.Attachment{attached("b", model.AttachAttached), attached("b", model.AttachAttached)}, model.Present, 1},
		"in another case":   {model.VolumeInUse, []model.Attachment{attached("b", model.AttachAttached), attached("B", model.AttachAttached)}, model.Present, 1},
		"error":             {model.VolumeError, nil, model.Inactive, 0},
		"error in use":      {model.VolumeError, []model.Attachment{attached("b", model.AttachAttached)}, model.Present, 1},
		"error_deleting":    {model.VolumeErrorDeleting, nil, model.Inactive, 0},
		"deleting":          {model.VolumeDeleting, []model.Attachment{attached("b", model.AttachAttached)}, model.Absent, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := model.Volume{ID: id(1), Home: &home, ThinID: &thin, SizeGiB: 2, Status: c.status, Attachments: c.atts}
			d := reconcile.Desired(model.NodeState{Node: model.Node{Host: home}, Volumes: []model.Volume{v}}, options)
			got := d.Volumes[0]
			if got.State != c.state || len(got.Hosts) != c.hosts || got.ThinID != 7 || got.Bytes != 2<<30 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	d := model.Desired{Host: "n", Generation: 5, PoolUUID: "p", Images: []model.DesiredImage{
		{ID: "i1", Role: model.RoleRelay, State: model.Present, Parent: &model.ParentPortal{Host: "a"}, Alternates: []model.ParentPortal{{Host: "b"}}, Children: []model.Child{{Host: "c", Initiator: "iqn.c"}}},
		{ID: "i2", Role: model.RoleRoot, State: model.Present},
		{ID: "i3", Role: model.RoleRelay, State: model.Absent},
	}, Volumes: []model.DesiredVolume{
		{ID: "v1", State: model.Present, Hosts: []model.Child{{Host: "x", Initiator: "iqn.x"}}},
		{ID: "v2", State: model.Inactive, Materialized: true},
		{ID: "v3", State: model.Absent},
	}}
	good := func() model.Observed {
		return model.Observed{
			Host: "n", Generation: 5, Settled: true, Pool: model.ObservedPool{UUID: "p", State: "rw"}, Images: []model.ObservedImage{
				{ID: "i1", Role: model.RoleRelay, State: model.DeviceReady, Parent: "a", Exported: true, Children: []string{"iqn.c"}},
				{ID: "i2", Role: model.RoleRoot, State: model.DeviceReady},
			}, Volumes: []model.ObservedVolume{
				{ID: "v1", State: model.DeviceReady, Exported: true, Hosts: []string{"iqn.x"}},
				{ID: "v2", State: model.DeviceInactive, Materialized: true},
			},
		}
	}
	if got := reconcile.Diff(d, good()); len(got) > 0 {
		t.Fatalf("nothing is wrong, but %v", got)
	}
	lower := good()
	d.Volumes[0].Hosts[0].Initiator, d.Images[0].Children[0].Initiator = "iqn.X", "iqn.C"
	if got := reconcile.Diff(d, lower); len(got) > 0 {
		t.Fatalf("LIO says names in lower case, and %v", got)
	}
	d.Volumes[0].Hosts[0].Initiator, d.Images[0].Children[0].Initiator = "iqn.x", "iqn.c"
	for say, spoil := range map[string]func(o *model.Observed){
		"node n: has taken generation 4 of 5":                                   func(o *model.Observed) { o.Generation = 4 },
		"node n: is still working on generation 5":                              func(o *model.Observed) { o.Settled = false },
		`node n: has the pool "q" instead of p: its volumes' data is not there`: func(o *model.Observed) { o.Pool.UUID = "q" },
		`node n: its pool is "ro"`:                                              func(o *model.Observed) { o.Pool.State = "ro" },
		"node n: unknown thing under our names: vmthunder-x":                    func(o *model.Observed) { o.Unknown = []string{"vmthunder-x"} },
		"image i1: reads from its fallback b instead of a":                      func(o *model.Observed) { o.Images[0].Parent = "b" },
		`image i1: reads from the wrong parent "z" instead of a`:                func(o *model.Observed) { o.Images[0].Parent = "z" },
		"image i1: is not exported, but should be to c":                         func(o *model.Observed) { o.Images[0].Exported = false },
		"image i1: lets in iqn.y, which it should not":                          func(o *model.Observed) { o.Images[0].Children = []string{"iqn.y"} },
		"image i1: is path-lost: no route":                                      func(o *model.Observed) { o.Images[0].State, o.Images[0].Error = model.DevicePathLost, "no route" },
		"image i2: is missing":                                                  func(o *model.Observed) { o.Images = o.Images[:1] },
		"image i2: is exported, but should not be":                              func(o *model.Observed) { o.Images[1].Exported = true },
		"image i2: is a relay, should be a root":                                func(o *model.Observed) { o.Images[1].Role = model.RoleRelay },
		"image i3: should be gone, is building": func(o *model.Observed) {
			o.Images = append(o.Images, model.ObservedImage{ID: "i3", State: model.DeviceBuilding})
		},
		"image i4: is there (ready), but no row says so": func(o *model.Observed) {
			o.Images = append(o.Images, model.ObservedImage{ID: "i4", State: model.DeviceReady})
		},
		"volume v1: is missing: it should have a device":  func(o *model.Observed) { o.Volumes[0].State = model.DeviceInactive },
		"volume v1: does not let in x (iqn.x)":            func(o *model.Observed) { o.Volumes[0].Hosts = nil },
		"volume v2: its data was made before and is gone": func(o *model.Observed) { o.Volumes = o.Volumes[:1] },
		"volume v2: should have no device, is ready":      func(o *model.Observed) { o.Volumes[1].State = model.DeviceReady },
		"volume v3: should be gone, is ready": func(o *model.Observed) {
			o.Volumes = append(o.Volumes, model.ObservedVolume{ID: "v3", State: model.DeviceReady})
		},
	} {
		t.Run(say, func(t *testing.T) {
			o := good()
			spoil(&o)
			var all []string
			for _, f := range reconcile.Diff(d, o) {
				all = append(all, f.String())
			}
			if !slices.Equal(all, []string{say}) {
				t.Errorf("%q", all)
			}
		})
	}
}
