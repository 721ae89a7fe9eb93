//go:build lab

package e2e

import (
	"strings"
	"testing"
)

// Where the origin sees Glance's own file store, a raw image is served from there: nothing
// is copied, and what is served are the image's bytes.
func TestImageInPlace(t *testing.T) {
	s := current(t)
	s.reconfigure(t, origin, map[string]string{"node.glance_store_dir": s.lab.ImageStore()}, map[string]string{"node.glance_store_dir": ""})
	img := s.image(t, 64*mib)
	a := s.newAttached(t, img.id, n1)
	s.same(t, n1, a.device, 0, img.bytes)
	if got := s.run(t, origin, "losetup -n -O BACK-FILE"); !strings.Contains(got, s.lab.ImageStore()+"/"+img.id) {
		t.Errorf("the origin serves %q, want the file in Glance's store", got)
	}
	if got := s.run(t, origin, "du -sk /var/lib/vmthunder/images | cut -f1"); len(strings.TrimSpace(got)) > 3 {
		t.Errorf("%s KiB were copied to the origin", strings.TrimSpace(got))
	}
	s.drop(t, a)
	if got := s.run(t, origin, "ls "+s.lab.ImageStore()); !strings.Contains(got, img.id) {
		t.Error("Glance's own file is gone with the last volume")
	}
}
