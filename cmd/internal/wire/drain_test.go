package wire

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// A node that drains is read from by nobody, and takes no new volume, not even of a server that runs there.
// What lives there is listed. Of an image that it is the only root of another origin becomes one.
func TestDrain(t *testing.T) {
	s := newSite(t, scheduler.Options{Degree: 1, Roots: 1}, "o1", "n1", "n2", "n3")
	ctx := context.Background()
	image := anImage()
	vols := s.create(4, image)
	s.available(vols)
	for i, n := range []string{"n1", "n2"} {
		if _, _, err := s.connect(vols[i].ID, n); err != nil {
			t.Fatal(err)
		}
	}
	if m := s.tree(image.ID)["n2"]; *m.Parent != "n1" {
		t.Fatalf("n2 is below %s", *m.Parent)
	}
	if _, _, err := s.connect(vols[2].ID, "n3"); err != nil {
		t.Fatal(err)
	}
	left := func(host string) model.Drain {
		d, err := s.svc.Drained(ctx, host)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if err := s.svc.Drain(ctx, "n1", true); err != nil {
		t.Fatal(err)
	}
	s.until("nobody to read from n1", func() bool { d := left("n1"); return d.Node.Draining && d.Readers == 0 })
	if d := left("n1"); len(d.Volumes) != 1 || d.Volumes[0].ID != vols[0].ID || len(d.Volumes[0].Attachments) != 1 || len(d.OnlyRoots) != 0 {
		t.Errorf("left on n1: %d readers, %d volumes, only root of %v", d.Readers, len(d.Volumes), d.OnlyRoots)
	}
	// A server there gets its volume from elsewhere.
	if _, _, err := s.connect(vols[3].ID, "n1"); err != nil {
		t.Fatal(err)
	}
	if v, err := s.store.Volume(ctx, vols[3].ID, ""); err != nil || *v.Home == "n1" {
		t.Errorf("home %v, %v", v.Home, err)
	}

	// The only origin.
	if err := s.svc.Drain(ctx, "o1", true); err != nil {
		t.Fatal(err)
	}
	if d := left("o1"); d.Readers == 0 || len(d.OnlyRoots) != 1 {
		t.Errorf("left on o1: %d readers, %d volumes, only root of %v", d.Readers, len(d.Volumes), d.OnlyRoots)
	}
	s.add("o2")
	if err := s.svc.Drain(ctx, "o1", true); err != nil { // once more, now that there is another
		t.Fatal(err)
	}
	s.until("nobody to read from o1", func() bool { d := left("o1"); return d.Readers == 0 && len(d.OnlyRoots) == 0 })
	if r := roots(s.tree(image.ID), model.MemberActive); !slices.Contains(r, "o2") {
		t.Errorf("roots %v", r)
	}
	if err := s.svc.Drain(ctx, "o2", true); err != nil { // both: then neither has it for the other
		t.Fatal(err)
	}
	if d := left("o1"); len(d.OnlyRoots) != 1 {
		t.Errorf("left on o1: %d readers, %d volumes, only root of %v", d.Readers, len(d.Volumes), d.OnlyRoots)
	}
	for _, n := range []string{"n1", "o1", "o2"} {
		if err := s.svc.Drain(ctx, n, false); err != nil {
			t.Fatal(err)
		}
		if d := left(n); d.Node.Draining || !d.Node.Enabled || d.Node.DisabledReason != nil {
			t.Errorf("%+v", d.Node)
		}
	}
	if err := s.svc.Drain(ctx, "nobody", true); !errors.Is(err, model.ErrNotFound) {
		t.Error(err)
	}
}
