package wire

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// twoBackends is a site whose nodes n1 and n2 are of backend ssd and n3 and n4 of hdd, and a type of each.
func twoBackends(t *testing.T) (s *site, ssd, hdd model.VolumeType) {
	t.Helper()
	s = newSite(t, scheduler.Options{}, "o1", "n1", "n2", "n3", "n4")
	for host, backend := range map[string]string{"n1": "ssd", "n2": "ssd", "n3": "hdd", "n4": "hdd"} {
		s.mu.Lock()
		s.agents[host].backend = backend
		s.mu.Unlock()
		s.report(host)
	}
	if err := s.store.SetQuotas(context.Background(), "p", map[string]int64{"volumes": 1000}); err != nil {
		t.Fatal(err)
	}
	return s, s.kind("ssd", "volume_backend_name"), s.kind("hdd", "capabilities:volume_backend_name")
}

// kind is a type whose volumes live on a backend.
func (s *site) kind(backend, key string) model.VolumeType {
	s.t.Helper()
	k, err := s.store.CreateType(context.Background(), model.VolumeType{Name: "type-" + backend, IsPublic: true, ExtraSpecs: model.StringMap{key: backend}})
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

// typed makes volumes of a type.
func (s *site) typed(n int, k model.VolumeType, image *model.Image, group *uuid.UUID) []model.Volume {
	s.t.Helper()
	vols := make([]model.Volume, n)
	for i := range vols {
		vols[i] = model.Volume{
			ID: uuid.New(), ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova", VolumeTypeID: &k.ID, GroupID: group, ConsumesQuota: true,
		}
	}
	out, err := s.svc.Create(context.Background(), vols, k.ExtraSpecs, image)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// typedData is a volume of a type that was written to, at a host.
func (s *site) typedData(k model.VolumeType, image *model.Image, host string) model.Volume {
	s.t.Helper()
	v := s.typed(1, k, image, nil)
	s.available(v)
	att, _, err := s.connect(v[0].ID, host)
	if err == nil {
		_, err = s.svc.Disconnect(context.Background(), att)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s.volume(v[0].ID)
}

// on says where a volume is: HOST of its home, (HOST) if it is placed there.
func on(v model.Volume) string {
	switch {
	case v.Home != nil:
		return *v.Home
	case v.Placed != nil:
		return "(" + *v.Placed + ")"
	}
	return ""
}

// dies has a node found dead.
func (s *site) dies(host string) {
	s.t.Helper()
	s.mu.Lock()
	s.agents[host].down = true
	s.mu.Unlock()
	if _, err := s.store.LoseNodes(context.Background(), time.Now()); err != nil {
		s.t.Fatal(err)
	}
	for h := range s.agents {
		s.report(h)
	}
}

// A volume whose type is not for every node is placed on one that it is for, a batch on all of them; any
// other is nowhere before it is attached.
func TestPlacedByType(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	s.mu.Lock()
	s.agents["n3"].used = 1 << 38
	s.mu.Unlock()
	s.report("n3")
	count := map[string]int{}
	for _, v := range s.typed(100, ssd, nil, nil) {
		count[on(v)]++
	}
	if !maps.Equal(count, map[string]int{"(n1)": 50, "(n2)": 50}) {
		t.Errorf("a batch: %v", count)
	}
	if v := s.typed(1, hdd, anImage(), nil)[0]; on(v) != "(n4)" { // it has more room
		t.Errorf("of hdd: on %q", on(v))
	}
	protocol, err := s.store.CreateType(context.Background(), model.VolumeType{Name: "any", ExtraSpecs: model.StringMap{"storage_protocol": "iSCSI"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []model.Volume{s.create(1, nil)[0], s.typed(1, protocol, nil, nil)[0]} {
		if on(v) != "" {
			t.Errorf("a volume for every node: on %q", on(v))
		}
	}
	tape := s.kind("tape", "volume_backend_name")
	if v := s.typed(1, tape, nil, nil)[0]; v.Status != model.VolumeError || on(v) != "" || !strings.Contains(*v.Error, "volume_backend_name=tape") {
		t.Errorf("of no node: %+v", v)
	}
}

// The home of a volume is the host that asks first, if its type is for that, wherever it was placed;
// else where it was placed, or, with that gone, another that its type is for.
func TestHomeByType(t *testing.T) {
	s, ssd, _ := twoBackends(t)
	for _, image := range []*model.Image{nil, anImage()} {
		vols := s.typed(4, ssd, image, nil)
		s.available(vols)
		placedOn := func(host string) model.Volume {
			i := slices.IndexFunc(vols, func(v model.Volume) bool { return on(v) == "("+host+")" })
			v := vols[i]
			vols = slices.Delete(vols, i, i+1)
			return v
		}
		at := func(v model.Volume, host, home, how string) {
			t.Helper()
			_, a, err := s.connect(v.ID, host)
			if err != nil {
				t.Fatal(err)
			}
			if now := s.volume(v.ID); on(now) != home || now.Placed != nil || !strings.Contains(string(a.ConnectionInfo), how) {
				t.Errorf("at %s it is on %q by %s, want %s by %s", host, on(now), a.ConnectionInfo, home, how)
			}
		}
		at(placedOn("n1"), "n2", "n2", "local")
		at(placedOn("n1"), "n3", "n1", "iscsi")
		at(placedOn("n2"), "elsewhere", "n2", "iscsi")
	}
	v := s.typed(2, ssd, nil, nil)
	i := slices.IndexFunc(v, func(v model.Volume) bool { return on(v) == "(n1)" })
	s.dies("n1")
	if _, _, err := s.connect(v[i].ID, "n4"); err != nil || on(s.volume(v[i].ID)) != "n2" {
		t.Errorf("placed on a node that is dead: on %q, %v", on(s.volume(v[i].ID)), err)
	}
}

// A volume that nothing was ever written to does not wait for a home that is dead.
func TestEmptyLeavesDeadHome(t *testing.T) {
	s, ssd, _ := twoBackends(t)
	empty, data := s.typed(1, ssd, nil, nil)[0], s.typedData(ssd, nil, "n1")
	s.migrate(empty.ID, "n1")
	if v := s.volume(empty.ID); on(v) != "n1" {
		t.Fatalf("on %q", on(v))
	}
	s.dies("n1")
	if _, _, err := s.connect(empty.ID, "n3"); err != nil || on(s.volume(empty.ID)) != "n2" {
		t.Errorf("empty: on %q, %v", on(s.volume(empty.ID)), err)
	}
	if _, _, err := s.connect(data.ID, "n2"); err == nil || on(s.volume(data.ID)) != "n1" {
		t.Errorf("with data: on %q, %v", on(s.volume(data.ID)), err)
	}
}

// os-migrate_volume goes nowhere that the volume's type is not for.
func TestMigrateByType(t *testing.T) {
	s, ssd, _ := twoBackends(t)
	for _, v := range []model.Volume{s.typed(1, ssd, nil, nil)[0], s.typedData(ssd, nil, "n1")} {
		before := on(v)
		err := s.svc.Migrate(context.Background(), v.ID, "n3", model.Task{})
		if !errors.Is(err, model.ErrInvalid) || !strings.Contains(err.Error(), "volume_backend_name=ssd") || on(s.volume(v.ID)) != before {
			t.Errorf("on %q: %v", on(s.volume(v.ID)), err)
		}
	}
}

// Copies are where their source is, if their type is for that; of what was never written to they are
// placed as any new volume.
func TestCopyByType(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	copied := func(src model.Volume, k model.VolumeType) model.Volume {
		t.Helper()
		made, err := s.svc.Copy(context.Background(), []model.Volume{{
			ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova", VolumeTypeID: &k.ID, SourceVolID: &src.ID, Placed: src.Placed,
		}}, k.ExtraSpecs)
		if err != nil {
			t.Fatal(err)
		}
		return made[0]
	}
	empty, data := s.typed(1, ssd, nil, nil)[0], s.typedData(ssd, nil, "n1")
	if v := copied(empty, hdd); v.Status != model.VolumeAvailable || on(v) != "(n3)" && on(v) != "(n4)" {
		t.Errorf("of an empty one: %s on %q", v.Status, on(v))
	}
	if v := copied(data, ssd); v.Status != model.VolumeCreating || on(v) != "n1" || v.Placed != nil {
		t.Errorf("of the same type: %s on %q", v.Status, on(v))
	}
	v := copied(data, hdd)
	if v.Status != model.VolumeError || !strings.Contains(*v.Error, "volume_backend_name=hdd") || len(s.messages(v.ID)) != 1 {
		t.Errorf("of another type: %+v", v)
	}
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	s.until("it to be gone", func() bool { return s.status(v.ID) == "gone" })
}

// Volumes that must live together are placed together, on a node that all their types are for; one whose
// type can't be had there is refused when it is made.
func TestGroupByType(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	plain, err := s.store.CreateType(context.Background(), model.VolumeType{Name: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	g := s.group(true)
	first := s.typed(2, ssd, nil, &g.ID)
	second := s.typed(1, ssd, nil, &g.ID)[0]
	if on(first[0]) != on(second) {
		t.Errorf("on %q and %q", on(first[0]), on(second))
	}
	other := s.typed(1, hdd, nil, &g.ID)[0]
	if other.Status != model.VolumeError || !strings.Contains(*other.Error, "volumes of the group are on node") || on(other) != "" {
		t.Errorf("of another backend: %s on %q, %v", other.Status, on(other), other.Error)
	}
	// The first that is attached settles it for all, and it is not at a node that the others can't go to.
	v := s.typed(1, plain, nil, &g.ID)[0]
	if _, _, err := s.connect(v.ID, "n3"); err != nil {
		t.Fatal(err)
	}
	home := on(s.volume(v.ID))
	if home != "n1" && home != "n2" {
		t.Errorf("a volume for every node went to %q, where the others can't go", home)
	}
	for _, v := range append(first, second) {
		if _, _, err := s.connect(v.ID, "n2"); err != nil || on(s.volume(v.ID)) != home {
			t.Errorf("%q, %v", on(s.volume(v.ID)), err)
		}
	}
}

// What is managed is of a type that its node is for.
func TestManageByType(t *testing.T) {
	s, ssd, hdd := twoBackends(t)
	s.mu.Lock()
	s.agents["n1"].thin[900], s.agents["n1"].thin[901] = true, true
	s.mu.Unlock()
	for ref, k := range map[string]model.VolumeType{"thin-900": hdd, "thin-901": ssd} {
		v, err := s.svc.Manage(context.Background(), model.Volume{ProjectID: "p", UserID: "u", VolumeTypeID: &k.ID, AvailabilityZone: "nova"}, k.ExtraSpecs, "n1", model.ParseReference(ref))
		if err != nil {
			t.Fatal(err)
		}
		if bad := k.ID == hdd.ID; bad != (v.Status == model.VolumeErrorManaging) || bad != (v.Error != nil && strings.Contains(*v.Error, "volume_backend_name=hdd")) {
			t.Errorf("%s: %s, %v", k.Name, v.Status, v.Error)
		}
	}
}
