//go:build kernel

package image

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("a small file system, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := newServer(t)
	st := newStore(t, s, func(o *Options) { o.Dir = dir })
	_, src := s.add("raw", bytes.Repeat([]byte{1}, 2<<20))
	if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if err := st.Remove(t.Context(), src.ImageID); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 8<<20)
	copy(content, "x")
	_, src = s.add("qcow2", convert(t, bytes.Repeat([]byte{1, 0, 2}, 1<<20), "qcow2", "-c")) // small, and grows
	if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}
