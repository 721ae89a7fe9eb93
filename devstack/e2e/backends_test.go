//go:build lab

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// typeOn makes a volume type for a backend, until the test ends.
func (s *site) typeOn(t *testing.T, backend string) string {
	t.Helper()
	name := t.Name() + "-" + backend
	id := s.make(t, "/types", "volume_type", object{"name": name, "extra_specs": object{"volume_backend_name": backend}})
	t.Cleanup(func() {
		if err := s.admin.Do(limit(t, time.Minute), http.MethodDelete, "/types/"+id, nil, nil); err != nil {
			t.Error(err)
		}
	})
	return name
}

// typed makes a volume of a type that is available when it returns.
func (s *site) typed(t testing.TB, kind, image string) string {
	t.Helper()
	body := object{"size": 1, "name": t.Name(), "volume_type": kind}
	if image != "" {
		body["imageRef"] = image
	}
	id := s.make(t, "/volumes", "volume", body)
	s.becomes(t, "/volumes/"+id, "volume", "available")
	return id
}

// Nodes of two backends: a volume is made on one that its type is for, and a retype on demand takes it to
// the other with all that was written to it, be it on its image's tree, blank, or made from a snapshot;
// with policy never it stays.
func TestRetypeBetweenBackends(t *testing.T) {
	s := current(t)
	img, first := s.image(t, 16*mib), s.image(t, 2*mib)
	const fast, slow = n1 + "@fast#vmthunder", n2 + "@slow#vmthunder"
	for node, backend := range map[string]string{n1: "fast", n2: "slow"} {
		s.reconfigure(t, node, map[string]string{"DEFAULT.volume_backend_name": backend}, map[string]string{"DEFAULT.volume_backend_name": ""})
		until(t, time.Minute, node+" to be of backend "+backend, func() (bool, error) {
			return s.rows(t, "SELECT backend FROM nodes WHERE host = $1", node)[0] == backend, nil
		})
	}
	isFast, isSlow := s.typeOn(t, "fast"), s.typeOn(t, "slow")
	retype := func(volume, kind, policy string) error {
		return s.act(t, volume, object{"os-retype": object{"new_type": kind, "migration_policy": policy}})
	}
	is := func(volume, pool, kind string) {
		t.Helper()
		if m, err := s.moving(t, volume); err != nil || m.Host != pool || m.Type != kind || m.Status != "available" {
			t.Errorf("%+v, %v; want %s on %s", m, err, kind, pool)
		}
	}
	for name, image := range map[string]string{"image": img.id, "blank": ""} {
		t.Run(name, func(t *testing.T) {
			check := func(x attached) {
				t.Helper()
				s.same(t, x.node, x.device, 8*mib, first.bytes)
				s.same(t, x.node, x.device, 700*mib, first.bytes)
				if image != "" {
					s.same(t, x.node, x.device, 0, img.bytes[:8*mib])
				} else {
					s.zeros(t, x.node, x.device, 0, 8*mib)
				}
			}
			v := s.typed(t, isFast, image)
			is(v, fast, isFast) // before anybody has asked for it
			x := s.attach(t, v, n1)
			s.write(t, n1, x.device, 8*mib, first.bytes)
			s.write(t, n1, x.device, 700*mib, first.bytes)
			if err := retype(v, isSlow, "on-demand"); err == nil || !strings.Contains(err.Error(), "detach it first") {
				t.Errorf("in use: %v", err)
			}
			s.detach(t, x)
			if err := retype(v, isSlow, "never"); err != nil {
				t.Fatal(err)
			}
			is(v, fast, isFast)
			if err := retype(v, isSlow, "on-demand"); err != nil {
				t.Fatal(err)
			}
			s.movedTo(t, v, slow, 2*time.Minute)
			is(v, slow, isSlow)
			x = s.attach(t, v, n2)
			check(x)
			s.detach(t, x)

			// A volume made from a snapshot of it, on its own then, goes back.
			snap := s.snapshot(t, v)
			c := s.copyOf(t, "snapshot_id", snap, 1)
			is(c, slow, isSlow)
			s.dropSnapshots(t, snap)
			if err := retype(c, isFast, "on-demand"); err != nil {
				t.Fatal(err)
			}
			s.movedTo(t, c, fast, 2*time.Minute)
			is(c, fast, isFast)
			y := s.attach(t, c, n1)
			check(y)
			s.drop(t, y)
			s.remove(t, v)
		})
	}
}
