package wire

import (
	"encoding/pem"
	"go/ast"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

func TestCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		k    config.Keystone
		good bool
	}{
		"unknown authority": {config.Keystone{}, false},
		"cafile":            {config.Keystone{CAFile: ca}, true},
		"insecure":          {config.Keystone{Insecure: true}, true},
	} {
		transport, err := httpTransport(&config.Config{Keystone: x.k})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != x.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryOptionCounts: an option that is accepted and does nothing is a promise not kept.
func TestEveryOptionCounts(t *testing.T) {
	used := map[string]bool{}
	each(t, func(dir string, file *ast.File, _ string) {
		if dir != "cmd/internal/wire" && dir != "cmd/internal/cli" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
			}
			return true
		})
	})
	for _, typ := range []reflect.Type{reflect.TypeFor[config.Config](), reflect.TypeFor[config.Keystone](), reflect.TypeFor[config.Nova](), reflect.TypeFor[config.Node]()} {
		for f := range typ.NumField() {
			if !used[typ.Field(f).Name] {
				t.Errorf("%s.%s is read by nobody", typ.Name(), typ.Field(f).Name)
			}
		}
	}
}
