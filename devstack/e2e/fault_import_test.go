//go:build lab

package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowImport is an image whose import takes some seconds: the way to the origin is narrow
// until fast is called, or the test ends.
func (f *faults) slowImport(size int) testImage {
	f.t.Helper()
	img := f.image(f.t, size*mib)
	if err := f.lab.Shape(limit(f.t, time.Minute), origin+":in", "80mbit"); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.fast)
	return img
}

func (f *faults) fast() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.lab.Shape(ctx, origin+":in", "off"); err != nil {
		f.t.Error(err)
	}
}

// importing waits until a volume shows that a part of its image is there.
func (f *faults) importing(volume string) {
	f.t.Helper()
	until(f.t, time.Minute, "the import to be under way", func() (bool, error) {
		v, err := f.admin.Volume(limit(f.t, time.Minute), volume)
		p := v.Metadata["vmthunder:import"]
		return strings.HasPrefix(p, "download ") && !strings.HasPrefix(p, "download 0%"), err
	})
	if s := f.status(volume); s != "downloading" {
		f.t.Fatalf("the volume is %s while its image is imported", s)
	}
}

// TestFaultOriginDies: an import goes on after its origin has died in the middle of it.
func TestFaultOriginDies(t *testing.T) {
	f := newFaults(t)
	for _, c := range []struct {
		name  string
		death func(t *testing.T)
	}{
		{"agent", func(t *testing.T) {
			n := f.node(t, origin)
			if err := n.Signal(limit(t, time.Minute), "vmthunder-node", syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Wait(limit(t, time.Minute), "vmthunder-node"); err != nil {
				t.Fatal(err)
			}
			if part := f.run(t, origin, "cd /var/lib/vmthunder/images && stat -c %s *.part"); part == "0" {
				t.Error("nothing was there to go on with")
			}
			f.startAgent(origin)
		}},
		{"machine", func(t *testing.T) {
			if err := f.c.Reboot(limit(t, 2*time.Minute), origin); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := f.on(t)
			img := f.slowImport(64)
			v := f.ask(img.id, 1)
			f.importing(v)
			c.death(t)
			f.becomes(v, "available")
			f.fast()
			if got := f.run(t, origin, "sha256sum /var/lib/vmthunder/images/"+img.id+".raw | cut -d' ' -f1"); got != img.sum {
				t.Errorf("the origin has other bytes: %s, wanted %s", got, img.sum)
			}
			if left := f.run(t, origin, "ls /var/lib/vmthunder/images | grep -v "+img.id+`\\.raw | grep -v info; true`); left != "" {
				t.Errorf("beside the image there are %s", left)
			}
			a := f.attach(t, v, n1)
			f.same(t, n1, a.device, 0, img.bytes)
			f.drop(t, a)
		})
	}
}
