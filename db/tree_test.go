package db_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// Whatever is put, moved and removed: counts and depths are those of the tree, there is
// no cycle, and no thin number is given twice.
func TestTreeStaysTrue(t *testing.T) {
	w := newWorld(t)
	const nodes = 7
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
		parents := map[string]string{host(0): ""} // what the tree should be
		below := func(h, of string) bool {
			for ; h != ""; h = parents[h] {
				if h == of {
					return true
				}
			}
			return false
		}
		any := rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6})
		for range rapid.IntRange(1, 14).Draw(r, "steps") {
			h, p := host(any.Draw(r, "host")), host(any.Draw(r, "parent"))
			if rapid.IntRange(0, 3).Draw(r, "what") == 0 {
				err := w.Tx(w.ctx, func(t *db.Tx) error { return t.DeleteMember(id, h) })
				_, there := parents[h]
				used := false
				for _, parent := range parents {
					used = used || parent == h
				}
				switch {
				case !there && !errors.Is(err, model.ErrNotFound), there && used && !errors.Is(err, model.ErrInUse), there && !used && err != nil:
					r.Fatalf("delete %s (there %t, used %t): %v", h, there, used, err)
				case there && !used:
					delete(parents, h)
				}
				if len(parents) == 0 {
					break
				}
				continue
			}
			m := model.Member{ImageID: id, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Parent: &p}
			_, there := parents[p]
			cycle := h == p || below(p, h)
			err := w.Tx(w.ctx, func(t *db.Tx) error { return t.PutMember(m) })
			switch {
			case err == nil && (!there || cycle):
				r.Fatalf("put %s below %s: allowed (there %t, cycle %t)", h, p, there, cycle)
			case err != nil && there && !cycle:
				r.Fatalf("put %s below %s: %v", h, p, err)
			case err == nil:
				parents[h] = p
			}
		}
		ms, err := w.Members(w.ctx, id)
		if err != nil || len(ms) != len(parents) {
			r.Fatalf("%d members, want %d: %v", len(ms), len(parents), err)
		}
		for _, m := range ms {
			depth, children := -1, 0
			for h := m.Host; h != ""; h = parents[h] {
				depth++
			}
			for _, p := range parents {
				if p == m.Host {
					children++
				}
			}
			if m.Depth != depth || m.Children != children || (m.Parent == nil) != (parents[m.Host] == "") || m.Parent != nil && *m.Parent != parents[m.Host] {
				r.Fatalf("%s: parent %v depth %d children %d, want %q %d %d", m.Host, m.Parent, m.Depth, m.Children, parents[m.Host], depth, children)
			}
		}
	})
	n := w.count("SELECT count(*) FROM tree_members WHERE role = 'relay' AND thin_base > 0")
	if d := w.count("SELECT count(*) FROM (SELECT DISTINCT host, thin_base / 4 FROM tree_members WHERE role = 'relay') x"); n == 0 || d != n {
		t.Errorf("%d relays have %d sets of thin numbers", n, d)
	}
}

// A whole burst goes into one transaction, children before parents too.
func TestPutInAnyOrder(t *testing.T) {
	w := newWorld(t)
	id := w.active("h0", gib)
	w.node("h1")
	w.node("h2")
	w.tx(func(t *db.Tx) error {
		for _, m := range [][2]string{{"h2", "h1"}, {"h1", "h0"}} {
			if err := t.PutMember(model.Member{ImageID: id, Host: m[0], Role: model.RoleRelay, State: model.MemberJoining, Parent: &m[1]}); err != nil {
				return err
			}
		}
		return nil
	})
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	for i, m := range ms {
		if m.Host != fmt.Sprintf("h%d", i) || m.Depth != i || m.Children != min(1, 2-i) {
			t.Errorf("%+v", m)
		}
	}
	bad := model.Member{ImageID: id, Host: "nobody", Role: model.RoleRelay, State: model.MemberJoining, Parent: new("h0")}
	if err := w.Tx(w.ctx, func(t *db.Tx) error { return t.PutMember(bad) }); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
}

// Placements of many images on the same nodes, across each other, at the same time:
// nobody waits in a circle, no number is given twice, no generation is lost.
func TestPlacementsCross(t *testing.T) {
	w := newWorld(t)
	const nodes, images = 4, 6
	var ids []uuid.UUID
	for i := range images {
		ids = append(ids, w.active(fmt.Sprintf("n%d", i%nodes), gib))
	}
	before := w.count("SELECT sum(generation) FROM nodes")
	var g errgroup.Group
	for i, id := range ids {
		for j := range nodes {
			h, root := fmt.Sprintf("n%d", j), fmt.Sprintf("n%d", i%nodes)
			if h == root {
				continue
			}
			g.Go(func() error {
				return w.Tx(w.ctx, func(t *db.Tx) error {
					_ = t.Bump(h, root)
					return t.PutMember(model.Member{ImageID: id, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Parent: &root})
				})
			})
			g.Go(func() error { _, err := w.SaveObserved(w.ctx, report(h)); return err })
		}
	}
	w.must(g.Wait())
	if after := w.count("SELECT sum(generation) FROM nodes"); after-before != images*(nodes-1)*2 {
		t.Errorf("generations grew by %d, want %d", after-before, images*(nodes-1)*2)
	}
	if n, d := images*(nodes-1), w.count("SELECT count(DISTINCT (host, thin_base)) FROM tree_members WHERE role = 'relay'"); n != d {
		t.Errorf("%d relays, %d sets of thin numbers", n, d)
	}
}

