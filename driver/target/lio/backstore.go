package lio

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// A backstore is core/iblock_N/NAME, its NAME the target's IQN, so that one
// that a crash left without a target can still be traced. N is a host bus adapter in
// name only; all of ours share one, which goes with the last of them.
const ownHBA = "core/iblock_2014"

// findBackstore returns the path of the backstore named iqn, "" if there is none.
func (h *Helper) findBackstore(iqn string) (string, error) {
	hbas, err := h.fs.dirs("core")
	if err != nil {
		return "", fmt.Errorf("list backstores: %w", err)
	}
	for _, hba := range hbas {
		if !strings.HasPrefix(hba, "iblock_") {
			continue
		}
		names, err := h.fs.dirs(path.Join("core", hba))
		if err != nil && !gone(err) {
			return "", fmt.Errorf("list backstores: %w", err)
		}
		for _, n := range names {
			if n == iqn {
				return path.Join("core", hba, n), nil
			}
		}
	}
	return "", nil
}

// backstoreMatches says whether the backstore at p is finished and is t's.
func (h *Helper) backstoreMatches(p string, t driver.Target) (bool, error) {
	enabled, err := h.fs.read(path.Join(p, "enable"))
	if err != nil {
		return false, fmt.Errorf("read backstore: %w", err)
	}
	info, err := h.fs.read(path.Join(p, "info"))
	if err != nil {
		return false, fmt.Errorf("read backstore: %w", err)
	}
	serial, err := h.fs.read(path.Join(p, "wwn/vpd_unit_serial"))
	if err != nil {
		return false, fmt.Errorf("read backstore: %w", err)
	}
	d := parseDevice(info)
	if strings.TrimSpace(enabled) != "1" || d.path != t.Device || d.readOnly != t.ReadOnly || t.Serial != "" && parseSerial(serial) != t.Serial {
		return false, nil
	}
	major, minor, err := h.number(t.Device)
	if err != nil {
		return false, err
	}
	return d.major == major && d.minor == minor, nil
}

// createBackstore makes an enabled backstore for t and returns its path. LIO opens the
// device exclusively.
func (h *Helper) createBackstore(t driver.Target) (string, error) {
	p := path.Join(ownHBA, t.IQN)
	var err error
	for range 10 { // another target's removal can take the adapter away in between
		if err = ensureDir(h.fs, ownHBA); err != nil {
			break
		}
		if err = h.fs.mkdir(p); !gone(err) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("make backstore: %w", h.available(err))
	}
	mode := "0"
	if t.ReadOnly {
		mode = "1"
	}
	if err := h.fs.write(path.Join(p, "control"), "udev_path="+t.Device+",readonly="+mode); err != nil {
		return "", fmt.Errorf("set backstore's device: %w", err)
	}
	if err := h.fs.write(path.Join(p, "udev_path"), t.Device); err != nil {
		return "", fmt.Errorf("set backstore's path: %w", err)
	}
	if t.Serial != "" {
		// Must be set while nothing links to the backstore.
		if err := h.fs.write(path.Join(p, "wwn/vpd_unit_serial"), t.Serial); err != nil {
			return "", fmt.Errorf("set backstore's serial: %w", err)
		}
	}
	if err := h.fs.write(path.Join(p, "enable"), "1"); err != nil {
		switch {
		case errors.Is(err, syscall.EBUSY):
			err = fmt.Errorf("%w: %w; LIO needs %s for itself", driver.ErrBusy, err, t.Device)
		case gone(err), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
			err = fmt.Errorf("%w: %w", driver.ErrNotFound, err)
		}
		return "", fmt.Errorf("open device %s: %w", t.Device, err)
	}
	return p, nil
}

// removeBackstore removes the backstore at p, which closes the device. A link that
// is just going makes it wait.
func (h *Helper) removeBackstore(ctx context.Context, p string) error {
	return h.poll(ctx, func() (bool, error) {
		err := removeDir(h.fs, p)
		if errors.Is(err, syscall.EBUSY) {
			return false, fmt.Errorf("%w: %w", driver.ErrBusy, err)
		}
		return true, err
	})
}

// removeHBA removes the adapter of our backstores unless there are others on it.
func (h *Helper) removeHBA() error {
	err := removeDir(h.fs, ownHBA)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY) {
		return nil
	}
	return err
}

// blockNumber is the device number of a block device's node.
func blockNumber(device string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return 0, 0, fmt.Errorf("device %s: %w", device, driver.ErrNotFound)
		}
		return 0, 0, fmt.Errorf("device %s: %w", device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is not a block device", device)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}
