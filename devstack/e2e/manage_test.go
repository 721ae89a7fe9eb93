//go:build lab

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// manageable is one row of what a node's pool holds.
type manageable struct {
	Reference map[string]string
	Size      int
	Safe      bool   `json:"safe_to_manage"`
	Reason    string `json:"reason_not_safe"`
	CinderID  string `json:"cinder_id"`
}

func (s *site) manageable(t testing.TB, node string) map[string]manageable {
	t.Helper()
	var out struct {
		Rows []manageable `json:"manageable-volumes"`
	}
	path := "/manageable_volumes/detail?host=" + url.QueryEscape(node+"@vmthunder#vmthunder")
	if err := s.admin.Do(limit(t, time.Minute), http.MethodGet, path, nil, &out); err != nil {
		t.Fatal(err)
	}
	rows := map[string]manageable{}
	for _, r := range out.Rows {
		rows[r.Reference["source-name"]] = r
	}
	return rows
}

// manage makes a volume of what is in a node's pool and returns it once it is no more creating.
func (s *site) manage(t testing.TB, node, name string) (id, status string, gib int) {
	t.Helper()
	var out struct {
		Volume struct {
			ID, Status string
			Size       int
		}
	}
	body := object{"volume": object{"host": node + "@vmthunder#vmthunder", "ref": object{"source-name": name}}}
	if err := s.admin.Do(limit(t, time.Minute), http.MethodPost, "/manageable_volumes", body, &out); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Do(limit(t, time.Minute), http.MethodGet, "/volumes/"+out.Volume.ID, nil, &out); err != nil {
		t.Fatal(err)
	}
	return out.Volume.ID, out.Volume.Status, out.Volume.Size
}

// thinOf is the number of the thin device that a volume is kept on.
func (s *site) thinOf(t testing.TB, volume string) string {
	t.Helper()
	return s.rows(t, "SELECT thin_id::text FROM volumes WHERE id = $1", volume)[0]
}

