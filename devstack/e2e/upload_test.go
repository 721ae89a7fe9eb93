//go:build lab

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

const gib = 1024 * mib

// begin asks for an upload and returns the image's id; the image goes with the test.
func (f *faults) beginUpload(volume, format string, force bool) string {
	f.t.Helper()
	var out struct {
		Upload struct {
			ImageID string `json:"image_id"`
			Status  string
		} `json:"os-volume_upload_image"`
	}
	err := f.admin.Do(limit(f.t, time.Minute), http.MethodPost, "/volumes/"+volume+"/action",
		object{"os-volume_upload_image": object{"image_name": f.t.Name(), "disk_format": format, "force": force}}, &out)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = f.glance(http.MethodDelete, "/v2/images/"+out.Upload.ImageID, "application/json", nil, nil)
	})
	return out.Upload.ImageID
}

// imageStatus in Glance, "gone" if it is not there.
func (f *faults) imageStatus(id string) string {
	f.t.Helper()
	var out struct{ Status string }
	err := f.glance(http.MethodGet, "/v2/images/"+id, "application/json", nil, &out)
	switch {
	case err != nil && strings.Contains(err.Error(), "404"):
		return "gone"
	case err != nil:
		f.t.Fatal(err)
	}
	return out.Status
}

// fetch brings an image's disk here, raw.
func (f *faults) fetch(id, format string) string {
	f.t.Helper()
	ctx := limit(f.t, 3*time.Minute)
	token, err := f.lab.Token(ctx, "admin", "admin")
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.lab.GlanceURL()+"/v2/images/"+id+"/file", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	client := *f.lab.HTTPClient()
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		f.t.Fatalf("download of image %s: %s", id, resp.Status)
	}
	path := filepath.Join(f.dir, id)
	file, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(file, resp.Body)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	_ = file.Close()
	if format == "raw" {
		return path
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "convert", "-f", format, "-O", "raw", path, path+".raw").CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	_ = os.Remove(path)
	return path + ".raw"
}

func sumFile(t testing.TB, path string, offset, size int64) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(file, offset, size)); err != nil || n != size {
		t.Fatalf("%d bytes of %s: %v", n, path, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// uploaded waits for the end, and looks that nothing is left of the work.
func (f *faults) uploaded(volume, status string) {
	f.t.Helper()
	until(f.t, 5*time.Minute, "volume "+volume+" to be "+status, func() (bool, error) { return f.status(volume) == status, nil })
	until(f.t, time.Minute, "the task to be gone", func() (bool, error) {
		return f.rows(f.t, "SELECT count(*)::text FROM tasks")[0] == "0", nil
	})
	for _, n := range []string{origin, n1} {
		left := f.run(f.t, n, "ls /var/lib/vmthunder/images/upload 2>/dev/null; true")
		if strings.TrimSpace(left) != "" {
			f.t.Errorf("left on %s: %s", n, left)
		}
	}
}

// An image of a volume holds what the volume holds, whatever state that is in, and volumes are
// made from it at once.
func TestUpload(t *testing.T) {
	f := newFaults(t)
	img, data := f.image(t, 16*mib), f.image(t, 4*mib)
	for name, c := range map[string]struct {
		image, written bool
		format         string
	}{
		"written, raw":    {true, true, "raw"},
		"written, qcow2":  {true, true, "qcow2"},
		"blank, written":  {false, true, "qcow2"},
		"never written":   {true, false, "qcow2"}, // raw is 1 GiB through Glance, which takes a minute
		"blank and empty": {false, false, "qcow2"},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			image := ""
			if c.image {
				image = img.id
			}
			volume := f.create(t, image)
			if c.written {
				x := f.attach(t, volume, n1)
				f.write(t, n1, x.device, 8*mib, data.bytes)
				f.write(t, n1, x.device, 900*mib, data.bytes)
				f.detach(t, x)
			}
			id := f.beginUpload(volume, c.format, false)
			f.uploaded(volume, "available")
			if got := f.imageStatus(id); got != "active" {
				t.Fatalf("image is %s: %v", got, f.rows(t, "SELECT user_message FROM messages"))
			}
			raw := f.fetch(id, c.format)
			defer os.Remove(raw)
			x := f.attach(t, volume, n1)
			want := f.sum(t, n1, x.device, 0, gib)
			if got := sumFile(t, raw, 0, gib); got != want {
				t.Errorf("the image's disk has sum %s, the volume %s", got, want)
			}
			f.drop(t, x)
			// The root of a tree at once.
			again := f.newAttached(t, id, n1)
			for _, at := range []int{0, 888 * mib} { // where there is data
				const size = 24 * mib
				if got, want := f.sum(t, n1, again.device, at, size), sumFile(t, raw, int64(at), size); got != want {
					t.Errorf("a volume of the image has at %d the sum %s, the image %s", at, got, want)
				}
			}
			f.drop(t, again)
		})
	}
}

