package db_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// Whatever plans are written: counts of children are those of the tree, what a plan does
// not speak of stays, and a plan that would close a circle changes nothing.
func TestPlaceStaysTrue(t *testing.T) {
	w := newWorld(t)
	const nodes = 9
	host := func(i int) string { return fmt.Sprintf("h%d", i) }
	for i := range nodes {
		w.node(host(i))
	}
	rapid.Check(t, func(r *rapid.T) {
		id := uuid.New()
		w.create(image(id), vol(1))
		w.tx(func(t *db.Tx) error {
			return t.PutMember(model.Member{ImageID: id, Host: host(0), Role: model.RoleRoot, State: model.MemberActive})
		})
		parents := map[string]string{host(0): ""}
		rows := map[string]model.Member{}
		for range rapid.IntRange(1, 5).Draw(r, "plans") {
			next := maps.Clone(parents)
			for range rapid.IntRange(1, 5).Draw(r, "changes") {
				h, p := host(rapid.IntRange(1, nodes-1).Draw(r, "host")), host(rapid.IntRange(0, nodes-1).Draw(r, "parent"))
				if _, ok := next[p]; ok && h != p {
					next[h] = p
				}
			}
			depth, circle := depths(next)
			var added, changed []model.Member
			for h, p := range next {
				if p == "" || depth[h] == rows[h].Depth && parents[h] == p {
					continue
				}
				m := model.Member{ImageID: id, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Parent: &p, Depth: depth[h], Reason: "r"}
				if _, ok := parents[h]; !ok {
					m.Secret, m.Pinned = "s "+h, h == host(3)
					added = append(added, m)
				} else {
					m.State, m.Fallback = rapid.SampledFrom([]model.MemberState{model.MemberActive, model.MemberDraining, model.MemberPathLost}).Draw(r, "state"), new(host(0))
					if rapid.Bool().Draw(r, "new secret") {
						m.Secret = "new " + h
					}
					changed = append(changed, m)
				}
			}
			err := w.Tx(w.ctx, func(t *db.Tx) error { return t.Place(id, added, changed) })
			if circle != (err != nil) || circle && !errors.Is(err, model.ErrInvalid) {
				r.Fatalf("%v to %v: circle %t, error %v", parents, next, circle, err)
			}
			if circle {
				continue
			}
			parents = next
			for _, m := range slices.Concat(added, changed) {
				if old, ok := rows[m.Host]; ok {
					m.Pinned = old.Pinned
					if m.Secret == "" {
						m.Secret = old.Secret
					}
				}
				rows[m.Host] = m
			}
		}
		ms, err := w.Members(w.ctx, id)
		if err != nil || len(ms) != len(parents) {
			r.Fatalf("%d members, want %d: %v", len(ms), len(parents), err)
		}
		depth, _ := depths(parents)
		for _, m := range ms {
			children := 0
			for _, p := range parents {
				if p == m.Host {
					children++
				}
			}
			if m.Depth != depth[m.Host] || m.Children != children || m.Parent != nil && *m.Parent != parents[m.Host] {
				r.Fatalf("%s: parent %v depth %d children %d, want %q %d %d", m.Host, m.Parent, m.Depth, m.Children, parents[m.Host], depth[m.Host], children)
			}
			if want := rows[m.Host]; m.Role == model.RoleRelay && (m.State != want.State || m.Secret != want.Secret || m.Pinned != want.Pinned ||
				(m.Fallback == nil) != (want.Fallback == nil) || m.ThinBase == 0 || m.Reason != "r") {
				r.Fatalf("%+v, want %+v", m, want)
			}
		}
	})
	n := w.count("SELECT count(*) FROM tree_members WHERE role = 'relay'")
	if d := w.count("SELECT count(*) FROM (SELECT DISTINCT host, thin_base / 4 FROM tree_members WHERE role = 'relay') x"); n == 0 || d != n {
		t.Errorf("%d relays have %d sets of thin numbers", n, d)
	}
}

// depths of a tree by host, and whether it has a circle; those in one have some depth.
func depths(parents map[string]string) (map[string]int, bool) {
	out, circle := map[string]int{}, false
	for h := range parents {
		n := 0
		for p := parents[h]; p != ""; p = parents[p] {
			if n++; n > len(parents) {
				circle = true
				break
			}
		}
		out[h] = n
	}
	return out, circle
}

func TestPlaceRefuses(t *testing.T) {
	w := newWorld(t)
	id := w.active("root", gib)
	for _, h := range []string{"h1", "h2", "h3", "h4"} {
		w.node(h)
	}
	relay := func(host, parent string, depth int) model.Member {
		return model.Member{ImageID: id, Host: host, Role: model.RoleRelay, State: model.MemberJoining, Parent: &parent, Depth: depth}
	}
	w.tx(func(t *db.Tx) error {
		return t.Place(id, []model.Member{relay("h1", "root", 1), relay("h3", "root", 1), relay("h4", "h1", 2)}, nil)
	})
	for name, x := range map[string]struct {
		added, changed []model.Member
		want           error
	}{
		"a node that is not known":      {[]model.Member{relay("h9", "root", 1)}, nil, model.ErrNotFound},
		"a member that is there":        {[]model.Member{relay("h1", "root", 1)}, nil, model.ErrExists},
		"a member that is not there":    {nil, []model.Member{relay("h2", "root", 1)}, model.ErrNotFound},
		"a parent that is not there":    {[]model.Member{relay("h2", "h9", 1)}, nil, model.ErrInvalid},
		"a depth that is not right":     {[]model.Member{relay("h2", "h1", 1)}, nil, model.ErrInvalid},
		"a depth changed but not below": {nil, []model.Member{relay("h1", "h3", 2)}, model.ErrInvalid},
		"a root":                        {[]model.Member{{ImageID: id, Host: "h2", Role: model.RoleRoot}}, nil, model.ErrInvalid},
	} {
		if err := w.Tx(w.ctx, func(t *db.Tx) error { return t.Place(id, x.added, x.changed) }); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	if len(ms) != 4 || ms[0].Children != 2 || ms[1].Children != 1 {
		t.Errorf("a refusal left something: %+v", ms)
	}
}

func TestPin(t *testing.T) {
	w := newWorld(t)
	id := w.active("root", gib)
	var added []model.Member
	for _, h := range []string{"h1", "h2", "h3"} {
		w.node(h)
		added = append(added, model.Member{ImageID: id, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Parent: new("root"), Depth: 1})
	}
	w.tx(func(t *db.Tx) error {
		return errors.Join(t.Place(id, added, nil), t.Pin(id, []string{"root", "h1", "h2", "nobody"}, true), t.Pin(id, []string{"h2"}, false))
	})
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	for _, m := range ms {
		if m.Pinned != (m.Host == "h1") {
			t.Errorf("%s is pinned: %t", m.Host, m.Pinned)
		}
	}
	w.tx(func(tx *db.Tx) error {
		of, err := tx.MembersOf(id, "nobody", "h3", "root")
		if len(of) != 2 || of[0].Host != "h3" || of[1].Host != "root" {
			t.Errorf("members of: %+v", of)
		}
		ns, err2 := tx.NodesOf("h2", "nobody")
		if len(ns) != 1 || ns[0].Host != "h2" {
			t.Errorf("nodes of: %+v", ns)
		}
		return errors.Join(err, err2)
	})
}
