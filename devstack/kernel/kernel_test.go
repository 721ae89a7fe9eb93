//go:build lab

package kernel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m, lab.Options{Name: "kernel"})) }

// packages that have kernel tests. TestAllAreListed sees to it that none is forgotten.
var packages = []string{
	"driver/dm", "driver/loop", "driver/pool", "driver/cache/bcache", "driver/cache/dmcache",
	"driver/cache/flashcache", "driver/target", "driver/image",
}

func root(t *testing.T) string {
	t.Helper()
	r, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAllAreListed(t *testing.T) {
	found, err := exec.Command("grep", "-rlE", "--include=*_test.go", `^//go:build kernel`, filepath.Join(root(t), "driver")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(string(found)) {
		rel, err := filepath.Rel(root(t), filepath.Dir(f))
		if err != nil {
			t.Fatal(err)
		}
		listed := false
		for _, p := range packages {
			listed = listed || p == rel
		}
		if !listed {
			t.Errorf("%s has kernel tests and is not run", rel)
		}
	}
}

func TestKernel(t *testing.T) {
	l, err := lab.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			run(t, l, p)
		})
	}
}

func run(t *testing.T, l *lab.Lab, pkg string) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	name := "k-" + filepath.Base(pkg)
	// iscsid and tgtd are for the tests to start.
	n, err := l.AddNode(ctx, lab.NodeSpec{Name: name, Memory: 512, NoIscsid: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Kill(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	dir := filepath.Join(root(t), pkg)
	binary := filepath.Join(l.Dir(), name+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "kernel", "-o", binary, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	res, err := n.Exec(ctx, lab.Command{
		Argv: []string{binary, "-test.v", "-test.timeout", "7m"}, Dir: dir, Env: []string{"VMT_TEST_DISK=/dev/ubda"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Fatalf("status %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
	}
	for line := range strings.Lines(res.Stdout) {
		if strings.Contains(line, "--- SKIP") {
			t.Errorf("a kernel test was skipped in a node made for it: %s", line)
		}
		if strings.HasPrefix(line, "--- ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