// With force a volume in use is uploaded as it was at one moment, while it is written to.
func TestUploadInUse(t *testing.T) {
	f := newFaults(t)
	f.control(map[string]string{"DEFAULT.enable_force_upload": "true"})
	img, data := f.image(t, 16*mib), f.image(t, 4*mib)
	x := f.newAttached(t, img.id, n1)
	f.write(t, n1, x.device, 900*mib, data.bytes)
	// Block i of 4 KiB says i, each on the disk before the next.
	f.run(t, n1, "sh -c 'i=0; while :; do i=$((i+1)); printf \"%-4096d\" $i; done | dd of="+x.device+
		" bs=4096 seek=25600 oflag=direct conv=notrunc iflag=fullblock status=none' >/dev/null 2>&1 & echo $! >/run/writer")
	until(t, time.Minute, "the writer to be at it", func() (bool, error) {
		return strings.HasPrefix(string(f.read(t, n1, x.device, 100*mib+9*4096, 4096)), "10 "), nil
	})
	id := f.beginUpload(x.volume, "qcow2", true)
	f.uploaded(x.volume, "in-use")
	f.run(t, n1, "kill -9 $(fuser "+x.device+" 2>/dev/null) $(cat /run/writer); true")
	raw := f.fetch(id, "qcow2")
	defer os.Remove(raw)
	if got := sumFile(t, raw, 0, 16*mib); got != img.sum {
		t.Error("the image below is not in it")
	}
	if got := sumFile(t, raw, 900*mib, 4*mib); got != data.sum {
		t.Error("what was written is not in it")
	}
	file, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	block, n, ended := make([]byte, 4096), 0, false
	for i := 1; i <= 10000; i++ {
		if _, err := file.ReadAt(block, int64(100*mib+(i-1)*4096)); err != nil {
			t.Fatal(err)
		}
		switch text := strings.TrimSpace(strings.Trim(string(block), "\x00")); {
		case text == fmt.Sprint(i) && !ended:
			n = i
		case text == "":
			ended = true
		default:
			t.Fatalf("block %d says %q after %d in order", i, text, n)
		}
	}
	if n < 10 {
		t.Errorf("%d blocks are in it, 10 were on the disk before", n)
	}
	t.Logf("%d blocks had been written when it was frozen", n)
	f.drop(t, x)
}

// An agent that is killed in the middle sends the image anew; a service that is killed takes it
// with it, and the volume is as before.
func TestUploadInterrupted(t *testing.T) {
	f := newFaults(t)
	img, data := f.image(t, 16*mib), f.image(t, 4*mib)
	for name, hurt := range map[string]func(f *faults, volume, image string) (status string){
		"the agent is killed": func(f *faults, _, _ string) string {
			if err := f.node(f.t, n1).Signal(limit(f.t, time.Minute), "vmthunder-node", syscall.SIGKILL); err != nil {
				f.t.Fatal(err)
			}
			if _, err := f.node(f.t, n1).Wait(limit(f.t, time.Minute), "vmthunder-node"); err != nil {
				f.t.Fatal(err)
			}
			f.startAgent(n1)
			return "active"
		},
		"glance is killed": func(f *faults, _, _ string) string {
			if err := f.lab.KillService(limit(f.t, time.Minute), lab.Glance); err != nil {
				f.t.Fatal(err)
			}
			if err := f.lab.Start(limit(f.t, time.Minute), lab.Glance); err != nil {
				f.t.Fatal(err)
			}
			return "gone"
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			x := f.newAttached(t, img.id, n1)
			f.write(t, n1, x.device, 900*mib, data.bytes)
			want := f.sum(t, n1, x.device, 0, gib)
			f.detach(t, x)
			id := f.beginUpload(x.volume, "raw", false)
			until(t, time.Minute, "a part to be sent", func() (bool, error) {
				status := f.imageStatus(id)
				return status == "saving", nil
			})
			status := hurt(f, x.volume, id)
			f.uploaded(x.volume, "available")
			until(t, time.Minute, "the image to be "+status, func() (bool, error) { return f.imageStatus(id) == status, nil })
			said := f.rows(t, "SELECT user_message FROM messages WHERE event_id = 'VOLUME_VOLUME_003_004'")
			if status == "gone" {
				if len(said) == 0 {
					t.Error("nobody was told")
				}
			} else {
				raw := f.fetch(id, "raw")
				defer os.Remove(raw)
				if got := sumFile(t, raw, 0, gib); got != want {
					t.Errorf("the image has sum %s, the volume %s", got, want)
				}
			}
			t.Log(said)
			f.remove(t, x.volume)
		})
	}
}
