package agent_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/reconcile"
)

// What an agent that is at rest says is what the control plane wants to hear: it finds no difference,
// also where everything has gone again.
func TestAtRestNothingDiffers(t *testing.T) {
	run(t, func(t *testing.T, b *bed) {
		chain(b)
		same := func(name string, images []model.DesiredImage, volumes []model.DesiredVolume) {
			t.Helper()
			n := b.nodes[name]
			n.apply(images, volumes)
			n.settled()
			if fs := reconcile.Diff(n.doc(images, volumes), n.observe()); len(fs) > 0 {
				t.Errorf("%s: %v", name, fs)
			}
		}
		same("origin", images(b.root("a", "b", "c")), nil)
		same("a", images(b.relay("a", "origin", nil, "b", "c")), nil)
		relay := images(b.relay("b", "a", []string{"origin"}))
		kept := in(model.Inactive, volume(volB, 22))
		same("b", relay, volumes(volume(volA, 20, "c"), blank(volC, 21), kept))
		// Nobody has them any more.
		a, c := in(model.Inactive, volume(volA, 20)), in(model.Inactive, blank(volC, 21))
		a.Materialized, c.Materialized = true, true
		same("b", relay, volumes(a, c, kept))
		relay[0].State = model.Absent
		same("b", relay, volumes(in(model.Absent, a), in(model.Absent, c), in(model.Absent, kept)))
		same("a", images(b.relay("a", "origin", nil)), nil) // which nobody reads from any more
	})
}
