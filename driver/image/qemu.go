package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// info is what matters of `qemu-img info --output=json`.
type info struct {
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual-size"`
	Encrypted   bool   `json:"encrypted"`
	Backing     string `json:"backing-filename"`
	FullBacking string `json:"full-backing-filename"`
	Specific    struct {
		Data struct {
			DataFile   string          `json:"data-file"`
			Encrypt    json.RawMessage `json:"encrypt"`
			CreateType string          `json:"create-type"`
			Extents    []struct {
				Filename string `json:"filename"`
			} `json:"extents"`
		} `json:"data"`
	} `json:"format-specific"`
}

// parseInfo reads qemu-img's JSON and checks that the image at path stands alone and
// is what it was opened as. What does not pass wraps driver.ErrUnusable.
func parseInfo(out []byte, f Format, path string) (virtual int64, err error) {
	var i info
	if err := json.Unmarshal(out, &i); err != nil {
		return 0, fmt.Errorf("qemu-img info: %w", err)
	}
	d := i.Specific.Data
	switch {
	case i.Format != string(f):
		return 0, unusable(f, "is %q to qemu-img", i.Format)
	case i.Backing != "" || i.FullBacking != "":
		return 0, unusable(f, "has a backing file")
	case d.DataFile != "":
		return 0, unusable(f, "has an external data file")
	case i.Encrypted || len(d.Encrypt) > 0 && string(d.Encrypt) != "null":
		return 0, unusable(f, "is encrypted")
	case i.VirtualSize <= 0:
		return 0, unusable(f, "has no size")
	}
	if f == VMDK && d.CreateType != "monolithicSparse" && d.CreateType != "streamOptimized" {
		return 0, unusable(f, "is of type %q", d.CreateType)
	}
	for _, e := range d.Extents {
		if e.Filename != path {
			return 0, unusable(f, "has an extent in another file")
		}
	}
	return i.VirtualSize, nil
}

// Limits of qemu-img info on an image of a stranger's, as in OpenStack
// (QEMU_IMG_LIMITS of nova/privsep/qemu.py).
const (
	infoMemory = 1 << 30 // bytes
	infoCPU    = 30      // s
)

// qemuInfo asks qemu-img about a file that [Inspect] has found sound.
func qemuInfo(ctx context.Context, run command.Runner, path string, f Format) (int64, error) {
	res, err := run.Run(ctx, command.Cmd{Name: "prlimit", Args: []string{
		fmt.Sprintf("--as=%d", infoMemory), fmt.Sprintf("--cpu=%d", infoCPU), "--",
		"qemu-img", "info", "--output=json", "-f", string(f), path,
	}, Timeout: 2 * infoCPU * time.Second})
	if exit, ok := errors.AsType[*command.ExitError](err); ok {
		if exit.Code == 127 || strings.Contains(exit.Stderr, "failed to execute") {
			return 0, fmt.Errorf("qemu-img: %w", driver.ErrUnavailable)
		}
		return 0, unusable(f, "is refused by qemu-img info: %s", named(exit.Stderr, path))
	}
	if err != nil {
		return 0, err
	}
	return parseInfo(res.Stdout, f, path)
}

// qemuConvert writes the raw content of src to dst, with holes for zeros.
func qemuConvert(ctx context.Context, run command.Runner, src, dst string, f Format, timeout time.Duration) error {
	_, err := run.Run(ctx, command.Cmd{Name: "qemu-img", Args: []string{
		"convert", "-f", string(f), "-O", string(Raw), "-S", "4k", src, dst,
	}, Timeout: timeout})
	exit, ok := errors.AsType[*command.ExitError](err)
	switch {
	case !ok:
		return err
	// qemu-img has no exit code for it.
	case strings.Contains(exit.Stderr, "No space left on device"):
		return fmt.Errorf("convert %s image: %w", f, driver.ErrNoSpace)
	case exit.Code > 128: // killed by a signal: not the image's fault
		return err
	}
	return unusable(f, "can't be converted: %s", named(exit.Stderr, src))
}

// named leaves of a path in a message the file's name.
func named(s, path string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, path, filepath.Base(path))), " ")
}
