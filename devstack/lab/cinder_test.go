//go:build lab

package lab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// The real Cinder makes a volume from an image, keeps it over a restart, and deletes it,
// and nothing of it is left on the host.
func TestCinder(t *testing.T) {
	ctx := timeout(t, 5*time.Minute)
	l, err := lab.Up(ctx, lab.Options{Name: "peer", Owned: true, Services: []lab.Service{lab.Cinder}, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(l.Dir()); err == nil {
			_ = l.Down(context.WithoutCancel(ctx))
		}
	})
	blob := make([]byte, 3<<20+512)
	_, _ = rand.Read(blob)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, blob, 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := l.UploadImage(ctx, "image", "raw", path)
	if err != nil {
		t.Fatal(err)
	}
	api := &cinderAPI{lab: l}
	if api.token, err = l.Token(ctx, "demo", "demo"); err != nil {
		t.Fatal(err)
	}

	var made struct{ Volume cinderVolume }
	body := fmt.Sprintf(`{"volume": {"name": "v", "size": 1, "imageRef": %q}}`, image)
	if err := api.do(ctx, http.MethodPost, "/volumes", body, &made); err != nil {
		t.Fatal(err)
	}
	id := made.Volume.ID
	if v := api.wait(ctx, t, id); v.Status != "available" || v.Bootable != "true" || v.Size != 1 {
		t.Fatalf("%+v; log %s", v, l.LogPath("cinder-volume"))
	}
	file := filepath.Join(l.CinderStore(), "volume-"+id)
	sameContent(t, file, blob, 1<<30)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), l.Dir()) {
		t.Errorf("the host's mount table has what is cinder-volume's alone (%v):\n%s", err, mounts)
	}

	// What it was told is still known after a restart.
	if err := l.Stop(ctx, lab.Cinder); err != nil {
		t.Fatal(err)
	}
	if err := api.do(ctx, http.MethodGet, "/volumes/"+id, "", nil); err == nil {
		t.Error("answers while it is gone")
	}
	if err := l.Start(ctx, lab.Cinder); err != nil {
		t.Fatal(err)
	}
	if v := api.wait(ctx, t, id); v.Status != "available" {
		t.Errorf("after a restart: %+v", v)
	}
	if err := api.do(ctx, http.MethodDelete, "/volumes/"+id, "", nil); err != nil {
		t.Fatal(err)
	}
	if v := api.wait(ctx, t, id); v.Status != gone {
		t.Errorf("after its deletion: %+v", v)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the deleted volume's file: %v", err)
	}

	// The catalog leads to the project's own API until it is told otherwise, and back.
	ours := l.VolumeURL()
	for _, want := range []string{ours, l.CinderURL(), ours} {
		if err := l.PointCatalog(ctx, want); err != nil {
			t.Fatal(err)
		}
		cmd, err := l.OpenStack("admin", "endpoint", "list", "--service", "volumev3", "--interface", "public", "-f", "value", "-c", "URL")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := l.RunInside(cmd); err != nil || out.String() != want+"\n" {
			t.Errorf("the catalog says %q, want %q (%v)", out.String(), want, err)
		}
	}

	if err := l.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, l.Dir(), l.Namespace()); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// sameContent fails the test unless the file is of that size, begins with head and is
// zero after that.
func sameContent(t *testing.T, path string, head []byte, size int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(head))
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, head) {
		t.Errorf("%s does not hold the image", path)
	}
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	at := int64(len(head))
	for {
		n, err := f.Read(buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			t.Fatalf("%s is not zero after the image, near byte %d", path, at)
		}
		if at += int64(n); err != nil {
			break
		}
	}
	if at != size {
		t.Errorf("%s has %d bytes, want %d", path, at, size)
	}
}

// gone is the status of a volume that there is not.
const gone = "gone"

type cinderVolume struct {
	ID, Status, Bootable string
	Size                 int
}

type cinderAPI struct {
	lab   *lab.Lab
	token string
}

var errNotFound = errors.New("not found")

// do sends a request to the real Cinder, with no project in its path, which the token names.
func (a *cinderAPI) do(ctx context.Context, method, path, body string, out any) error {
	url := strings.TrimSuffix(a.lab.CinderURL(), "/%(project_id)s") + path
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", a.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.lab.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return errNotFound
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}

// wait waits until nothing more will become of a volume by itself.
func (a *cinderAPI) wait(ctx context.Context, t *testing.T, id string) cinderVolume {
	t.Helper()
	for {
		var got struct{ Volume cinderVolume }
		err := a.do(ctx, http.MethodGet, "/volumes/"+id, "", &got)
		if errors.Is(err, errNotFound) {
			return cinderVolume{ID: id, Status: gone}
		}
		if err != nil {
			t.Fatal(err)
		}
		switch got.Volume.Status {
		case "creating", "downloading", "deleting":
		default:
			return got.Volume
		}
		select {
		case <-ctx.Done():
			t.Fatalf("volume %s is still %s; log %s", id, got.Volume.Status, a.lab.LogPath("cinder-volume"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
