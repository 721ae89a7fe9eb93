package wire

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// A connection tells what the volume's type says of it: QoS specs that are for the
// hypervisor, and whether it may be cached there.
func TestConnectionOptionsOfType(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	typ, err := s.store.CreateType(ctx, model.VolumeType{Name: "gold", ExtraSpecs: model.StringMap{"cacheable": "<is> True"}})
	must(err)
	both, err := s.store.CreateQoS(ctx, model.QoS{Name: "both", Consumer: "both", Specs: model.StringMap{"read_iops_sec_per_gb": "100", "x": "y"}})
	must(err)
	back, err := s.store.CreateQoS(ctx, model.QoS{Name: "back", Specs: model.StringMap{"x": "y"}})
	must(err)
	for _, c := range []struct {
		qos  *model.QoS
		want string
	}{{&both, `{"read_iops_sec":200,"x":"y"}`}, {&back, "null"}, {nil, "null"}} {
		must(s.store.DisassociateQoS(ctx, both.ID, nil))
		must(s.store.DisassociateQoS(ctx, back.ID, nil))
		if c.qos != nil {
			must(s.store.AssociateQoS(ctx, c.qos.ID, typ.ID))
		}
		vols, err := s.svc.Create(ctx, []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 2, AvailabilityZone: "nova", VolumeTypeID: &typ.ID}}, nil, nil)
		must(err)
		for _, host := range []string{"n1", "elsewhere"} { // local, and iscsi
			if host == "elsewhere" {
				vols, err = s.svc.Create(ctx, []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 2, AvailabilityZone: "nova", VolumeTypeID: &typ.ID}}, nil, nil)
				must(err)
			}
			_, a, err := s.connect(vols[0].ID, host)
			must(err)
			var info map[string]json.RawMessage
			must(json.Unmarshal(a.ConnectionInfo, &info))
			if got := strings.ReplaceAll(string(info["qos_specs"]), " ", ""); got != c.want || string(info["cacheable"]) != "true" {
				t.Errorf("%s: qos_specs %s, want %s; cacheable %s", host, got, c.want, info["cacheable"])
			}
		}
	}
}

// A volume that no node can hold tells its owner so, with the request that made it.
func TestMessageWhenNoNodeFits(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "n1")
	vols, err := s.svc.Create(context.Background(), []model.Volume{{
		ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "moon", RequestID: "req-7",
	}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := s.store.Messages(context.Background(), model.ListQuery{ProjectID: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if len(ms) != 1 || ms[0].EventID != "VOLUME_VOLUME_001_003" || ms[0].RequestID != "req-7" || *ms[0].ResourceUUID != vols[0].ID ||
		ms[0].UserMessage != "schedule allocate volume:Could not find any available weighted backend. (no node is alive in availability zone moon)" {
		t.Errorf("%+v", ms)
	}
	if vols[0].Status != model.VolumeError {
		t.Errorf("status %s", vols[0].Status)
	}
	of := model.StringMap{"storage_protocol": "FC"}
	vols, err = s.svc.Create(context.Background(), []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova"}}, of, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := vols[0]; v.Status != model.VolumeError || v.Error == nil || *v.Error != "no node's pool is as the volume type wants it: storage_protocol=FC" {
		t.Errorf("volume is %s: %v", v.Status, v.Error)
	}
}

// One that is made, and finds no room where it is wanted first, tells so as well.
func TestMessageWhenPoolIsFull(t *testing.T) {
	s := newSite(t, scheduler.Options{Backend: model.Backend{ReservedPercentage: 60}}, "n1") // half of its pool is free
	for host, want := range map[string]string{
		"n1":        "the pool of node n1 is full: ",
		"elsewhere": "no node in availability zone nova is alive with room for volume ",
	} {
		v := s.create(1, nil)[0]
		s.available([]model.Volume{v})
		if _, _, err := s.connect(v.ID, host); err == nil {
			t.Fatalf("%s: it is attached", host)
		}
		ms, err := s.store.Messages(context.Background(), model.ListQuery{
			Filters: []model.Filter{{Column: "resource_uuid", Op: "=", Value: v.ID.String()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(ms) != 1 || ms[0].EventID != "VOLUME_VOLUME_002_003" ||
			!strings.HasPrefix(ms[0].UserMessage, "attach volume:Could not find any available weighted backend. ("+want) {
			t.Errorf("%s: %+v", host, ms)
		}
	}
}

// Snapshots that stay with who gave the volume away do not go with the volume, unless an
// administrator says so.
func TestDeleteAfterTransfer(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "n1")
	ctx := context.Background()
	v := s.written(nil)
	sn := s.snapshot(v.ID)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	x, err := s.store.CreateTransfer(ctx, model.Transfer{VolumeID: v.ID, Salt: "s", KeyHash: "h", NoSnapshots: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.AcceptTransfer(ctx, x.ID, "q", "r"); err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Delete(ctx, v.ID, model.DeleteOptions{Cascade: true}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("with snapshots of others: %v, want a conflict", err)
	}
	if got, err := s.store.Snapshot(ctx, sn.ID, "p"); err != nil || got.Status != model.SnapshotAvailable || s.status(v.ID) != model.VolumeAvailable {
		t.Errorf("snapshot %s, volume %s, %v", got.Status, s.status(v.ID), err)
	}
	if err := s.svc.Delete(ctx, v.ID, model.DeleteOptions{Cascade: true, Foreign: true}); err != nil {
		t.Fatal(err)
	}
	s.until("the volume to be gone", func() bool { return s.status(v.ID) == "gone" })
	if _, err := s.store.Snapshot(ctx, sn.ID, ""); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("the snapshot is left: %v", err)
	}
}
