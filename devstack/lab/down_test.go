//go:build lab

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// envCrash makes the test program a process that has a laboratory and waits to be killed.
const envCrash = "VMT_LAB_TEST_CRASH"

func crashing(dir string) int {
	l, err := lab.Up(context.Background(), lab.Options{
		Name: "crash", StateDir: dir, Owned: true, Services: []lab.Service{lab.Postgres}, Nodes: lab.Nodes(1, 0),
	})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("up", l.Namespace())
	select {}
}

// traces lists what is left of a laboratory: processes, namespace, files, memory.
func traces(t *testing.T, dir, namespace string) []string {
	t.Helper()
	var out []string
	id := namespace[strings.LastIndex(namespace, "-")+1:]
	for _, p := range []string{dir, "/run/netns/" + namespace, "/dev/shm/vmthunder-lab-" + id} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			out = append(out, p)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range lines {
		b, _ := os.ReadFile(f) // a process may end meanwhile
		if s := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(s, dir) || strings.Contains(s, "vmthunder-lab-"+id) {
			out = append(out, f+": "+s)
		}
	}
	shm, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(shm), "\n"); n > 1 {
		t.Logf("System V shared memory of somebody: %d segments", n-1)
	}
	return out
}

func TestTwoLaboratoriesSideBySide(t *testing.T) {
	l, _ := current(t)
	ctx := timeout(t, 4*time.Minute)
	other, err := lab.Up(ctx, lab.Options{
		Name: "other", Owned: true, Services: []lab.Service{lab.Glance, lab.Rabbit}, Nodes: lab.Nodes(2, 0), Progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // when a check below fails
		if _, err := os.Stat(other.Dir()); err == nil {
			_ = other.Down(context.WithoutCancel(ctx))
		}
	})
	if other.Namespace() == l.Namespace() || other.Dir() == l.Dir() {
		t.Fatal("the two share a name")
	}
	// The same address is another machine in the other.
	for _, x := range []*lab.Lab{l, other} {
		n, err := x.Node("node1")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.WriteFile(ctx, "/run/whose", 0o644, x.Name()); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []*lab.Lab{l, other} {
		n, _ := x.Node("node1")
		if s, err := n.ReadFile(ctx, "/run/whose"); err != nil || s != x.Name() {
			t.Errorf("node1 of %s says %q, %v", x.Name(), s, err)
		}
		if err := x.CreateDatabase(ctx, "only_"+x.Name()); err != nil {
			t.Error(err)
		}
	}
	n2, err := other.Node("node2")
	if err != nil {
		t.Fatal(err)
	}
	// Nodes reach each other by name: node1's agent listens.
	if _, err := n2.Run(ctx, "busybox", "nc", "-w", "5", "node1", "7070"); err != nil {
		t.Error(err)
	}
	checkOpenStack(ctx, t, other)
	// By name, as another process does it.
	again, err := lab.Open(other.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, other.Dir(), other.Namespace()); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	if s := l.Status(ctx); !s.Nodes[0].Answers || !l.Running(lab.Postgres) {
		t.Errorf("the first one was hurt: %+v", s)
	}
}

func checkOpenStack(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	token, err := l.Token(ctx, "demo", "demo")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.GlanceURL()+"/v2/images", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	resp, err := l.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("list images: %s", resp.Status)
	}
	blob := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(blob, []byte(strings.Repeat("x", 100000)), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := l.UploadImage(ctx, "blob", "raw", blob)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(l.ImageStore(), id)); err != nil || st.Size() != 100000 {
		t.Errorf("stored image: %v, %v", st, err)
	}
	if again, err := l.UploadImage(ctx, "blob", "raw", blob); err != nil || again != id {
		t.Errorf("second upload: %s, %v", again, err)
	}
	if err := l.PointCatalog(ctx, "http://10.77.0.1:1/v3/%(project_id)s"); err != nil {
		t.Error(err)
	}
}

func TestOwnerIsKilled(t *testing.T) {
	ctx := timeout(t, 2*time.Minute)
	dir := filepath.Join(lab.BaseDir(), "crash-test")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), envCrash+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "up ") {
		t.Fatalf("%q, %v", line, err)
	}
	namespace := strings.TrimSpace(strings.TrimPrefix(line, "up "))
	if left := traces(t, dir, namespace); len(left) < 4 {
		t.Fatalf("traces of a running laboratory: %q", left)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for {
		left := traces(t, dir, namespace)
		if len(left) == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestUpFailsAndCleansUp(t *testing.T) {
	ctx := timeout(t, time.Minute)
	dir := filepath.Join(lab.BaseDir(), "fails")
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	_, err := lab.Up(ctx, lab.Options{Name: "fails", StateDir: dir, Binary: "/bin/true", Nodes: lab.Nodes(1, 0)})
	if !errors.Is(err, lab.ErrOptions) {
		t.Errorf("a dynamic program as process 1: %v", err)
	}
	// A program that is static, but no process 1: the kernel gives up, and the error
	// shows what it printed.
	_, err = lab.Up(ctx, lab.Options{Name: "fails", StateDir: dir, Binary: "/bin/busybox", Nodes: lab.Nodes(1, 0)})
	if err == nil || !strings.Contains(err.Error(), "node node1") || !strings.Contains(err.Error(), "console.log") {
		t.Errorf("a wrong process 1: %v", err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if len(left) != 1 || left[0] != "log" {
		t.Errorf("left of a failure: %q, want only log", left)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "log", "node-node1.log")); err != nil || len(b) == 0 {
		t.Errorf("the console was not kept: %d bytes, %v", len(b), err)
	}
	if _, err := lab.Up(ctx, lab.Options{Nodes: []lab.NodeSpec{{Name: "Bad Name"}}, StateDir: dir + "2"}); !errors.Is(err, lab.ErrOptions) {
		t.Errorf("bad node name: %v", err)
	}
	_ = os.RemoveAll(dir + "2")
}