func TestFrontier(t *testing.T) {
	w := newWorld(t)
	id := w.active("root", gib)
	w.must(w.ExecRaw(w.ctx, `INSERT INTO nodes (host, alive) SELECT 'n' || i, i <> 3 FROM generate_series(1, 3000) i`))
	w.must(w.ExecRaw(w.ctx, `INSERT INTO tree_members (image_id, host, role, state, parent, depth, children)
		SELECT $1, 'n' || i, 'relay', CASE WHEN i = 2 THEN 'draining' ELSE 'active' END, CASE WHEN i <= 10 THEN 'root' ELSE 'n' || i / 10 END,
			CASE WHEN i <= 10 THEN 1 WHEN i <= 100 THEN 2 ELSE 3 END, CASE WHEN i > 4 AND i < 300 THEN 10 ELSE 0 END FROM generate_series(1, 3000) i`, id))
	w.must(w.ExecRaw(w.ctx, "UPDATE tree_members SET children = 10 WHERE host = 'root'"))
	w.must(w.ExecRaw(w.ctx, "ANALYZE"))
	w.tx(func(tx *db.Tx) error {
		ms, err := tx.Frontier(id, 10, 4)
		var got []string
		for _, m := range ms {
			got = append(got, m.Host)
		}
		// n2 drains, n3 is not alive, n5 to n299 are full.
		if want := []string{"n1", "n4", "n1000", "n1001"}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		return err
	})
	plan, err := w.Explain(w.ctx, strings.NewReplacer("$1", "'"+id.String()+"'", "$2", "10", "$3", "4").Replace(db.FrontierSQL))
	w.must(err)
	if !strings.Contains(plan, "Index Scan using tree_members_room") || strings.Contains(plan, "Seq Scan on tree_members") {
		t.Errorf("plan:\n%s", plan)
	}
}

func TestNodeState(t *testing.T) {
	w := newWorld(t)
	id := w.active("h0", gib)
	for _, h := range []string{"h1", "h2", "h3"} {
		w.node(h)
	}
	w.tx(func(t *db.Tx) error {
		return errors.Join(
			t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h0"), Secret: "s1"}),
			t.PutMember(model.Member{ImageID: id, Host: "h2", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h0"), Fallback: new("h1")}),
			t.PutMember(model.Member{ImageID: id, Host: "h3", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h1"), Fallback: new("h2")}),
		)
	})
	v := w.create(image(id), vol(2))[0]
	a, err := w.reserve(v.ID, nil)
	w.must(err)
	w.attaching(a)
	w.must(w.ResetVolume(w.ctx, v.ID, ptr(model.VolumeAvailable), nil, nil))
	_, err = w.reserve(v.ID, nil) // without connector: not in the state
	w.must(err)
	w.tx(func(t *db.Tx) error {
		_, err := t.SetHome(v.ID, "h1")
		return errors.Join(err, t.Bump("h1", "", "unknown"))
	})

	st, err := w.NodeState(w.ctx, "h1")
	w.must(err)
	if st.Node.Host != "h1" || len(st.Members) != 1 || st.Images[id].Status != model.ImageActive || st.Members[0].Secret != "s1" || st.Parents[id].Host != "h0" || len(st.Fallbacks) != 0 {
		t.Errorf("%+v", st)
	}
	if c := st.Children[id]; len(c) != 2 || c[0].Member.Host != "h2" || c[0].Node.Initiator != "iqn.2026-01.test:h2" || c[1].Member.Host != "h3" {
		t.Errorf("children %+v", st.Children)
	}
	if len(st.Volumes) != 1 || len(st.Volumes[0].Attachments) != 1 || st.Volumes[0].Attachments[0].ID != a.ID {
		t.Errorf("volumes %+v", st.Volumes)
	}
	if st, err = w.NodeState(w.ctx, "h3"); err != nil || st.Parents[id].Host != "h1" || st.Fallbacks[id].Host != "h2" {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := w.NodeState(w.ctx, "h9"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
	// Who is gone is nobody's fallback, and the place of volumes is counted.
	w.tx(func(tx *db.Tx) error {
		if n, err := tx.VolumesOf(id); len(n) != 1 || n["h1"] != 1 || err != nil {
			t.Errorf("volumes %v, %v", n, err)
		}
		return tx.DeleteMember(id, "h2")
	})
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	if len(ms) != 3 || ms[2].Fallback != nil || ms[0].Children != 1 {
		t.Errorf("%+v", ms)
	}
	al, err := w.Allocated(w.ctx)
	w.must(err)
	if al["h1"] != (model.Allocation{Volumes: 1, GiB: 2}) || len(al) != 1 {
		t.Errorf("allocated %v", al)
	}
	var homed uuid.UUID
	w.must(w.GetRaw(w.ctx, &homed, "SELECT id FROM volumes WHERE home = 'h1'"))
	w.snapshot(homed, "available", 3)
	w.snapshot(homed, "available", 1)
	shares, err := w.SharesOf(w.ctx, "h1")
	w.must(err)
	if len(shares) != 1 || shares[0] != (model.Share{ProjectID: "p1", Volumes: 1, GiB: 2, Snapshots: 2, SnapshotGiB: 4}) {
		t.Errorf("shares %+v", shares)
	}
}
