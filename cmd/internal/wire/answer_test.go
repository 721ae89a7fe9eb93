package wire

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

func (s *site) parentOf(image uuid.UUID, host string) string {
	s.t.Helper()
	members, err := s.store.Members(context.Background(), image)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range members {
		if m.Host == host && m.Parent != nil {
			return *m.Parent
		}
	}
	return ""
}

// What a node says in its answer to an attach counts as what it says in a report: a lost
// parent is told once, and that may be in either.
func TestAnswerTellsOfALostParent(t *testing.T) {
	s := newSite(t, scheduler.Options{Degree: 2}, "o1", "n1", "n2", "n3")
	image := anImage()
	vols := s.create(4, image)
	s.available(vols)
	for i, host := range []string{"n1", "n2", "n3"} {
		if _, _, err := s.connect(vols[i].ID, host); err != nil {
			t.Fatal(err)
		}
	}
	s.until("n3 to read", func() bool {
		ms, err := s.store.Members(context.Background(), image.ID)
		return err == nil && len(ms) == 4 && ms[3].Host == "n3" && ms[3].State == model.MemberActive
	})
	before := s.parentOf(image.ID, "n3")

	s.mu.Lock()
	s.agents["n3"].lost[image.ID.String()] = true
	s.mu.Unlock()
	if _, _, err := s.connect(vols[3].ID, "n3"); err != nil {
		t.Fatal(err)
	}
	if after := s.parentOf(image.ID, "n3"); after == before {
		t.Errorf("the parent of n3 is %s still", after)
	}
}
