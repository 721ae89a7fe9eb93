//go:build lab

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// faults is a site for a test that breaks something.
type faults struct {
	*site
	t   *testing.T
	dir string
}

func newFaults(t *testing.T) *faults { return &faults{site: current(t), t: t, dir: t.TempDir()} }

// on is the same for a subtest.
func (f *faults) on(t *testing.T) *faults { return &faults{site: f.site, t: t, dir: t.TempDir()} }

// control restarts the control plane with other options, until the test ends.
func (f *faults) control(set map[string]string) {
	f.t.Helper()
	defaults := map[string]string{
		"scheduler.service_down_time": "15", "scheduler.origin_wait": "60", "scheduler.max_image_size_gb": "1024",
		"scheduler.attach_timeout": "50", "DEFAULT.enable_force_upload": "false",
	}
	apply := func(m map[string]string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.c.Configure("", m); err != nil {
			return err
		}
		for i := range 2 {
			if err := f.c.API(i).Stop(ctx, 20*time.Second); err != nil {
				return err
			}
			if err := f.c.StartAPI(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	f.t.Cleanup(func() {
		if err := apply(defaults); err != nil {
			f.t.Error(err)
		}
	})
	if err := apply(set); err != nil {
		f.t.Fatal(err)
	}
}

// random is a file of so many MiB without two equal blocks, the same at every run.
func (f *faults) random(name string, size int) string {
	f.t.Helper()
	b := pattern(size*mib, byte(size))
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// pattern is random bytes, the same for a seed at every run.
func pattern(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed, 7}).Read(b)
	return b
}

func (f *faults) qemu(args ...string) {
	f.t.Helper()
	if out, err := exec.CommandContext(limit(f.t, time.Minute), "qemu-img", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

// glance sends one request to the image service.
func (f *faults) glance(method, path, kind string, body []byte, out any) error {
	ctx := limit(f.t, time.Minute)
	token, err := f.lab.Token(ctx, "admin", "admin")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, f.lab.GlanceURL()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("Content-Type", kind)
	resp, err := f.lab.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}

// upload puts a file into Glance as an image of the given formats; it goes with the test.
func (f *faults) upload(disk, path string, minDisk int) string {
	f.t.Helper()
	container := "bare"
	if disk == "aki" {
		container = disk
	}
	body, err := json.Marshal(map[string]any{
		"name": f.t.Name() + "-" + filepath.Base(path), "disk_format": disk, "container_format": container,
		"visibility": "public", "min_disk": minDisk,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	var made struct{ ID string }
	if err := f.glance(http.MethodPost, "/v2/images", "application/json", body, &made); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := f.glance(http.MethodDelete, "/v2/images/"+made.ID, "application/json", nil, nil); err != nil {
			f.t.Error(err)
		}
	})
	if err := f.glance(http.MethodPut, "/v2/images/"+made.ID+"/file", "application/octet-stream", content, nil); err != nil {
		f.t.Fatal(err)
	}
	return made.ID
}

// forgetVirtualSize makes Glance not know how large an image is unpacked, as it does not
// of one that was put there otherwise than through its API.
func (f *faults) forgetVirtualSize(image string) {
	f.t.Helper()
	d, err := sql.Open("postgres", f.lab.SocketDSN("glance"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if _, err := d.ExecContext(limit(f.t, time.Minute), "UPDATE images SET virtual_size = NULL WHERE id = $1", image); err != nil {
		f.t.Fatal(err)
	}
}

// exec changes rows behind the product's back.
func (f *faults) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.sql.ExecContext(limit(f.t, time.Minute), query, args...); err != nil {
		f.t.Fatal(err)
	}
}

// refused checks that a request was answered with a status and words.
func refused(t testing.TB, err error, status int, words ...string) {
	t.Helper()
	var e *cluster.Error
	switch {
	case err == nil:
		t.Fatalf("the request was granted, wanted %d", status)
	case !errors.As(err, &e) || e.Status != status:
		t.Fatalf("wanted %d, got: %v", status, err)
	}
	for _, w := range words {
		if !strings.Contains(e.Body, w) {
			t.Errorf("the answer does not say %q: %s", w, e.Body)
		}
	}
}

// fails waits until a volume's status is error and checks that its owner is told why, in
// the metadata and in a message.
func (f *faults) fails(volume string, within time.Duration, words ...string) {
	f.t.Helper()
	ctx := limit(f.t, within+10*time.Second)
	v, err := f.admin.WaitVolume(ctx, volume, "error", within)
	if err != nil {
		f.t.Fatal(err)
	}
	var out struct {
		Messages []struct {
			UserMessage string `json:"user_message"`
			EventID     string `json:"event_id"`
		}
	}
	if err := f.admin.Do(ctx, http.MethodGet, "/messages?resource_uuid="+volume, nil, &out); err != nil {
		f.t.Fatal(err)
	}
	if len(out.Messages) != 1 || !strings.HasPrefix(out.Messages[0].EventID, "VOLUME_VOLUME_") {
		f.t.Fatalf("volume %s in error has messages %+v, wanted one", volume, out.Messages)
	}
	for _, w := range words {
		for where, text := range map[string]string{"metadata": v.Metadata["vmthunder:error"], "message": out.Messages[0].UserMessage} {
			if !strings.Contains(text, w) {
				f.t.Errorf("the %s does not say %q: %q", where, w, text)
			}
		}
	}
}

// ask makes a volume of so many GiB and does not wait.
func (f *faults) ask(image string, gib int) string {
	f.t.Helper()
	v, err := f.admin.CreateVolume(limit(f.t, time.Minute), f.t.Name(), image, gib)
	if err != nil {
		f.t.Fatal(err)
	}
	return v.ID
}

// reserve makes an attachment without connector, for a server of its own.
func (f *faults) reserve(c *cluster.Client, volume string) (string, error) {
	var out struct{ Attachment cluster.Attachment }
	err := c.Do(limit(f.t, time.Minute), http.MethodPost, "/attachments", map[string]any{"attachment": map[string]any{
		"volume_uuid": volume, "instance_uuid": uuid.NewString(),
	}}, &out)
	return out.Attachment.ID, err
}

// connect gives a reserved attachment its connector and completes it.
func (f *faults) connect(c *cluster.Client, attachment, volume, node string) (attached, error) {
	a, err := c.Connect(limit(f.t, 2*time.Minute), attachment, node, f.node(f.t, node).Initiator())
	return attached{volume: volume, node: node, id: attachment, device: a.Device()}, err
}

// sum is the SHA-256 of the first MiBs of a device, read past the page cache of its top.
func (f *faults) digest(node, device string, size int) string {
	f.t.Helper()
	return f.run(f.t, node, fmt.Sprintf("{ dd if=%s bs=1M count=%d iflag=direct status=none || echo failed; } | sha256sum | cut -d' ' -f1", device, size))
}

// same compares what a volume reads as with a file of the host.
func (f *faults) reads(a attached, path string) {
	f.t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := exec.CommandContext(limit(f.t, time.Minute), "sha256sum", path).Output()
	if err != nil {
		f.t.Fatal(err)
	}
	want, _, _ := strings.Cut(string(out), " ")
	if got := f.digest(a.node, a.device, int(st.Size()/mib)); got != want {
		f.t.Fatalf("%s on %s reads as %s, wanted %s", a.device, a.node, got, want)
	}
}

// alive waits until exactly these nodes of all are alive, or not.
func (f *faults) alive(want bool, nodes ...string) {
	f.t.Helper()
	until(f.t, 90*time.Second, fmt.Sprintf("%v to be alive: %v", nodes, want), func() (bool, error) {
		have := map[string]bool{}
		for _, h := range f.rows(f.t, "SELECT host FROM nodes WHERE alive") {
			have[h] = true
		}
		for _, n := range nodes {
			if have[n] != want {
				return false, nil
			}
		}
		return true, nil
	})
}

func (f *faults) stopAgent(nodes ...string) {
	f.t.Helper()
	for _, n := range nodes {
		if err := f.c.StopAgent(limit(f.t, time.Minute), n); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *faults) startAgent(nodes ...string) {
	f.t.Helper()
	for _, n := range nodes {
		if err := f.c.StartAgent(limit(f.t, time.Minute), n); err != nil {
			f.t.Fatal(err)
		}
	}
}

// status of a volume, "gone" if there is none.
func (f *faults) status(volume string) string {
	f.t.Helper()
	v, err := f.admin.Volume(limit(f.t, time.Minute), volume)
	var e *cluster.Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return "gone"
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return v.Status
}

// becomes waits for a volume's status.
func (f *faults) becomes(volume, status string) {
	f.t.Helper()
	last := ""
	err := cluster.Wait(limit(f.t, 2*time.Minute), 90*time.Second, "", func() (bool, error) {
		last = f.status(volume)
		return last == status, nil
	})
	if err != nil {
		f.t.Fatalf("volume %s is %s, wanted %s: %v", volume, last, status, err)
	}
}
