package wire

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func (s *site) members(image uuid.UUID) []model.Member {
	s.t.Helper()
	ms, err := s.store.Members(context.Background(), image)
	if err != nil {
		s.t.Fatal(err)
	}
	return ms
}

// An image that nobody has used yet is imported, and stands where it was asked for, until
// that is taken back.
func TestWarm(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2", "n3", "n4", "n5")
	ctx, image := context.Background(), anImage()
	hosts := []string{"n1", "n2", "n3", "n4"}
	st, err := s.svc.Warm(ctx, *image, hosts)
	if err != nil || st == model.ImageActive || len(s.members(image.ID)) > 1 {
		t.Fatalf("before the import: %s, %v, %v", st, err, s.members(image.ID))
	}
	s.until("the import", func() bool {
		i, err := s.store.Image(ctx, image.ID)
		return err == nil && i.Status == model.ImageActive
	})
	for range 2 { // the second time changes nothing
		if st, err := s.svc.Warm(ctx, *image, hosts); err != nil || st != model.ImageActive {
			t.Fatalf("warm: %s, %v", st, err)
		}
	}
	ms := s.members(image.ID)
	if bad := tree.Check(ms, 2); len(ms) != 5 || len(bad) > 0 {
		t.Errorf("%d members, %v", len(ms), bad)
	}
	for _, m := range ms {
		if m.Pinned != slices.Contains(hosts, m.Host) {
			t.Errorf("%s is pinned: %t", m.Host, m.Pinned)
		}
	}
	s.until("the stacks to stand", func() bool {
		return !slices.ContainsFunc(s.members(image.ID), func(m model.Member) bool { return m.State != model.MemberActive })
	})
	// A volume comes and goes: the place stays.
	vols := s.create(1, image)
	att, _, err := s.connect(vols[0].ID, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.svc.Disconnect(ctx, att); err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Delete(ctx, vols[0].ID, model.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.until("the volume to be gone", func() bool { return s.status(vols[0].ID) == "gone" })
	if err := s.svc.Unwarm(ctx, image.ID, []string{"n3", "n4", "elsewhere"}); err != nil {
		t.Fatal(err)
	}
	s.until("n3 and n4 to have left", func() bool { return len(s.members(image.ID)) == 3 })
	for _, m := range s.members(image.ID) {
		if m.Role == model.RoleRelay && m.Host != "n1" && m.Host != "n2" {
			t.Errorf("%s is still there", m.Host)
		}
	}
	if err := s.svc.Unwarm(ctx, image.ID, hosts); err != nil {
		t.Fatal(err)
	}
	s.until("the image to be gone", func() bool {
		_, err := s.store.Image(ctx, image.ID)
		return errors.Is(err, model.ErrNotFound)
	})
	if err := s.svc.Unwarm(ctx, image.ID, hosts); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("release what is not here: %v", err)
	}
}

// One host that can't be warmed is no reason to warm the others.
func TestWarmRefusal(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	ctx, image := context.Background(), anImage()
	s.available(s.create(1, image))
	if err := s.store.SetNodeEnabled(ctx, "n2", false, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"n2", "elsewhere"} {
		if _, err := s.svc.Warm(ctx, *image, []string{"n1", h}); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("warm %s: %v", h, err)
		}
	}
	if _, err := s.svc.Warm(ctx, *anImage(), []string{"elsewhere"}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("warm elsewhere: %v", err)
	}
	if _, err := s.svc.Warm(ctx, *image, []string{"o1"}); err != nil { // has it anyway
		t.Error(err)
	}
	images, err := s.store.Images(ctx)
	if err != nil || len(images) != 1 || len(s.members(image.ID)) != 1 {
		t.Errorf("%d images, %v, members %v: a refusal left something", len(images), err, s.members(image.ID))
	}
}
