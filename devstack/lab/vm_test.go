//go:build lab

package lab_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// A machine boots from a device-mapper device of a node, twice, and the second boot
// finds what the first wrote.
func TestBootVM(t *testing.T) {
	l, _ := current(t)
	ctx := timeout(t, 6*time.Minute)
	img, err := l.BootImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.AddNode(ctx, lab.NodeSpec{Name: "vmhost", Memory: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Kill(ctx); err != nil { // its memory is wanted elsewhere
			t.Error(err)
		}
	}()
	f, err := os.Open(img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	script := fmt.Sprintf("dd of=/dev/ubda bs=1M iflag=fullblock status=none && sync && dmsetup create vol --table '0 %d linear /dev/ubda 0'", img.Size/512)
	if r, err := n.Exec(ctx, lab.Command{Argv: []string{"sh", "-c", script}}, f); err != nil || r.Code != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i := 1; i <= 2; i++ {
		b, err := lab.BootVM(ctx, n, "/dev/mapper/vol", "volume-4711", 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("booted in %v", b.Duration)
		if b.ID != "volume-4711" || b.Count != i {
			t.Errorf("boot %d: %+v", i, b)
		}
	}
	// Noise over the checked files, and the boot says so.
	if _, err := n.Run(ctx, "sh", "-c", "dd if=/dev/urandom of=/dev/mapper/vol bs=1M seek=22 count=20 oflag=direct status=none"); err != nil {
		t.Fatal(err)
	}
	if b, err := lab.BootVM(ctx, n, "/dev/mapper/vol", "volume-4711", 90*time.Second); err == nil {
		t.Errorf("a damaged disk booted: %+v", b)
	}
}
