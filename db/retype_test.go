package db_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// retype is what the scheduler does where nothing moves.
func (w *world) retype(id, kind uuid.UUID, multiattach bool, from []model.VolumeStatus) error {
	before, err := w.Volume(w.ctx, id, "")
	if err != nil {
		return err
	}
	return w.Tx(w.ctx, func(t *db.Tx) error {
		if err := t.ReserveType(before, kind); err != nil {
			return err
		}
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if err := v.MustBe(from); err != nil {
			return err
		}
		return t.SetType(v, kind, multiattach)
	})
}

// While a volume is on its way to where it can have its new type it counts for both, and for its
// project once, whatever becomes of it.
func TestRetypeTo(t *testing.T) {
	w := newWorld(t)
	gold, iron := w.volumeType("gold"), w.volumeType("iron")
	w.quotas("p1", limits{"volumes_iron": 1, "gigabytes_iron": 5, "volumes": 3})
	of := func(typ uuid.UUID) model.Volume {
		v := vol(5)
		v.VolumeTypeID, v.ConsumesQuota = &typ, true
		return v
	}
	usage := func(when string, gold, iron int64) {
		t.Helper()
		u, err := w.Usage(w.ctx, "p1")
		w.must(err)
		if u["volumes_gold"] != gold || u["volumes_iron"] != iron || u["gigabytes_gold"] != 5*gold || u["gigabytes_iron"] != 5*iron || u["volumes"] != 1 || u["gigabytes"] != 5 {
			t.Errorf("%s: %v", when, u)
		}
	}
	v := w.create(nil, of(gold.ID))[0]
	to := func(kind *uuid.UUID) {
		t.Helper()
		w.tx(func(t *db.Tx) error { return t.SetRetypeTo(v.ID, kind) })
	}
	to(&iron.ID)
	usage("on its way", 1, 1)
	if _, err := w.CreateVolumes(w.ctx, []model.Volume{of(iron.ID)}, nil); !errors.As(err, new(*model.QuotaError)) {
		t.Errorf("another of the type that it is to get: %v", err)
	}
	if err := w.DeleteType(w.ctx, iron.ID); !errors.Is(err, model.ErrInUse) {
		t.Errorf("the type that it is to get is deleted: %v", err)
	}
	if _, err := w.EditExtraSpecs(w.ctx, iron.ID, func(model.StringMap) error { return nil }); !errors.Is(err, model.ErrInUse) {
		t.Errorf("the type that it is to get is changed: %v", err)
	}
	to(nil)
	usage("it stayed", 1, 0)
	to(&iron.ID)
	w.tx(func(t *db.Tx) error {
		v, err := t.LockVolume(v.ID)
		if err != nil {
			return err
		}
		return t.FinishRetype(v)
	})
	usage("it is there", 0, 1)
	w.sameUsage("p1")
	if now := w.volume(v.ID); *now.VolumeTypeID != iron.ID || now.RetypeTo != nil || now.Multiattach {
		t.Errorf("%+v", now)
	}
	to(&gold.ID)
	usage("on its way back", 1, 1)
	_, err := w.MoveVolume(w.ctx, v.ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeAvailable}, To: model.VolumeDeleting})
	w.must(err)
	w.must(w.DeleteRow(w.ctx, v.ID))
	w.sameUsage("p1")
}

