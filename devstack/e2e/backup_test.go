//go:build lab

package e2e

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// backupShare has all nodes keep backups in one directory of the host, until the test ends.
func (f *faults) backupShare() string {
	f.t.Helper()
	dir := filepath.Join(f.dir, "backups")
	if err := f.c.ShareBackups(limit(f.t, 2*time.Minute), dir, origin, n1); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := f.c.UnshareBackups(limit(f.t, time.Minute), origin, n1); err != nil {
			f.t.Error(err)
		}
	})
	return dir
}

func (f *faults) beginBackup(volume string, incremental bool) string {
	f.t.Helper()
	var out struct{ Backup struct{ ID string } }
	err := f.admin.Do(limit(f.t, time.Minute), http.MethodPost, "/backups",
		object{"backup": object{"volume_id": volume, "name": f.t.Name(), "incremental": incremental}}, &out)
	if err != nil {
		f.t.Fatal(err)
	}
	return out.Backup.ID
}

// backedUp waits until a backup is available and returns how many chunks it has stored.
func (f *faults) backedUp(volume, id string) int {
	f.t.Helper()
	var out struct {
		Backup struct {
			Status     string
			FailReason string `json:"fail_reason"`
			Objects    int    `json:"object_count"`
		}
	}
	until(f.t, 5*time.Minute, "backup "+id+" to be available", func() (bool, error) {
		if err := f.admin.Do(limit(f.t, time.Minute), http.MethodGet, "/backups/"+id, nil, &out); err != nil {
			return false, err
		}
		if out.Backup.Status == "error" {
			f.t.Fatalf("backup failed: %s", out.Backup.FailReason)
		}
		return out.Backup.Status == "available", nil
	})
	f.becomes(volume, "available")
	return out.Backup.Objects
}

// restore begins one, to a new volume if none is given, and returns the volume.
func (f *faults) restore(id, volume string) string {
	f.t.Helper()
	to := object{}
	if volume != "" {
		to["volume_id"] = volume
	}
	var out struct {
		Restore struct {
			VolumeID string `json:"volume_id"`
		}
	}
	if err := f.admin.Do(limit(f.t, time.Minute), http.MethodPost, "/backups/"+id+"/restore", object{"restore": to}, &out); err != nil {
		f.t.Fatal(err)
	}
	return out.Restore.VolumeID
}

// whole is the sum of what a volume of a GiB holds, attached where its data is.
func (f *faults) whole(volume string) string {
	f.t.Helper()
	x := f.attach(f.t, volume, f.rows(f.t, "SELECT COALESCE(home, '"+n1+"') FROM volumes WHERE id = '"+volume+"'")[0])
	defer f.detach(f.t, x)
	return f.sum(f.t, x.node, x.device, 0, gib)
}

// A volume is what it was when it was backed up, in place and as a new one, from a full backup
// and from an increment; an agent that is killed goes on; damage is found, and nothing else is
// lost.
func TestBackup(t *testing.T) {
	f := newFaults(t)
	dir := f.backupShare()
	img, data, other := f.image(t, 16*mib), f.image(t, 4*mib), f.image(t, 4*mib)
	volume := f.create(t, img.id)
	change := func(at int, b []byte) {
		x := f.attach(t, volume, n1)
		f.write(t, n1, x.device, at, b)
		f.detach(t, x)
	}
	change(8*mib, data.bytes)
	change(900*mib, data.bytes)
	first := f.whole(volume)
	full := f.beginBackup(volume, false)
	if n := f.backedUp(volume, full); n < 16 || n > 40 {
		t.Errorf("%d chunks of a MiB are stored", n)
	}
	change(500*mib, other.bytes)
	second := f.whole(volume)
	if first == second {
		t.Fatal("nothing has changed")
	}
	increment := f.beginBackup(volume, true)
	if n := f.backedUp(volume, increment); n < 4 || n > 6 {
		t.Errorf("an increment of 4 MiB has %d chunks of a MiB", n)
	}

	made := f.restore(full, "")
	f.becomes(made, "available")
	if got := f.whole(made); got != first {
		t.Errorf("the new volume has sum %s, the one that was backed up %s", got, first)
	}
	f.restore(full, volume)
	f.becomes(volume, "available")
	if got := f.whole(volume); got != first { // zeros are where the change was
		t.Errorf("in place: sum %s, wanted %s", got, first)
	}
	f.restore(increment, volume)
	f.becomes(volume, "available")
	if got := f.whole(volume); got != second {
		t.Errorf("of the increment: sum %s, wanted %s", got, second)
	}

	interrupted := f.beginBackup(volume, false)
	prefix := filepath.Join(dir, interrupted[:2], interrupted[2:4], interrupted)
	until(t, time.Minute, "a part to be stored", func() (bool, error) {
		left, err := os.ReadDir(filepath.Join(prefix, "chunks"))
		return err == nil && len(left) > 0, nil
	})
	if err := f.node(t, n1).Signal(limit(t, time.Minute), "vmthunder-node", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := f.node(t, n1).Wait(limit(t, time.Minute), "vmthunder-node"); err != nil {
		t.Fatal(err)
	}
	_, err := os.Stat(filepath.Join(prefix, "manifest"))
	t.Logf("it was complete when its agent was killed: %t", err == nil)
	f.startAgent(n1)
	f.backedUp(volume, interrupted)
	f.restore(interrupted, made)
	f.becomes(made, "available")
	if got := f.whole(made); got != second {
		t.Errorf("of the one whose agent was killed: sum %s, wanted %s", got, second)
	}

	// Half a chunk is found before anything is written.
	damaged := ""
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, increment+"/chunks/") {
			damaged = path
		}
		return err
	})
	if err != nil || damaged == "" {
		t.Fatalf("no chunk of the increment: %v", err)
	}
	if err := os.Truncate(damaged, 100); err != nil {
		t.Fatal(err)
	}
	f.restore(increment, made)
	f.becomes(made, "error_restoring")
	if said := f.rows(t, "SELECT user_message FROM messages WHERE event_id = 'VOLUME_VOLUME_BACKUP_015_026'"); len(said) != 1 || !strings.Contains(said[0], "damaged backup") {
		t.Errorf("%q", said)
	}
	f.restore(full, volume)
	f.becomes(volume, "available")
	if got := f.whole(volume); got != first {
		t.Errorf("of its parent: sum %s, wanted %s", got, first)
	}

	for _, id := range []string{increment, full, interrupted} {
		if err := f.admin.Do(limit(t, time.Minute), http.MethodDelete, "/backups/"+id, nil, nil); err != nil {
			t.Fatal(err)
		}
		until(t, time.Minute, "the backup to be gone", func() (bool, error) {
			return f.rows(t, "SELECT count(*)::text FROM backups WHERE id = '"+id+"'")[0] == "0", nil
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the store: %v, %v", left, err)
	}
	f.remove(t, made)
	f.remove(t, volume)
}
