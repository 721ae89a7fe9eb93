//go:build lab

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

func (s *site) migrate(t testing.TB, volume, node string) {
	t.Helper()
	err := s.act(t, volume, object{"os-migrate_volume": object{"host": node + "@vmthunder#vmthunder", "force_host_copy": false, "lock_volume": true}})
	if err != nil {
		t.Fatal(err)
	}
}

// moving is how far a volume is on its way.
type moving struct {
	Status    string
	Migration string `json:"migration_status"`
	Type      string `json:"volume_type"`
	Host      string `json:"os-vol-host-attr:host"`
	Metadata  map[string]string
}

func (s *site) moving(t testing.TB, volume string) (m moving, err error) {
	t.Helper()
	var out struct{ Volume *moving }
	out.Volume = &m
	return m, s.admin.Do(limit(t, time.Minute), http.MethodGet, "/volumes/"+volume, nil, &out)
}

// moved waits until a volume is available on a node.
func (s *site) moved(t testing.TB, volume, node string, patience time.Duration) {
	t.Helper()
	s.movedTo(t, volume, node+"@vmthunder#vmthunder", patience)
}

// movedTo waits until a volume is available in a pool.
func (s *site) movedTo(t testing.TB, volume, pool string, patience time.Duration) {
	t.Helper()
	var last moving
	err := cluster.Wait(limit(t, patience+time.Minute), patience, "volume "+volume+" to be on "+pool, func() (bool, error) {
		var err error
		last, err = s.moving(t, volume)
		return last.Status == "available" && last.Migration == "success" && last.Host == pool, err
	})
	if err != nil {
		t.Fatalf("%v: it is %+v", err, last)
	}
}

// copied is how many bytes of the one volume that is moved are copied; -1 if none is.
func (s *site) copied(t testing.TB) int {
	t.Helper()
	rows := s.rows(t, "SELECT done::text FROM tasks WHERE kind = 'migrate' AND status = 'running'")
	if len(rows) != 1 {
		return -1
	}
	return number(t, rows[0])
}

// A detached volume is moved to another node with all that was written to it, on its image's tree
// and without an image, and nothing of it stays on the old one.
func TestMigrate(t *testing.T) {
	s := current(t)
	img, first := s.image(t, 16*mib), s.image(t, 2*mib)
	for name, image := range map[string]string{"image": img.id, "blank": ""} {
		t.Run(name, func(t *testing.T) {
			check := func(x attached) {
				t.Helper()
				s.same(t, x.node, x.device, 8*mib, first.bytes)
				s.same(t, x.node, x.device, 700*mib, first.bytes)
				if image != "" {
					s.same(t, x.node, x.device, 0, img.bytes[:8*mib])
					s.same(t, x.node, x.device, 10*mib, img.bytes[10*mib:])
				} else {
					s.zeros(t, x.node, x.device, 0, 8*mib)
				}
				s.zeros(t, x.node, x.device, 600*mib, 16*mib)
			}
			x := s.newAttached(t, image, n1)
			s.write(t, n1, x.device, 8*mib, first.bytes)
			s.write(t, n1, x.device, 700*mib, first.bytes)
			if err := s.act(t, x.volume, object{"os-migrate_volume": object{"host": n2 + "@vmthunder"}}); err == nil {
				t.Error("a volume in use was moved")
			}
			s.detach(t, x)
			thin := s.thinOf(t, x.volume)
			s.migrate(t, x.volume, n2)
			s.moved(t, x.volume, n2, 2*time.Minute)
			until(t, time.Minute, "nothing to be left on the old home", func() (bool, error) {
				out, err := s.tryRun(t, n1, "dmsetup ls | grep volume; ls -d /sys/kernel/config/target/iscsi/iqn*volume* 2>/dev/null; true")
				_, there := s.manageable(t, n1)["thin-"+thin]
				return out == "" && !there && len(s.rows(t, "SELECT thin_id::text FROM dropped_thins")) == 0, err
			})
			if out := s.run(t, n2, "cat /sys/class/iscsi_session/*/targetname 2>/dev/null | grep volume || true"); out != "" {
				t.Errorf("a session is left on the new home: %s", out)
			}
			y := s.attach(t, x.volume, n2)
			check(y)
			// What is on the new home takes no more than it must.
			if mapped := s.run(t, n2, "dmsetup status vmthunder-volume-"+x.volume+"-cow | cut -d' ' -f4"); number(t, mapped) > 24*mib/512 {
				t.Errorf("its thin device takes %s sectors for 4 MiB of data", mapped)
			}
			s.drop(t, y)
		})
	}
	// One that was never attached is there at once.
	v := s.create(t, img.id)
	s.migrate(t, v, n2)
	s.moved(t, v, n2, 10*time.Second)
	x := s.attach(t, v, n2)
	s.same(t, n2, x.device, 0, img.bytes)
	s.drop(t, x)
}

// Both nodes lose their power while a volume is copied, one after the other. It goes on, and no
// byte is lost.
func TestMigrateInterrupted(t *testing.T) {
	s := current(t)
	first := s.image(t, 2*mib)
	x := s.newAttached(t, "", n1)
	places := []int{0, 300 * mib, 600 * mib, 1022 * mib}
	for _, at := range places {
		s.write(t, n1, x.device, at, first.bytes)
	}
	s.detach(t, x)
	s.shape(t, n1+":out", "160mbit")
	t.Cleanup(func() { s.shape(t, n1+":out", "off") })
	s.migrate(t, x.volume, n2)
	for _, node := range []string{n2, n1} {
		from := max(0, s.copied(t))
		until(t, 2*time.Minute, "the copy to get on", func() (bool, error) { return s.copied(t) > from+64*mib, nil })
		s.reboot(t, node)
		if m, err := s.moving(t, x.volume); err != nil || m.Migration != "migrating" || m.Status != "maintenance" || m.Host != n1+"@vmthunder#vmthunder" {
			t.Fatalf("after the boot of %s: %+v, %v", node, m, err)
		}
		until(t, time.Minute, "the copy to begin anew", func() (bool, error) { d := s.copied(t); return d >= 0 && d < 512*mib, nil })
	}
	s.shape(t, n1+":out", "off")
	s.moved(t, x.volume, n2, 3*time.Minute)
	y := s.attach(t, x.volume, n2)
	for _, at := range places {
		s.same(t, n2, y.device, at, first.bytes)
	}
	s.zeros(t, n2, y.device, 100*mib, 100*mib)
	s.drop(t, y)
}