// A placed volume is shown on its node, with that node's backend, and found there, as one with a
// home is; it has no thin device, and is in no document.
func TestPlaced(t *testing.T) {
	w := newWorld(t)
	for host, backend := range map[string]string{"n1": "ssd", "n2": ""} {
		o := report(host)
		o.Backend = backend
		w.report(o)
	}
	n1, n2 := "n1", "n2"
	a, b := vol(1), vol(2)
	a.Placed, b.Placed = &n1, &n2
	made := w.create(nil, a, b, vol(4))
	for i, want := range []string{"n1/ssd", "n2/", "none"} {
		for _, v := range []model.Volume{made[i], w.volume(made[i].ID)} {
			got := "none"
			if h := v.Host(); h != nil {
				got = *h + "/" + *v.HostBackend
			}
			if got != want || v.Home != nil || v.ThinID != nil || !v.Pristine() {
				t.Errorf("volume %d is on %s, want %s: %+v", i, got, want, v)
			}
		}
	}
	found := func(host string) (ids []uuid.UUID) {
		t.Helper()
		vs, err := w.ListVolumes(w.ctx, model.ListQuery{Filters: []model.Filter{{Column: "host", Op: "=", Value: host}}})
		w.must(err)
		for _, v := range vs {
			ids = append(ids, v.ID)
		}
		return ids
	}
	if got := found("n1"); !slices.Equal(got, []uuid.UUID{made[0].ID}) {
		t.Errorf("on n1: %v", got)
	}
	st, err := w.NodeState(w.ctx, "n1")
	w.must(err)
	if len(st.Volumes) != 0 {
		t.Errorf("n1 hears of %d volumes", len(st.Volumes))
	}
	allocated, err := w.Allocated(w.ctx)
	w.must(err)
	if allocated["n1"] != (model.Allocation{Volumes: 1, GiB: 1}) || allocated["n2"] != (model.Allocation{Volumes: 1, GiB: 2}) || len(allocated) != 2 {
		t.Errorf("%v", allocated)
	}
	w.tx(func(t *db.Tx) error { _, err := t.SetHome(made[0].ID, "n2"); return err })
	if v := w.volume(made[0].ID); *v.Home != "n2" || v.Placed != nil || *v.HostBackend != "" || len(found("n1")) != 0 || len(found("n2")) != 2 {
		t.Errorf("with a home: %+v", v)
	}
	w.tx(func(t *db.Tx) error {
		if err := t.SetPlaced(made[0].ID, &n1); !errors.Is(err, model.ErrNotFound) {
			w.t.Errorf("a volume with a home is placed: %v", err)
		}
		return t.SetPlaced(made[1].ID, nil)
	})
	if v := w.volume(made[1].ID); v.Host() != nil {
		t.Errorf("%+v", v)
	}
}

// A node's backend is what it said last; an agent that says nothing has the control plane's.
func TestNodeBackend(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"", "ssd", "hdd", ""} {
		o := report("n1")
		o.Backend = name
		w.report(o)
		n, err := w.Node(w.ctx, "n1")
		w.must(err)
		if n.Backend != name {
			t.Errorf("%q, want %q", n.Backend, name)
		}
	}
}

// What a home must fulfil: the volume's type and, in a group that must be together, all of them.
func TestWants(t *testing.T) {
	w := newWorld(t)
	kind := func(name, key, value string) uuid.UUID {
		k, err := w.CreateType(w.ctx, model.VolumeType{Name: name, ExtraSpecs: model.StringMap{key: value}})
		w.must(err)
		return k.ID
	}
	ssd, shared, plain := kind("ssd", "volume_backend_name", "ssd"), kind("shared", "multiattach", "<is> True"), w.volumeType("plain").ID
	w.node("n1")
	n1 := "n1"
	for name, consistent := range map[string]bool{"together": true, "apart": false} {
		g := w.group(consistent, ssd, shared, plain)
		in := func(kind uuid.UUID, placed *string) model.Volume {
			v := vol(1)
			v.VolumeTypeID, v.GroupID, v.Placed = &kind, &g.ID, placed
			return v
		}
		made := w.create(nil, in(plain, nil), in(shared, nil), in(ssd, &n1))
		w.tx(func(t *db.Tx) error {
			group, err := t.GroupWants(g.ID)
			if err != nil {
				return err
			}
			if consistent != group.Together || consistent != (len(group.Specs) == 2) || consistent != (group.Host != nil) {
				w.t.Errorf("%s: %v, %v", name, group, group.Host)
			}
			for i, want := range map[bool][]int{true: {2, 3, 3}, false: {0, 1, 1}}[consistent] {
				wants, err := t.Wants(made[i])
				if err != nil || len(wants) != want {
					w.t.Errorf("%s: volume %d wants %v, %v", name, i, wants, err)
				}
			}
			return nil
		})
	}
}
