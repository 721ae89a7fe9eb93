//go:build lab

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestFaultImages: an image that can't be served is refused in Cinder's words if that is
// known at once, else the volume gets status error; nothing of it stays on the origin.
func TestFaultImages(t *testing.T) {
	f := newFaults(t)
	f.control(map[string]string{"scheduler.max_image_size_gb": "1"})
	path := func(name string) string { return filepath.Join(f.dir, name) }
	good := f.random("good.raw", 16)
	f.qemu("create", "-q", "-f", "qcow2", path("small.qcow2"), "16M")
	f.qemu("create", "-q", "-f", "qcow2", path("large.qcow2"), "1536M")
	f.qemu("create", "-q", "-f", "qcow2", path("unknown.qcow2"), "1536M")
	f.qemu("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path("backed.qcow2"), "16M")
	if err := os.WriteFile(path("kernel"), []byte("no disk at all"), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("refused", func(t *testing.T) {
		large := f.upload("qcow2", path("large.qcow2"), 0)
		for _, c := range []struct {
			name, image string
			gib, status int
			words       string
		}{
			{"unknown id", uuid.NewString(), 1, http.StatusBadRequest, "Invalid image identifier or unable to access requested image."},
			{"unknown name", "no-such-image", 1, http.StatusBadRequest, "Invalid image identifier or unable to access requested image."},
			{"kernel", f.upload("aki", path("kernel"), 0), 1, http.StatusBadRequest, "disk format aki"},
			{"smaller than min_disk", f.upload("raw", good, 2), 1, http.StatusBadRequest, "Volume size 1GB cannot be smaller than the image minDisk size 2GB."},
			{"smaller than virtual size", large, 1, http.StatusBadRequest, "Image virtual size is 2GB and doesn't fit in a volume of size 1GB."},
			{"above the limit", large, 2, http.StatusBadRequest, "at most 1073741824 are served"},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := f.admin.CreateVolume(limit(t, time.Minute), t.Name(), c.image, c.gib)
				refused(t, err, c.status, c.words)
			})
		}
		if rows := f.rows(t, "SELECT id FROM volumes UNION ALL SELECT id FROM images"); len(rows) > 0 {
			t.Errorf("refused requests left rows: %v", rows)
		}
	})

	unknown := f.upload("qcow2", path("unknown.qcow2"), 0)
	f.forgetVirtualSize(unknown)
	torn := f.upload("raw", good, 0)
	flip(t, filepath.Join(f.lab.ImageStore(), torn))
	for _, c := range []struct {
		name, image string
		gib         int
		words       string
	}{
		{"backing file", f.upload("qcow2", path("backed.qcow2"), 0), 1, "backing file"},
		{"raw that is qcow2", f.upload("raw", path("small.qcow2"), 0), 1, "claims to be raw but is qcow2"},
		{"virtual size above the limit", unknown, 2, "above the limit of 1073741824"},
		{"checksum", torn, 1, "checksum differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := f.ask(c.image, c.gib)
			f.fails(v, time.Minute, c.words)
			f.originEmpty(t)
			// One that is asked for again is tried again, and fails again.
			w := f.ask(c.image, c.gib)
			f.fails(w, time.Minute, c.words)
			f.originEmpty(t)
			f.remove(t, v, w)
		})
	}
	f.control(map[string]string{"scheduler.max_image_size_gb": "1024"})
	t.Run("smaller than an unknown virtual size", func(t *testing.T) {
		v, w := f.ask(unknown, 1), f.ask(unknown, 2)
		f.fails(v, time.Minute, "Size of specified image 2GB is larger than volume size 1GB.")
		f.becomes(w, "available")
		f.remove(t, v, w)
	})
	t.Run("a correct image afterwards", func(t *testing.T) {
		a := f.newAttached(t, f.upload("raw", good, 0), n1)
		f.reads(a, good)
		f.drop(t, a)
	})
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, 5*mib); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := file.WriteAt(b, 5*mib); err != nil {
		t.Fatal(err)
	}
}

// originEmpty waits until the origin has neither a file nor a device of any image.
func (f *faults) originEmpty(t *testing.T) {
	t.Helper()
	until(t, 30*time.Second, "the origin to have let go of its images", func() (bool, error) {
		return len(f.rows(t, "SELECT host FROM tree_members")) == 0, nil
	})
	left := ""
	look := "ls -A /var/lib/vmthunder/images; dmsetup ls | grep vmthunder-image; losetup -n -O BACK-FILE -l | grep vmthunder; ls /sys/kernel/config/target/iscsi | grep image; true"
	until(t, 30*time.Second, "the origin to be empty", func() (bool, error) {
		left = f.run(t, origin, look)
		return left == "", nil
	})
}
