//go:build lab

package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// make posts an object under a key and returns the id of what is made.
func (s *site) make(t testing.TB, path, key string, body object) string {
	t.Helper()
	var out map[string]struct{ ID string }
	if err := s.admin.Do(limit(t, time.Minute), http.MethodPost, path, object{key: body}, &out); err != nil {
		t.Fatal(err)
	}
	for _, made := range out {
		return made.ID
	}
	return ""
}

// groupType is one whose groups have snapshots of one moment.
func (s *site) groupType(t testing.TB) string {
	t.Helper()
	return s.make(t, "/group_types", "group_type", object{"name": t.Name(), "group_specs": object{"consistent_group_snapshot_enabled": "<is> True"}})
}

// grouped makes a volume in a group, image "" for a blank one.
func (s *site) grouped(t testing.TB, group, image string) string {
	t.Helper()
	want := object{"size": 1, "group_id": group, "volume_type": "__DEFAULT__"}
	if image != "" {
		want["imageRef"] = image
	}
	id := s.make(t, "/volumes", "volume", want)
	if _, err := s.admin.WaitVolume(limit(t, 2*time.Minute), id, "available", 90*time.Second); err != nil {
		t.Fatal(err)
	}
	return id
}

// becomes waits for a status of a group or group snapshot.
func (s *site) becomes(t testing.TB, path, key, status string) {
	t.Helper()
	until(t, time.Minute, path+" to be "+status, func() (bool, error) {
		var out map[string]struct{ Status string }
		err := s.admin.Do(limit(t, time.Minute), http.MethodGet, path, nil, &out)
		return out[key].Status == status, err
	})
}

// endGroup deletes a group with its volumes, and waits until it is gone.
func (s *site) endGroup(t testing.TB, id string) {
	t.Helper()
	err := s.admin.Do(limit(t, time.Minute), http.MethodPost, "/groups/"+id+"/action", object{"delete": object{"delete-volumes": true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "group "+id+" to be gone", func() (bool, error) {
		return s.rows(t, "SELECT count(*)::text FROM volume_groups WHERE id = $1", id)[0] == "0", nil
	})
}

// turns writes a number to the first device and, when that is acknowledged, to the second,
// and so on with the next number. It never stops.
const turns = `
import mmap, os, sys
devices = [os.open(path, os.O_WRONLY | os.O_DIRECT) for path in sys.argv[1:]]
block, i = mmap.mmap(-1, 4096), 0
while True:
    i += 1
    block[:] = b'%-4096d' % i
    for d in devices:
        os.pwritev(d, [block], 100 << 20)
`

// written is the number on a device that [turns] has written to.
func (s *site) written(t testing.TB, x attached) int {
	t.Helper()
	text := strings.Trim(string(s.read(t, x.node, x.device, 100*mib, 4096)), " \x00")
	if text == "" {
		return 0
	}
	return number(t, text)
}

// While a user writes to two volumes in turns, each write when the one before is on the disk,
// snapshots of their group and copies of it have every write that a later one depends on.
func TestDataGroupUnderLoad(t *testing.T) {
	s := current(t)
	kind := s.groupType(t)
	group := s.make(t, "/groups", "group", object{"group_type": kind, "volume_types": []string{"__DEFAULT__"}})
	first := s.attach(t, s.grouped(t, group, s.image(t, 16*mib).id), n1)
	second := s.attach(t, s.grouped(t, group, ""), n1)
	ctx, stop := context.WithCancel(limit(t, 3*time.Minute))
	defer stop()
	var writer errgroup.Group
	writer.Go(func() error {
		_, err := s.node(t, n1).Run(ctx, "python3", "-c", turns, first.device, second.device)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		return err
	})
	until(t, time.Minute, "the writer to be at it", func() (bool, error) { return s.written(t, second) > 0, nil })
	var snaps, copies []string
	for range 3 {
		id := s.make(t, "/group_snapshots", "group_snapshot", object{"group_id": group})
		s.becomes(t, "/group_snapshots/"+id, "group_snapshot", "available")
		snaps = append(snaps, id)
	}
	copies = append(copies, s.make(t, "/groups/action", "create-from-src", object{"source_group_id": group}))
	s.becomes(t, "/groups/"+copies[0], "group", "available")
	before := s.written(t, second)
	until(t, time.Minute, "the writer to go on", func() (bool, error) { return s.written(t, second) > before, nil })
	stop()
	if err := writer.Wait(); err != nil {
		t.Fatal(err)
	}
	s.run(t, n1, "while fuser -s "+first.device+" "+second.device+"; do :; done; true")
	for _, id := range snaps {
		made := s.make(t, "/groups/action", "create-from-src", object{"group_snapshot_id": id})
		s.becomes(t, "/groups/"+made, "group", "available")
		copies = append(copies, made)
	}
	for i, id := range copies {
		// The volume that is a copy of another, by way of a snapshot or at once.
		of := func(x attached) attached {
			ids := s.rows(t, `SELECT v.id::text FROM volumes v LEFT JOIN snapshots n ON n.id = v.snapshot_id
				WHERE v.group_id = $1 AND coalesce(n.volume_id, v.source_volid) = $2`, id, x.volume)
			if len(ids) != 1 {
				t.Fatalf("copies of volume %s in group %s: %v", x.volume, id, ids)
			}
			return s.attach(t, ids[0], n1)
		}
		a, b := of(first), of(second)
		on, after := s.written(t, a), s.written(t, b)
		if d := on - after; d < 0 || d > 1 || after == 0 {
			t.Errorf("copy %d has write %d on the first volume and %d on the second", i, on, after)
		}
		t.Logf("copy %d: %d, %d", i, on, after)
		s.detach(t, a, b)
		s.endGroup(t, id)
	}
	s.detach(t, first, second)
	for _, id := range snaps {
		if err := s.admin.Do(limit(t, time.Minute), http.MethodDelete, "/group_snapshots/"+id, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, time.Minute, "group snapshots to be gone", func() (bool, error) {
		return s.rows(t, "SELECT count(*)::text FROM group_snapshots")[0] == "0", nil
	})
	s.endGroup(t, group)
	if err := s.admin.Do(limit(t, time.Minute), http.MethodDelete, "/group_types/"+kind, nil, nil); err != nil {
		t.Error(err)
	}
}

// The volumes of a consistent group have one home; a host that asks for another of them
// reaches it there.
func TestDataGroupHome(t *testing.T) {
	s := current(t)
	kind := s.groupType(t)
	group := s.make(t, "/groups", "group", object{"group_type": kind, "volume_types": []string{"__DEFAULT__"}})
	data := s.image(t, 4*mib)
	here := s.attach(t, s.grouped(t, group, ""), n1)
	there := s.grouped(t, group, "")
	a, err := s.admin.Attach(limit(t, 2*time.Minute), there, n2, s.node(t, n2).Initiator())
	if err != nil {
		t.Fatal(err)
	}
	if homes := s.rows(t, "SELECT DISTINCT home FROM volumes WHERE group_id = $1", group); len(homes) != 1 || homes[0] != n1 {
		t.Errorf("homes %v, want %s", homes, n1)
	}
	if a.Device() != "" {
		t.Errorf("%s has a device of its own at %s", there, n2)
	}
	s.write(t, n1, here.device, 0, data.bytes)
	s.same(t, n1, here.device, 0, data.bytes)
	s.detach(t, here, attached{volume: there, node: n2, id: a.ID})
	s.endGroup(t, group)
	if err := s.admin.Do(limit(t, time.Minute), http.MethodDelete, "/group_types/"+kind, nil, nil); err != nil {
		t.Error(err)
	}
}
