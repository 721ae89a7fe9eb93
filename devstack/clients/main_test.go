//go:build lab

package clients

import (
	"fmt"
	"os"
	"testing"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// table is filled by all tests of this process.
var table Table

// run prints the table after the tests.
type run struct{ *testing.M }

func (r run) Run() int {
	code := r.M.Run()
	if err := table.Write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if artefactsDir != "" {
		fmt.Println("\nartefacts are in", artefactsDir)
	}
	return code
}

// The services that only some tests want are started by them, see site.need.
func TestMain(m *testing.M) {
	os.Exit(lab.Main(run{m}, lab.Options{
		Name: "clients", Services: []lab.Service{lab.Postgres, lab.Rabbit, lab.Keystone, lab.Glance}, Nodes: nodeSpecs(), Images: true,
	}))
}
