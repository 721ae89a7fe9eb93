package agent_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/fake"
)

// A volume that the document does not speak of any more leaves its thin device behind, which can
// be listed, and a document that has it again makes it stand on it.
func TestThinsOutliveTheirVolume(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		b.start()
		n := b.nodes["a"]
		n.apply(nil, volumes(blank(volA, 20), blank(volB, 21)), volA, volB)
		n.dm.SetThinMapped(fake.PoolName, 20, 3*128)
		n.apply(nil, volumes(in(model.Inactive, blank(volA, 20)), blank(volB, 21)), volA)
		n.until("device down", func(o model.Observed) bool { return o.Volume(volA).State == model.DeviceInactive })
		n.apply(nil, volumes(blank(volB, 21)), volB)
		n.settled()
		if !slices.Contains(n.pool.Thins(), 20) {
			t.Fatal("the thin device went with its volume")
		}
		got, err := n.agent.Thins(t.Context(), []int64{21})
		if err != nil || len(got.Thins) != 1 || got.Thins[0].ID != 20 || got.Thins[0].EndBytes != 3*64<<10 || got.Thins[0].Device != "" {
			t.Errorf("%+v, %v", got, err)
		}
		if st, err := n.pool.Status(t.Context()); err != nil || got.PoolUUID != st.UUID {
			t.Errorf("pool %s, %+v, %v", got.PoolUUID, st, err)
		}
		again := blank(volC, 20)
		again.Materialized = true
		if o := n.apply(nil, volumes(again, blank(volB, 21)), volC); o.Volume(volC).State != model.DeviceReady {
			t.Errorf("%+v", o.Volume(volC))
		}
		n.pool.FailNext("thins", "", driver.ErrNotFound)
		if _, err := n.agent.Thins(t.Context(), nil); !errors.Is(err, model.ErrUnavailable) {
			t.Errorf("%v, want unavailable", err)
		}
	})
}
