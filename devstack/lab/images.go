package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/lab/agent"
	"github.com/vmthunder/vmthunder/devstack/lab/image"
)

// The names under which Options.Images registers the boot image.
const (
	ImageRaw   = "ubuntu12"
	ImageQCOW2 = "ubuntu12-qcow2"
)

// BootImage returns the bootable image, built when it is not in the cache.
func (l *Lab) BootImage(ctx context.Context) (*image.Image, error) {
	dir := l.st.Cache
	if dir == "" {
		dir = l.dir
	}
	return image.Build(ctx, dir, l.progress)
}

func (l *Lab) registerImages(ctx context.Context) error {
	img, err := l.BootImage(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, x := range []struct{ name, format, path string }{{ImageRaw, "raw", img.Raw}, {ImageQCOW2, "qcow2", img.QCOW2}} {
		g.Go(func() error {
			_, err := l.UploadImage(ctx, x.name, x.format, x.path)
			return err
		})
	}
	return g.Wait()
}

// UploadImage makes a public image of a file of the host and returns its id. An image
// of that name that the administrator sees already is taken as it is.
func (l *Lab) UploadImage(ctx context.Context, name, diskFormat, path string) (string, error) {
	id, err := l.uploadImage(ctx, name, diskFormat, path)
	if err != nil {
		return "", fmt.Errorf("upload image %s: %w%s", name, err, tail(l.LogPath(string(Glance))))
	}
	return id, nil
}

func (l *Lab) uploadImage(ctx context.Context, name, diskFormat, path string) (string, error) {
	token, err := l.Token(ctx, "admin", "admin")
	if err != nil {
		return "", err
	}
	var found struct {
		Images []struct{ ID, Status string }
	}
	if err := l.glance(ctx, token, http.MethodGet, "/v2/images?status=active&name="+name, "", nil, 0, &found); err != nil {
		return "", err
	}
	if len(found.Images) > 0 {
		return found.Images[0].ID, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(object{"name": name, "disk_format": diskFormat, "container_format": "bare", "visibility": "public", "min_disk": 1})
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err := l.glance(ctx, token, http.MethodPost, "/v2/images", "application/json", strings.NewReader(string(body)), int64(len(body)), &made); err != nil {
		return "", err
	}
	return made.ID, l.glance(ctx, token, http.MethodPut, "/v2/images/"+made.ID+"/file", "application/octet-stream", f, st.Size(), nil)
}

func (l *Lab) glance(ctx context.Context, token, method, path, kind string, body io.Reader, length int64, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, l.GlanceURL()+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
		req.ContentLength = length // uwsgi takes no chunked body by default
	}
	resp, err := l.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// VMBoot is what a virtual machine said when it booted.
type VMBoot struct {
	ID       string        `json:"id"`    // the disk's serial, as the guest saw it
	Count    int           `json:"count"` // boots so far, as counted on the disk
	Duration time.Duration `json:"duration"`
	Serial   string        `json:"serial"` // all of its serial port
}

// vmMemory is the virtual machine's memory in MiB: what Debian's kernel needs to unpack
// itself, and little more, as the node's own memory holds it.
const vmMemory = 112

// BootVM boots a virtual machine from a block device or raw image in a node, with QEMU's
// emulation, and waits until the boot image in it reports its boot. id, at most 20
// bytes, becomes the disk's serial number. The machine is gone when BootVM returns.
// The node wants 1 GiB of memory.
func BootVM(ctx context.Context, n *Node, device, id string, timeout time.Duration) (VMBoot, error) {
	if len(id) > 20 || strings.ContainsAny(id+device, ",") {
		return VMBoot{}, fmt.Errorf("%w: virtual machine %q on %q", ErrOptions, id, device)
	}
	argv := []string{
		"qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=32", "-cpu", "max", "-m", fmt.Sprint(vmMemory), "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
		"-drive", "file=" + device + ",format=raw,if=none,id=disk0,cache=none,aio=threads",
		"-device", "virtio-blk-pci,drive=disk0,bootindex=0,serial=" + id,
		"-smbios", "type=1,sku=vmthunder-poweroff",
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	w := &bootWatch{start: start, found: cancel}
	var stderr strings.Builder
	// The guest powers off by itself once it has booted; should it not, ctx ends it.
	code, err := n.Stream(ctx, agent.Command{Argv: argv}, Streams{Stdout: w, Stderr: &stderr})
	boot, ok := w.result()
	boot.Serial = w.text.String()
	if !ok {
		return boot, fmt.Errorf("virtual machine %s on %s of node %s did not boot in %.0f s (exit status %d, %w): %s%s",
			id, device, n.Name(), time.Since(start).Seconds(), code, err, strings.TrimSpace(stderr.String()), lastLines(boot.Serial, 15))
	}
	return boot, nil
}

// bootWatch collects a serial port's text and notices the line that says BOOTED.
type bootWatch struct {
	text  strings.Builder
	start time.Time
	boot  VMBoot
	ok    bool
	found func()
}

func (w *bootWatch) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.ok {
		if b, ok := parseBooted(w.text.String()); ok {
			b.Duration = time.Since(w.start)
			w.boot, w.ok = b, true
			// Its disk is synced; 3 s are for a guest that says more.
			time.AfterFunc(3*time.Second, w.found)
		}
	}
	return len(p), nil
}

func (w *bootWatch) result() (VMBoot, bool) { return w.boot, w.ok }

// parseBooted finds a whole line "BOOTED id count".
func parseBooted(s string) (VMBoot, bool) {
	for line := range strings.Lines(s) {
		if !strings.HasSuffix(line, "\n") {
			break // not whole yet
		}
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "BOOTED" {
			var b VMBoot
			if _, err := fmt.Sscan(f[2], &b.Count); err == nil {
				b.ID = f[1]
				return b, true
			}
		}
	}
	return VMBoot{}, false
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "\n" + strings.Join(lines, "\n")
}
