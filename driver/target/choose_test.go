package target

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	withLIO, without := filepath.Join(dir, "target"), filepath.Join(dir, "none")
	if err := os.MkdirAll(filepath.Join(withLIO, "core"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, root, want string }{
		{"auto", withLIO, "lioadm"}, {"", withLIO, "lioadm"}, {"lioadm", withLIO, "lioadm"},
	} {
		h, reason, err := Choose(t.Context(), c.name, Options{ConfigRoot: c.root, TgtSocket: without})
		if err != nil || h.Name() != c.want || reason == "" {
			t.Errorf("%s: %v %q %v", c.name, h, reason, err)
		}
	}
	for _, name := range []string{"auto", "lioadm", "tgtadm"} {
		_, _, err := Choose(t.Context(), name, Options{ConfigRoot: without, TgtSocket: without})
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Choose(t.Context(), "scstadm", Options{}); err == nil || !strings.Contains(err.Error(), "tgtadm") {
		t.Errorf("got %v", err)
	}
}
