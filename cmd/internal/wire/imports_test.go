package wire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vmthunder/vmthunder/"

// allowed says what each part of the house may import of the others. db/model is the
// leaf that all may import; cmd and devstack may import everything.
var allowed = map[string][]string{
	"api":        {"api"},
	"scheduler":  {"scheduler"},
	"driver":     {"driver"},
	"db":         {"db", "migrations"},
	"migrations": {},
}

// only says where alone a package from outside may be imported.
var only = map[string]string{
	"github.com/streadway/amqp": "api/rpc/transport",
	"github.com/gorilla/mux":    "api",
	"github.com/lib/pq":         "db",
	"os/exec":                   "driver/command",
}

// TestImportDirection keeps the house as it is drawn in CONTRIBUTING.md.
func TestImportDirection(t *testing.T) {
	each(t, func(dir string, file *ast.File, name string) {
		top, _, _ := strings.Cut(dir, "/")
		if top == "cmd" || top == "devstack" {
			return
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if place, ok := only[path]; ok && dir != place && !strings.HasPrefix(dir, place+"/") && !strings.HasSuffix(dir, "test") {
				t.Errorf("%s imports %s, which only %s may", name, path, place)
			}
			rest, ours := strings.CutPrefix(path, module)
			if !ours || rest == "db/model" && dir != "db/model" {
				continue
			}
			if dir == "db/model" {
				t.Errorf("%s imports %s; db/model is a leaf", name, path)
				continue
			}
			target, _, _ := strings.Cut(rest, "/")
			good := false
			for _, a := range allowed[top] {
				good = good || a == target
			}
			if !good {
				t.Errorf("%s imports %s: %s may import db/model and %v", name, path, top, allowed[top])
			}
		}
	})
}

// TestNoClockInDecisions: what the scheduler decides must not depend on when it is asked;
// package scheduler itself gets its clock from its options.
func TestNoClockInDecisions(t *testing.T) {
	each(t, func(dir string, file *ast.File, name string) {
		if dir != "scheduler" && !strings.HasPrefix(dir, "scheduler/") && dir != "driver/stack" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Now", name)
				}
			}
			return true
		})
	})
}

// each parses every Go file of the module that is no test.
func each(t *testing.T, f func(dir string, file *ast.File, name string)) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		seen++
		f(filepath.ToSlash(filepath.Dir(rel)), file, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Fatalf("only %d files seen under %s", seen, root)
	}
}
