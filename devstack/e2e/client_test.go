//go:build lab

package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// extended is the real openstack command with our package installed, as account demo.
type extended struct {
	*site
	path    string // where the package is
	demo    *cluster.Client
	project string
}

// installed is the package's one installation of this test process.
var installed struct {
	sync.Once
	path string
	err  error
}

// extension is where the package is, and installs it first.
func extension(t *testing.T, l *lab.Lab) string {
	t.Helper()
	installed.Do(func() { installed.path, installed.err = cluster.InstallExtension(limit(t, 2*time.Minute), l) })
	if installed.err != nil {
		t.Fatal(installed.err)
	}
	return installed.path
}

// extendedCommand is the command beside an empty site.
func extendedCommand(t *testing.T) *extended {
	t.Helper()
	s := current(t)
	x := &extended{site: s, path: extension(t, s.lab), demo: s.c.Client(0, "demo", "demo")}
	v, err := x.demo.CreateVolume(limit(t, time.Minute), "who", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	x.project = s.rows(t, "SELECT project_id FROM volumes WHERE id = $1", v.ID)[0]
	x.empty(t)
	return x
}

// empty deletes all volumes of the project.
func (x *extended) empty(t testing.TB) {
	t.Helper()
	ctx := limit(t, 2*time.Minute)
	vs, err := x.demo.Volumes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		if err := x.demo.DeleteVolume(ctx, v.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range vs {
		if err := x.demo.WaitGone(ctx, v.ID, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}

// names of the project's volumes, in the order they were made.
func (x *extended) names(t testing.TB) []string {
	t.Helper()
	return x.rows(t, "SELECT coalesce(name, '') FROM volumes WHERE project_id = $1 ORDER BY created_at, id", x.project)
}

// quota sets the project's quota of volumes until the test ends.
func (x *extended) quota(t *testing.T, n int) {
	t.Helper()
	x.rows(t, "INSERT INTO quotas (project_id, resource, hard_limit) VALUES ($1, 'volumes', $2) RETURNING resource", x.project, n)
	t.Cleanup(func() { x.rows(t, "DELETE FROM quotas WHERE project_id = $1 RETURNING resource", x.project) })
}

func (x *extended) command(t testing.TB, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	cmd, err := x.lab.OpenStack("demo", append([]string{"volume", "create"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "PYTHONPATH="+x.path)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// create runs openstack volume create and fails the test unless it ends so.
func (x *extended) create(t testing.TB, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd, out, errs := x.command(t, args...)
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != status {
		t.Fatalf("volume create %s: status %d, want %d (%v): %s%s", strings.Join(args, " "), code, status, err, out, errs)
	}
	return out.String(), errs.String()
}

func numbered(name string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s-%d", name, i+1))
	}
	return out
}

// A hundred volumes from an image: one command, one request, one transaction.
func TestClientHundred(t *testing.T) {
	x := extendedCommand(t)
	img := x.image(t, 64*mib)
	type row struct {
		ID, Name, Status string
		Size             int
	}
	read := func(text string) (rows []row) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &rows); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return rows
	}
	// The image has to be imported first; its size is the volumes'.
	out, _ := x.create(t, 0, "--image", img.id, "--count", "3", "--wait", "-f", "json", "first")
	for _, r := range read(out) {
		if r.Status != "available" || r.Size != 1 {
			t.Errorf("%+v", r)
		}
	}
	out, errs := x.create(t, 0, "--image", img.id, "--count", "100", "--property", "a=b", "-f", "json", "vm")
	rows := read(out)
	if len(rows) != 100 || errs != "" {
		t.Fatalf("%d rows; %s", len(rows), errs)
	}
	for i, r := range rows {
		if r.Name != fmt.Sprintf("vm-%d", i+1) || r.Status != "creating" {
			t.Errorf("row %d: %+v", i, r)
		}
	}
	if got := x.names(t); !slices.Equal(got[3:], numbered("vm", 100)) {
		t.Errorf("in the database: %v", got)
	}
	if tx := x.rows(t, "SELECT DISTINCT xmin::text FROM volumes WHERE project_id = $1 AND name LIKE 'vm-%' AND status = 'available' AND metadata->>'a' = 'b'", x.project); len(tx) != 1 {
		t.Errorf("they were written by %d transactions", len(tx))
	}
	// Two of them on nodes, and read whole.
	for i, node := range []string{n1, n2} {
		a := x.attach(t, rows[i].ID, node)
		x.same(t, node, a.device, 0, img.bytes)
		x.detach(t, a)
	}
	x.empty(t)
}

func TestClientOutput(t *testing.T) {
	x := extendedCommand(t)
	out, _ := x.create(t, 0, "--size", "1", "--count", "2", "-f", "csv", "-c", "Name", "-c", "Size", "a-{}-b")
	if got, err := csv.NewReader(strings.NewReader(out)).ReadAll(); err != nil || fmt.Sprint(got) != "[[Name Size] [a-1-b 1] [a-2-b 1]]" {
		t.Errorf("csv: %q, %v", out, err)
	}
	out, _ = x.create(t, 0, "--size", "1", "--count", "1", "-f", "value", "-c", "id", "v")
	if got := x.rows(t, "SELECT id::text FROM volumes WHERE name = 'v-1'"); len(got) != 1 || got[0]+"\n" != out {
		t.Errorf("value: %q, want %v", out, got)
	}
	out, _ = x.create(t, 0, "--size", "1", "--count", "2", "t")
	if lines := strings.Split(out, "\n"); len(lines) != 7 || strings.Join(strings.Fields(lines[1]), " ") != "| ID | Name | Status | Size |" {
		t.Errorf("table:\n%s", out)
	}
	before := len(x.names(t))
	for _, args := range [][]string{{"--count", "0"}, {"--count", "2", "-f", "shell"}, {"--count", "2", "-c", "Colour"}, {"--partial"}} {
		if out, errs := x.create(t, 2, append(args, "--size", "1", "x")...); out != "" || !strings.Contains(errs, "error: ") {
			t.Errorf("%v: %s%s", args, out, errs)
		}
	}
	if _, errs := x.create(t, 1, "--image", "nowhere", "--count", "2", "x"); !strings.Contains(errs, "No Image found for nowhere") {
		t.Errorf("unknown image: %s", errs)
	}
	if _, errs := x.create(t, 1, "--size", "1", "--type", "nowhere", "--count", "2", "x"); !strings.Contains(errs, "No volume was made: ") {
		t.Errorf("unknown type: %s", errs)
	}
	if n := len(x.names(t)); n != before {
		t.Errorf("%d volumes, %d before what was refused", n, before)
	}
	// Without --count it is the stock command.
	var v struct{ ID, Name, Status string }
	out, _ = x.create(t, 0, "--size", "1", "-f", "json", "stock")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Name != "stock" || v.Status != "creating" {
		t.Errorf("%v: %s", err, out)
	}
	x.empty(t)
}

// A quota that stops at 60 of 100 leaves nothing, or with --partial the first 60.
func TestClientQuota(t *testing.T) {
	x := extendedCommand(t)
	x.quota(t, 60)
	out, errs := x.create(t, 1, "--size", "1", "--count", "100", "vm")
	if out != "" || !strings.Contains(errs, "No volume was made: VolumeLimitExceeded: Maximum number of volumes allowed (60) exceeded") ||
		!strings.Contains(errs, "With --partial as many as fit are made.") {
		t.Errorf("%s%s", out, errs)
	}
	if got := x.names(t); len(got) != 0 {
		t.Errorf("half made: %v", got)
	}
	out, errs = x.create(t, 3, "--size", "1", "--count", "100", "--partial", "-f", "value", "-c", "Name", "vm")
	if got := x.names(t); !slices.Equal(got, numbered("vm", 60)) || !slices.Equal(strings.Fields(out), got) {
		t.Errorf("made %v, printed %s", got, out)
	}
	if !strings.Contains(errs, "60 of 100 volumes were made, the other 40 were not: VolumeLimitExceeded") {
		t.Errorf("said %s", errs)
	}
	x.empty(t)
	// Two replicas and many clients at once: never more than the quota, and no room unused.
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			err := x.c.Client(i%2, "demo", "demo").Do(limit(t, time.Minute), http.MethodPost, "/volumes/batch",
				map[string]any{"volume": map[string]any{"size": 1}, "count": 6}, nil)
			var refused *cluster.Error
			if errors.As(err, &refused) && refused.Status == http.StatusRequestEntityTooLarge {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(x.names(t)); n != 60 {
		t.Errorf("%d volumes, want 60", n)
	}
	x.empty(t)
}

// Who interrupts the command, or kills it, while the server works has all or nothing:
// the server is held in its transaction by the lock that it needs first.
func TestClientInterrupt(t *testing.T) {
	x := extendedCommand(t)
	hold := func() (release func()) {
		t.Helper()
		conn, err := x.sql.Connx(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(limit(t, time.Minute), "SELECT pg_advisory_lock(hashtextextended('quota of project ' || $1, 0))", x.project); err != nil {
			t.Fatal(err)
		}
		once := sync.OnceFunc(func() {
			_, err := conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock_all()")
			if err := errors.Join(err, conn.Close()); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(once)
		return once
	}
	waiting := func(n int) {
		t.Helper()
		until(t, time.Minute, fmt.Sprintf("%d requests in the database", n), func() (bool, error) {
			return x.rows(t, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[0] == fmt.Sprint(n), nil
		})
	}
	t.Run("interrupt", func(t *testing.T) {
		release := hold()
		cmd, out, errs := x.command(t, "--size", "1", "--count", "50", "vm")
		pipe, err := os.CreateTemp(t.TempDir(), "stderr")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = pipe
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waiting(1)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		until(t, 30*time.Second, "the command to notice", func() (bool, error) {
			b, err := os.ReadFile(pipe.Name())
			errs.Reset()
			errs.Write(b)
			return strings.Contains(string(b), "Interrupted; what the server has made will be deleted."), err
		})
		release()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 || out.Len() > 0 {
			t.Errorf("status %d: %s%s", code, out, errs)
		}
		until(t, 30*time.Second, "nothing to be left", func() (bool, error) { return len(x.names(t)) == 0, nil })
	})
	t.Run("kill", func(t *testing.T) {
		release := hold()
		cmd, _, _ := x.command(t, "--size", "1", "--count", "50", "vm")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waiting(1)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		waiting(0) // the server notices that nobody waits for its answer
		release()
		if got := x.names(t); len(got) != 0 {
			t.Errorf("%d volumes of a transaction that was given up", len(got))
		}
	})
	x.empty(t)
}
