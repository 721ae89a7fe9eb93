//go:build lab

package e2e

import (
	"os"
	"testing"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Main(m, lab.Options{Name: "e2e", Services: lab.BaseServices(), Nodes: nodeSpecs(), Images: true}))
}
