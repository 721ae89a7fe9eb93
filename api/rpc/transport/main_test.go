package transport_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/vmthunder/vmthunder/api/rpc/rabbittest"
)

func TestMain(m *testing.M) {
	code := rabbittest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