// Volumes that are unmanaged leave nothing but their thin devices, which survive a power cut and are
// given to nobody else. Managed again, by the name they had or by the number of the thin device,
// they hold what was written, on their image or without one.
func TestManage(t *testing.T) {
	s := current(t)
	img, first := s.image(t, 16*mib), s.image(t, 2*mib)
	check := func(x attached, image bool) {
		t.Helper()
		s.same(t, n1, x.device, 8*mib, first.bytes)
		s.same(t, n1, x.device, 700*mib, first.bytes)
		if image {
			s.same(t, n1, x.device, 0, img.bytes[:8*mib])
			s.same(t, n1, x.device, 10*mib, img.bytes[10*mib:])
		} else {
			s.zeros(t, n1, x.device, 0, 8*mib)
		}
		s.zeros(t, n1, x.device, 600*mib, 16*mib)
	}
	var was, thin []string
	for _, image := range []string{img.id, ""} {
		x := s.newAttached(t, image, n1)
		s.write(t, n1, x.device, 8*mib, first.bytes)
		s.write(t, n1, x.device, 700*mib, first.bytes)
		s.detach(t, x)
		was, thin = append(was, x.volume), append(thin, s.thinOf(t, x.volume))
		if m := s.manageable(t, n1)["volume-"+x.volume]; m.Safe || m.CinderID != x.volume {
			t.Errorf("while it is managed: %+v", m)
		}
		if err := s.act(t, x.volume, object{"os-unmanage": object{}}); err != nil {
			t.Fatal(err)
		}
		if err := s.admin.WaitGone(limit(t, time.Minute), x.volume, time.Minute); err != nil {
			t.Fatal(err)
		}
		if left := s.run(t, n1, "dmsetup ls | grep "+x.volume+" || true"); left != "" {
			t.Errorf("devices are left: %s", left)
		}
	}
	s.reboot(t, n1)
	rows := s.manageable(t, n1)
	for _, id := range was {
		if m := rows["volume-"+id]; !m.Safe || m.Size != 1 || m.Reason != "" {
			t.Errorf("volume %s: %+v", id, m)
		}
	}
	other := s.newAttached(t, img.id, n1)
	if slices.Contains(thin, s.thinOf(t, other.volume)) {
		t.Errorf("thin device %s was given again", s.thinOf(t, other.volume))
	}
	s.drop(t, other)
	for i, name := range []string{"volume-" + was[0], "thin-" + thin[1]} {
		id, status, gib := s.manage(t, n1, name)
		if status != "available" || gib != 1 || s.thinOf(t, id) != thin[i] {
			t.Fatalf("%s is %s, %d GiB, on thin device %s", name, status, gib, s.thinOf(t, id))
		}
		x := s.attach(t, id, n1)
		check(x, i == 0)
		s.drop(t, x)
		if _, there := s.manageable(t, n1)["thin-"+thin[i]]; there {
			t.Errorf("thin device %s is there after its volume was deleted", thin[i])
		}
	}

	// One that was made by hand, with 1 GiB and a little of data.
	const number, sectors = 70000, 3 << 21
	s.run(t, n1, fmt.Sprintf("dmsetup message vmthunder-pool 0 'create_thin %d' && dmsetup create hand --table '0 %d thin /dev/mapper/vmthunder-pool %d' && dmsetup mknodes", number, sectors, number))
	s.write(t, n1, "/dev/mapper/hand", 0, first.bytes)
	s.write(t, n1, "/dev/mapper/hand", 1024*mib, first.bytes)
	name := fmt.Sprintf("thin-%d", number)
	if m := s.manageable(t, n1)[name]; m.Safe || m.Size != 2 || !strings.Contains(m.Reason, "hand") {
		t.Errorf("with a device on it: %+v", m)
	}
	if id, status, _ := s.manage(t, n1, name); status != "error" {
		t.Errorf("with a device on it: %s", status)
	} else {
		s.remove(t, id)
	}
	s.run(t, n1, "dmsetup remove hand && dmsetup mknodes")
	if m := s.manageable(t, n1)[name]; !m.Safe || m.Size != 2 {
		t.Errorf("made by hand: %+v", m)
	}
	id, status, gib := s.manage(t, n1, name)
	if status != "available" || gib != 2 {
		t.Fatalf("made by hand: %s, %d GiB", status, gib)
	}
	x := s.attach(t, id, n1)
	s.same(t, n1, x.device, 0, first.bytes)
	s.same(t, n1, x.device, 1024*mib, first.bytes)
	s.zeros(t, n1, x.device, 2000*mib, 16*mib)
	s.drop(t, x)
	if held := s.run(t, n1, "dmsetup status vmthunder-pool"); strings.Fields(held)[6] != "-" {
		t.Errorf("a metadata snapshot is held: %s", held)
	}
}

// A snapshot that was unmanaged is one again, and what is made from it holds what was written
// before it was taken.
func TestManageSnapshot(t *testing.T) {
	s := current(t)
	first, second := s.image(t, 2*mib), s.image(t, 2*mib)
	x := s.newAttached(t, "", n1)
	s.write(t, n1, x.device, 8*mib, first.bytes)
	snap := s.snapshot(t, x.volume)
	s.write(t, n1, x.device, 8*mib, second.bytes)
	ctx := limit(t, 2*time.Minute)
	if err := s.admin.Do(ctx, http.MethodPost, "/snapshots/"+snap+"/action", object{"os-unmanage": object{}}, nil); err != nil {
		t.Fatal(err)
	}
	if left := s.rows(t, "SELECT id::text FROM snapshots"); len(left) != 0 {
		t.Errorf("rows are left: %v", left)
	}
	var out struct{ Snapshot struct{ ID string } }
	body := object{"snapshot": object{"volume_id": x.volume, "ref": object{"source-name": "_snapshot-" + snap}}}
	if err := s.admin.Do(ctx, http.MethodPost, "/manageable_snapshots", body, &out); err != nil {
		t.Fatal(err)
	}
	s.waitSnapshot(t, out.Snapshot.ID, "available")
	y := s.attach(t, s.copyOf(t, "snapshot_id", out.Snapshot.ID, 1), n1)
	s.same(t, n1, y.device, 8*mib, first.bytes)
	s.same(t, n1, x.device, 8*mib, second.bytes)
	s.dropSnapshots(t, out.Snapshot.ID)
	s.drop(t, x, y)
}
