package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

var errCrash = errors.New("crash")

// TestCrash: after a crash at each step the next Ensure converges.
func TestCrash(t *testing.T) {
	raw := noise(2<<20+999, 7)
	aligned := noise(2<<20, 8)
	qcow := convert(t, aligned, "qcow2")
	for _, c := range []struct {
		name, format  string
		content, want []byte
		store         bool // Glance's own files are seen here
		steps         []string
	}{
		{"raw", "raw", raw, raw, false, []string{"chunk", "downloaded", "padded", "described", "renamed"}},
		{"qcow2", "qcow2", qcow, aligned, false, []string{"chunk", "downloaded", "converted", "padded", "described", "renamed"}},
		{"in place", "raw", aligned, aligned, true, []string{"verified in place", "linked", "described"}},
	} {
		for _, crash := range c.steps {
			t.Run(c.name+" "+crash, func(t *testing.T) {
				s := newServer(t)
				_, src := s.add(c.format, c.content)
				var options []func(*Options)
				if c.store {
					dir := t.TempDir()
					if err := os.WriteFile(filepath.Join(dir, src.ImageID), c.content, 0o600); err != nil {
						t.Fatal(err)
					}
					options = append(options, func(o *Options) { o.FileStoreDir = dir })
				}
				st := newStore(t, s, options...)
				reached := false
				st.fail = func(step string) error {
					if step == crash {
						reached = true
						return errCrash
					}
					return nil
				}
				if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, errCrash) {
					t.Fatalf("got %v", err)
				}
				if !reached {
					t.Fatal("step not reached")
				}
				again, err := Open(st.o) // the next life
				if err != nil {
					t.Fatal(err)
				}
				if f, err := again.Find(t.Context(), src.ImageID); err == nil {
					same(t, f, c.want) // if it shows, it is whole
				} else if !errors.Is(err, driver.ErrNotFound) {
					t.Fatal(err)
				}
				f, err := again.Ensure(t.Context(), src, nil)
				if err != nil {
					t.Fatal(err)
				}
				same(t, f, c.want)
				whole(t, again, src.ImageID)
				if err := again.Remove(t.Context(), src.ImageID); err != nil {
					t.Fatal(err)
				}
				if got := files(t, again); len(got) > 0 {
					t.Errorf("removal left %v", got)
				}
			})
		}
	}
}
