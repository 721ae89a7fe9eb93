//go:build lab

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// realCinder is the openstack command with our package in front of the real Cinder, whose
// own rows and files tell what has become of a volume.
type realCinder struct {
	*extended
	project string
}

// cinder starts the real Cinder in the laboratory and turns the catalog to it, until the
// test ends. Its project has the quota that Cinder gives by default: ten volumes.
func cinder(t *testing.T) *realCinder {
	t.Helper()
	l, err := lab.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	undo := func(what func(context.Context) error) {
		t.Cleanup(func() {
			if err := what(limit(t, time.Minute)); err != nil {
				t.Error(err)
			}
		})
	}
	if !l.Running(lab.Cinder) {
		if err := l.Start(limit(t, 3*time.Minute), lab.Cinder); err != nil {
			t.Fatal(err)
		}
		undo(func(ctx context.Context) error { return l.KillService(ctx, lab.Cinder) })
	}
	ours := l.VolumeURL()
	if err := l.PointCatalog(limit(t, time.Minute), l.CinderURL()); err != nil {
		t.Fatal(err)
	}
	undo(func(ctx context.Context) error { return l.PointCatalog(ctx, ours) })
	rows, err := sqlx.ConnectContext(limit(t, time.Minute), "postgres", l.DatabaseURL("cinder"))
	if err != nil {
		t.Fatal(err)
	}
	undo(func(context.Context) error { return rows.Close() })
	c := &realCinder{extended: &extended{site: &site{lab: l, sql: rows}, path: extension(t, l)}}
	if left := c.names(t); len(left) > 0 {
		t.Fatalf("volumes of an earlier run: %v", left)
	}
	return c
}

// names of all volumes that are not deleted, sorted.
func (c *realCinder) names(t testing.TB) []string {
	t.Helper()
	return c.rows(t, "SELECT coalesce(display_name, '') FROM volumes WHERE NOT deleted ORDER BY display_name")
}

// left waits until these volumes are there and available, nothing else is, in the rows, on
// the disk and in the quota, and nothing is reserved.
func (c *realCinder) left(t *testing.T, names []string) {
	t.Helper()
	var bad string
	err := cluster.Wait(limit(t, 2*time.Minute), time.Minute, "nothing else to be left", func() (bool, error) {
		volumes := c.rows(t, "SELECT display_name || ' ' || status FROM volumes WHERE NOT deleted ORDER BY display_name")
		var want []string
		for _, n := range names {
			want = append(want, n+" available")
		}
		files, err := filepath.Glob(filepath.Join(c.lab.CinderStore(), "volume-*"))
		if err != nil {
			t.Fatal(err)
		}
		quota := c.rows(t, "SELECT in_use || '+' || reserved FROM quota_usages WHERE resource = 'volumes' AND project_id = $1", c.project)
		bad = fmt.Sprintf("volumes %v, %d files, quota in use and reserved %v", volumes, len(files), quota)
		return slices.Equal(volumes, want) && len(files) == len(names) && slices.Equal(quota, []string{fmt.Sprintf("%d+0", len(names))}), nil
	})
	if err != nil {
		t.Fatalf("%v: %s, want %v", err, bad, names)
	}
}

// once counts the volumes of a name that have been there, whatever has become of them.
func (c *realCinder) once(t *testing.T, name string) string {
	t.Helper()
	return c.rows(t, "SELECT count(*)::text FROM volumes WHERE display_name LIKE $1 || '-%'", name)[0]
}

// hold keeps Cinder from reserving quota, the first thing that it does for a new volume.
func (c *realCinder) hold(t *testing.T) (release func()) {
	t.Helper()
	tx, err := c.sql.BeginTxx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			t.Error(err)
		}
	})
	if _, err := tx.ExecContext(limit(t, time.Minute), "LOCK TABLE quota_usages IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	}
}

// The command against the real Cinder, which knows no batches: all or none, whatever stops it.
func TestClientCinder(t *testing.T) {
	c := cinder(t)
	img := c.image(t, 8*mib)
	five := numbered("vm", 5)

	out, _ := c.create(t, 0, "--image", img.id, "--count", "5", "--property", "a=b", "--wait", "-f", "json", "vm")
	var rows []struct {
		ID, Name, Status string
		Size             int
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 5 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, r := range rows {
		if r.Name != five[i] || r.Status != "available" || r.Size != 1 {
			t.Errorf("row %d: %+v", i, r)
		}
		beginsWith(t, filepath.Join(c.lab.CinderStore(), "volume-"+r.ID), img.bytes)
	}
	if got := c.rows(t, "SELECT v.display_name FROM volumes v JOIN volume_metadata m ON m.volume_id = v.id WHERE NOT v.deleted AND m.key = 'a' AND m.value = 'b' ORDER BY 1"); !slices.Equal(got, five) {
		t.Errorf("with the property: %v", got)
	}
	c.project = c.rows(t, "SELECT DISTINCT project_id FROM volumes")[0]
	c.left(t, five)

	// Ten is the quota: five of the next six are made before Cinder says so, and go.
	more := "more-" + img.id[:8] // deleted ones stay in Cinder's rows
	out, errs := c.create(t, 1, "--image", img.id, "--count", "6", more)
	if out != "" || !strings.Contains(errs, "No volume was made: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded") ||
		!strings.Contains(errs, "With --partial as many as fit are made.") {
		t.Errorf("%s%s", out, errs)
	}
	if n := c.once(t, more); n != "5" {
		t.Errorf("%s volumes were made on the way, want 5", n)
	}
	c.left(t, five)

	c.interrupt(t, "cut-"+img.id[:8])
	c.left(t, five)

	out, errs = c.create(t, 3, "--size", "1", "--count", "6", "--partial", "-f", "value", "-c", "Name", "part")
	if made := strings.Fields(out); len(made) != 5 || !strings.Contains(errs, "5 of 6 volumes were made, then: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded") {
		t.Errorf("%s%s", out, errs)
	}
	all := c.names(t)
	c.left(t, all)

	del, err := c.lab.OpenStack("demo", append([]string{"volume", "delete"}, all...)...)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := del.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.left(t, nil)
}

// interrupt is Ctrl-C while Cinder is making volumes.
func (c *realCinder) interrupt(t *testing.T, name string) {
	t.Helper()
	release := c.hold(t)
	cmd, out, _ := c.command(t, "--size", "1", "--count", "5", name)
	errs, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "requests in the database", func() (bool, error) {
		return c.rows(t, "SELECT count(*)::text FROM pg_locks WHERE relation = 'quota_usages'::regclass AND NOT granted")[0] != "0", nil
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var said string
	until(t, 30*time.Second, "the command to notice", func() (bool, error) {
		b, err := os.ReadFile(errs.Name())
		said = string(b)
		return strings.Contains(said, "Interrupted; 0 volumes that were made will be deleted."), err
	})
	release()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || out.Len() > 0 {
		b, _ := os.ReadFile(errs.Name())
		t.Errorf("status %d: %s%s", code, out, b)
	}
	if n := c.once(t, name); n == "0" {
		t.Error("no request was under way, so nothing had to be undone")
	}
}

// beginsWith fails the test unless a volume's file of 1 GiB begins with these bytes.
func beginsWith(t *testing.T, path string, want []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s does not hold the image (%v)", path, err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 1<<30 {
		t.Errorf("%s: size %d, %v", path, st.Size(), err)
	}
}
