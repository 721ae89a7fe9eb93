package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"golang.org/x/sys/unix"
)

// outFormat is qemu-img's format and options for a disk_format of Glance's. VHD rounds a
// disk's size to a geometry of 1996 unless it is forced not to.
func outFormat(diskFormat string) (format string, options []string, err error) {
	switch diskFormat {
	case "qcow2", "vmdk", "vdi", "vhdx":
		return diskFormat, nil, nil
	case "vhd":
		return "vpc", []string{"-o", "force_size=on"}, nil
	case "ploop":
		return "parallels", nil, nil
	}
	return "", nil, fmt.Errorf("disk format %q can't be made: %w", diskFormat, driver.ErrUnusable)
}

// convert makes ID.image of a device, unless it is there.
func (u *Uploader) convert(ctx context.Context, t driver.Task, diskFormat string, progress func(driver.TaskProgress)) (path string, size int64, err error) {
	path = u.path(t.ID, imageSuffix)
	if st, err := os.Stat(path); err == nil {
		return path, st.Size(), nil
	}
	format, options, err := outFormat(diskFormat)
	if err != nil {
		return "", 0, err
	}
	if err := os.MkdirAll(u.o.Dir, 0o750); err != nil {
		return "", 0, err
	}
	tmp := u.path(t.ID, tmpSuffix)
	// One that a qemu-img that outlived us still writes to must not be this file.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", 0, err
	}
	if err := u.room(ctx, t, progress); err != nil {
		return "", 0, err
	}
	stop := u.watch(ctx, tmp, t.Bytes, progress)
	err = u.qemu(ctx, t.Device, tmp, format, options)
	stop()
	if err == nil {
		err = u.step("converted")
	}
	if err == nil {
		err = syncPath(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		if ctx.Err() == nil && u.fail == nil {
			err = errors.Join(err, u.Clean(ctx, t.ID)) // a full disk is to be freed at once
		}
		return "", 0, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	return path, st.Size(), u.step("renamed")
}

func syncPath(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return space(errors.Join(f.Sync(), f.Close()))
}

// qemu converts. The device is raw, and told to be: what its content looks like is nobody's
// business (CVE-2015-5163).
func (u *Uploader) qemu(ctx context.Context, device, tmp, format string, options []string) error {
	args := append([]string{"convert", "-f", string(Raw), "-O", format}, options...)
	_, err := u.o.Runner.Run(ctx, command.Cmd{Name: "qemu-img", Args: append(args, "-S", "4k", device, tmp), Timeout: u.o.ConvertTimeout})
	exit, ok := errors.AsType[*command.ExitError](err)
	switch {
	case !ok:
		return err
	case strings.Contains(exit.Stderr, "No space left on device"): // there is no exit code for it
		return fmt.Errorf("convert to %s: %w", format, driver.ErrNoSpace)
	}
	return fmt.Errorf("convert to %s: %w", format, err)
}

// spare is kept free beside what an image takes.
const spare = 64 << 20

// room sees that the image will fit. Where the whole disk would there is no question; where it
// would not, what of it is not zero is counted, which costs a read of it.
func (u *Uploader) room(ctx context.Context, t driver.Task, progress func(driver.TaskProgress)) error {
	var st unix.Statfs_t
	if err := unix.Statfs(u.o.Dir, &st); err != nil {
		return fmt.Errorf("%s: %w", u.o.Dir, err)
	}
	free := int64(st.Bavail)*st.Bsize - spare
	if free >= t.Bytes+t.Bytes/64 {
		return nil
	}
	need, err := filled(ctx, t.Device, t.Bytes, progress)
	if err != nil {
		return err
	}
	if need += need / 64; need > free {
		return fmt.Errorf("the image takes up to %d MiB, of which %s has %d MiB free: %w", need>>20, u.o.Dir, max(0, free)>>20, driver.ErrNoSpace)
	}
	return nil
}

// filled counts the bytes of clusters that are not all zeros.
func filled(ctx context.Context, path string, size int64, progress func(driver.TaskProgress)) (int64, error) {
	f, err := os.Open(path) //nolint:gosec // the document's device
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	const cluster = 64 << 10 // qcow2's
	buf, zero := make([]byte, chunk), make([]byte, cluster)
	var n int64
	for off := int64(0); off < size; off += chunk {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b := buf[:min(chunk, size-off)]
		if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read what is to be converted: %w", err)
		}
		_ = unix.Fadvise(int(f.Fd()), off, int64(len(b)), unix.FADV_DONTNEED) // advice
		for len(b) > 0 {
			c := b[:min(cluster, len(b))]
			if !bytes.Equal(c, zero[:len(c)]) {
				n += cluster
			}
			b = b[len(c):]
		}
		progress(driver.TaskProgress{Phase: "measure", Done: off, Total: size})
	}
	return n, nil
}

// watch reports how large the file is, until the function that it returns is called.
func (u *Uploader) watch(ctx context.Context, tmp string, total int64, progress func(driver.TaskProgress)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	progress(driver.TaskProgress{Phase: phaseConvert, Total: total})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-tick.C:
				progress(driver.TaskProgress{Phase: phaseConvert, Done: min(allocated(tmp), total), Total: total})
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}
