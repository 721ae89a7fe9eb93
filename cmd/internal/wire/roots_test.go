package wire

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func (s *site) tree(image uuid.UUID) map[string]model.Member {
	s.t.Helper()
	members, err := s.store.Members(context.Background(), image)
	if err != nil {
		s.t.Fatal(err)
	}
	if bad := tree.Check(members, 2); len(bad) > 0 {
		s.t.Error(bad)
	}
	out := map[string]model.Member{}
	for _, m := range members {
		out[m.Host] = m
	}
	return out
}

func (s *site) turn(host string, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[host].down = down
}

func roots(tree map[string]model.Member, state model.MemberState) (hosts []string) {
	for host, m := range tree {
		if m.Role == model.RoleRoot && m.State == state {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// An image gets a second root. Nobody reads from that before it has the image; then it is where those go
// whose root dies. When that stays away for long, a third origin gets the image.
func TestSecondRoot(t *testing.T) {
	s := newSite(t, scheduler.Options{NodeDown: 2 * time.Second, RootWait: 5 * time.Second, Rebalance: time.Second, ImageIdle: time.Nanosecond}, "o1", "o2", "n1", "n2")
	s.mu.Lock()
	s.slow = "o2" // whichever it is: the second one imports until it is told otherwise
	s.mu.Unlock()
	image := anImage()
	vols := s.create(3, image)
	s.available(vols)
	var importing []string
	s.until("another origin to import", func() bool {
		importing = roots(s.tree(image.ID), model.MemberImporting)
		return len(importing) == 1
	})
	first, second := "o1", "o2"
	if importing[0] != second {
		t.Fatalf("%v import", importing)
	}
	var attachments []uuid.UUID
	for i, n := range []string{"n1", "n2"} {
		id, _, err := s.connect(vols[i].ID, n)
		if err != nil {
			t.Fatal(err)
		}
		attachments = append(attachments, id)
		if m := s.tree(image.ID)[n]; *m.Parent == second || m.Fallback != nil && *m.Fallback == second {
			t.Errorf("%s is below a root that has no image yet: %+v", n, m)
		}
	}
	s.mu.Lock()
	s.slow = ""
	s.mu.Unlock()
	s.until("the second root, as a fallback of those below the first", func() bool {
		tree := s.tree(image.ID)
		ok := tree[second].State == model.MemberActive
		for _, n := range []string{"n1", "n2"} {
			m := tree[n]
			ok = ok && (*m.Parent != first || m.Fallback != nil && *m.Fallback == second)
		}
		return ok
	})

	s.turn(first, true)
	s.until("everybody to read from the second root", func() bool {
		tree := s.tree(image.ID)
		return *tree["n1"].Parent != first && *tree["n2"].Parent != first
	})
	id, _, err := s.connect(vols[2].ID, "n1")
	if err != nil {
		t.Fatal(err)
	}
	// A third origin.
	s.add("o3")
	s.until("the image on the third origin", func() bool {
		return slices.Equal(roots(s.tree(image.ID), model.MemberActive), []string{"o1", "o2", "o3"})
	})
	s.turn(first, false)
	for _, id := range append(attachments, id) {
		if _, err := s.svc.Disconnect(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	for _, v := range vols {
		if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	s.until("the image to be gone everywhere", func() bool { return len(s.tree(image.ID)) == 0 })
}

// What another origin has imported is no root if it has another size.
func TestRootOfAnotherSize(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "o2")
	s.mu.Lock()
	s.other = "o2"
	s.mu.Unlock()
	image := anImage()
	s.available(s.create(1, image))
	s.until("the other to have imported", func() bool { return len(roots(s.tree(image.ID), model.MemberImporting)) == 1 })
	for range 3 {
		s.report("o2")
	}
	if m := s.tree(image.ID)["o2"]; m.State != model.MemberImporting {
		t.Errorf("%+v", m)
	}
	s.mu.Lock()
	s.other = ""
	s.mu.Unlock()
	s.until("it to have the right size", func() bool { return s.tree(image.ID)["o2"].State == model.MemberActive })
}

// Where one root is wanted, there is one.
func TestOneRoot(t *testing.T) {
	s := newSite(t, scheduler.Options{Roots: 1}, "o1", "o2")
	image := anImage()
	s.available(s.create(1, image))
	s.report("o1")
	s.report("o2")
	if tree := s.tree(image.ID); len(tree) != 1 {
		t.Errorf("%+v", tree)
	}
}
