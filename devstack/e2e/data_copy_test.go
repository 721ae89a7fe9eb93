//go:build lab

package e2e

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// object of a request.
type object = map[string]any

// snapshot of a volume, in use or not, that is available when it returns.
func (s *site) snapshot(t testing.TB, volume string) string {
	t.Helper()
	var out struct{ Snapshot struct{ ID string } }
	err := s.admin.Do(limit(t, time.Minute), http.MethodPost, "/snapshots", object{"snapshot": object{"volume_id": volume}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	s.waitSnapshot(t, out.Snapshot.ID, "available")
	return out.Snapshot.ID
}

func (s *site) waitSnapshot(t testing.TB, id, want string) {
	t.Helper()
	until(t, time.Minute, "snapshot "+id+" to be "+want, func() (bool, error) {
		var out struct{ Snapshot struct{ Status string } }
		err := s.admin.Do(limit(t, time.Minute), http.MethodGet, "/snapshots/"+id, nil, &out)
		return out.Snapshot.Status == want, err
	})
}

// copyOf is a volume made from a snapshot (snapshot_id) or a volume (source_volid).
func (s *site) copyOf(t testing.TB, key, source string, gib int) string {
	t.Helper()
	var out struct{ Volume struct{ ID string } }
	err := s.admin.Do(limit(t, time.Minute), http.MethodPost, "/volumes", object{"volume": object{key: source, "size": gib}}, &out)
	if err == nil {
		_, err = s.admin.WaitVolume(limit(t, time.Minute), out.Volume.ID, "available", time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Volume.ID
}

func (s *site) act(t testing.TB, volume string, action object) error {
	t.Helper()
	return s.admin.Do(limit(t, time.Minute), http.MethodPost, "/volumes/"+volume+"/action", action, nil)
}

func (s *site) dropSnapshots(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.admin.Do(limit(t, time.Minute), http.MethodDelete, "/snapshots/"+id, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, time.Minute, "snapshots to be gone", func() (bool, error) {
		return s.rows(t, "SELECT count(*)::text FROM snapshots")[0] == "0", nil
	})
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A snapshot of a volume in use holds what was written until then. Volumes made from it
// and from the volume begin with that, live apart, on the image's tree or without an image,
// and outlive what they were made from, in any order and over a power cut.
func TestDataCopies(t *testing.T) {
	s := current(t)
	for name, size := range map[string]int{"image": 16 * mib, "blank": 0} {
		t.Run(name, func(t *testing.T) {
			first, second := s.image(t, 2*mib), s.image(t, 2*mib)
			var image string
			var bytes []byte
			if size > 0 {
				img := s.image(t, size)
				image, bytes = img.id, img.bytes
			}
			x := s.newAttached(t, image, n1)
			s.write(t, n1, x.device, 8*mib, first.bytes)
			s.write(t, n1, x.device, 700*mib, first.bytes)
			snap := s.snapshot(t, x.volume) // attached all the while
			s.write(t, n1, x.device, 8*mib, second.bytes)
			clone := s.copyOf(t, "source_volid", x.volume, 1)
			s.write(t, n1, x.device, 700*mib, second.bytes)
			from := s.copyOf(t, "snapshot_id", snap, 2)

			check := func(when string, node, device string, at8, at700 []byte) {
				t.Helper()
				s.same(t, node, device, 8*mib, at8)
				s.same(t, node, device, 700*mib, at700)
				if bytes != nil {
					s.same(t, node, device, 0, bytes[:8*mib])
					s.same(t, node, device, 10*mib, bytes[10*mib:])
				} else {
					s.zeros(t, node, device, 0, 8*mib)
				}
				s.zeros(t, node, device, 600*mib, 16*mib)
				if t.Failed() {
					t.Fatal(when)
				}
			}
			a, b := s.attach(t, from, n1), s.attach(t, clone, n1)
			check("the volume", n1, x.device, second.bytes, second.bytes)
			check("from the snapshot", n1, a.device, first.bytes, first.bytes)
			check("the clone", n1, b.device, second.bytes, first.bytes)
			s.zeros(t, n1, a.device, 1500*mib, 64*mib) // what is larger than the snapshot

			s.write(t, n1, a.device, 8*mib, second.bytes)
			check("the clone, after writes to another", n1, b.device, second.bytes, first.bytes)
			s.drop(t, b)
			s.detach(t, x)

			s.reboot(t, n1)
			s.waitDevice(t, a)
			check("from the snapshot, after a power cut", n1, a.device, second.bytes, first.bytes)
			again := s.attach(t, s.copyOf(t, "snapshot_id", snap, 1), n1)
			check("a second one from the snapshot", n1, again.device, first.bytes, first.bytes)

			// Back to what it was.
			if err := s.act(t, x.volume, object{"revert": object{"snapshot_id": snap}}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.admin.WaitVolume(limit(t, time.Minute), x.volume, "available", time.Minute); err != nil {
				t.Fatal(err)
			}
			x = s.attach(t, x.volume, n1)
			check("reverted", n1, x.device, first.bytes, first.bytes)

			s.dropSnapshots(t, snap)
			s.drop(t, x)
			check("what was made from what is gone", n1, again.device, first.bytes, first.bytes)
			s.drop(t, a, again)
			until(t, time.Minute, "the thin devices to be gone", func() (bool, error) {
				return s.rows(t, "SELECT count(*)::text FROM dropped_thins")[0] == "0", nil
			})
		})
	}
}

// Under a writer that never stops, a snapshot is what the volume was at one moment: the
// blocks that the writer had done are there in its order, and none that came later.
func TestDataSnapshotUnderLoad(t *testing.T) {
	s := current(t)
	img := s.image(t, 16*mib)
	x := s.newAttached(t, img.id, n1)
	ctx, stop := context.WithCancel(limit(t, 2*time.Minute))
	defer stop()
	var writer errgroup.Group
	writer.Go(func() error {
		// Block i of 4 KiB says i, each written when the one before is on the disk.
		_, err := s.node(t, n1).Run(ctx, "sh", "-c", "i=0; while :; do i=$((i+1)); printf '%-4096d' $i; done | dd of="+x.device+" bs=4096 oflag=direct iflag=fullblock status=none")
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		return err
	})
	var snaps []string
	for range 3 {
		snaps = append(snaps, s.snapshot(t, x.volume))
	}
	stop()
	_ = writer.Wait()
	s.run(t, n1, "while fuser -s "+x.device+"; do :; done; true")
	before := 0
	for _, snap := range snaps {
		y := s.attach(t, s.copyOf(t, "snapshot_id", snap, 1), n1)
		// How many blocks in order there are, and that none of a later number is behind them.
		out := s.run(t, n1, `dd if=`+y.device+` bs=1M count=16 iflag=direct status=none | tr -d '\000' | fold -w 4096 | awk '$1 == NR && NF == 1 {n = NR; next} {exit} END {print n+0}'`)
		n := number(t, out)
		if n < before {
			t.Errorf("the snapshot has %d blocks, the one before it had %d", n, before)
		}
		s.same(t, n1, y.device, n*4096, img.bytes[n*4096:])
		before = n
		s.drop(t, y)
	}
	if before == 0 {
		t.Error("nothing was written while the snapshots were taken")
	}
	s.detach(t, x)
	s.dropSnapshots(t, snaps...)
	s.remove(t, x.volume)
}

// A volume grows at rest and under its user's hands, and what was written stays.
func TestDataExtend(t *testing.T) {
	s := current(t)
	for name, size := range map[string]int{"image": 16 * mib, "blank": 0} {
		t.Run(name, func(t *testing.T) {
			data := s.image(t, 2*mib)
			var image string
			if size > 0 {
				image = s.image(t, size).id
			}
			x := s.newAttached(t, image, n1)
			s.write(t, n1, x.device, 900*mib, data.bytes)
			s.detach(t, x)
			if err := s.act(t, x.volume, object{"os-extend": object{"new_size": 2}}); err != nil {
				t.Fatal(err)
			}
			x = s.attach(t, x.volume, n1)
			grown := func(gib int) {
				t.Helper()
				until(t, time.Minute, "the device to have grown", func() (bool, error) {
					return number(t, s.run(t, n1, "blockdev --getsize64 "+x.device)) == gib*1024*mib, nil
				})
				s.same(t, n1, x.device, 900*mib, data.bytes)
				s.zeros(t, n1, x.device, (gib*1024-8)*mib, 8*mib)
				s.write(t, n1, x.device, (gib*1024-2)*mib, data.bytes)
				s.same(t, n1, x.device, (gib*1024-2)*mib, data.bytes)
			}
			grown(2)
			// With the device held open, as a VM does.
			s.run(t, n1, "sh -c 'exec 3<"+x.device+"; sleep 300' >/dev/null 2>&1 & echo $! >/run/holder")
			if err := s.act(t, x.volume, object{"os-extend": object{"new_size": 3}}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.admin.WaitVolume(limit(t, time.Minute), x.volume, "in-use", time.Minute); err != nil {
				t.Fatal(err)
			}
			grown(3)
			s.same(t, n1, x.device, 2046*mib, data.bytes)
			s.run(t, n1, "kill $(cat /run/holder)")
			s.reboot(t, n1)
			s.waitDevice(t, x)
			s.same(t, n1, x.device, 3070*mib, data.bytes)
			s.drop(t, x)
		})
	}
}
