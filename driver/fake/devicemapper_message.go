package fake

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Message implements driver.DeviceMapper for what thin pools and multipath devices
// understand, and for the statistics messages (@stats_...), which do nothing.
func (m *DeviceMapper) Message(ctx context.Context, name string, _ uint64, message string) (string, error) {
	leave, err := m.enter(ctx, "message", name)
	if err != nil {
		return "", err
	}
	defer leave()
	d, err := m.find("message", name)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(message, "@stats_") {
		return "", nil
	}
	words := strings.Fields(message)
	if len(words) > 0 {
		switch d.live.lines[0].Type {
		case "thin-pool":
			err = m.poolMessage(d, words)
		case "multipath":
			err = multipathMessage(d, words[0])
		default:
			err = errDMInvalid
		}
	}
	if err != nil {
		return "", fmt.Errorf("fake device-mapper: send message %s to %s: %w", message, name, err)
	}
	return "", nil
}

func multipathMessage(d *dmDevice, word string) error {
	switch word {
	case "fail_path":
		d.failedPath = true
	case "reinstate_path":
		d.failedPath = false
	case "queue_if_no_path", "fail_if_no_path":
	default:
		return errDMInvalid
	}
	return nil
}

// poolMessage is pool_message of drivers/md/dm-thin.c.
func (m *DeviceMapper) poolMessage(d *dmDevice, words []string) error {
	pool := m.poolOf(d.dev)
	if pool.mode == "ro" || pool.mode == "fail" {
		return fmt.Errorf("pool is in mode %s: operation not supported", pool.mode)
	}
	ids := make([]uint64, 0, 2)
	for _, w := range words[1:] {
		n, err := strconv.ParseUint(w, 10, 24)
		if err != nil {
			return errDMInvalid
		}
		ids = append(ids, n)
	}
	want := map[string]int{"create_thin": 1, "create_snap": 2, "delete": 1}
	if n, ok := want[words[0]]; !ok || n != len(ids) {
		return errDMInvalid
	}
	id := ids[0]
	switch words[0] {
	case "create_snap":
		if !pool.thins[ids[1]] {
			return fmt.Errorf("no thin device %d: no data available: %w", ids[1], driver.ErrNotFound)
		}
		if other := m.active(d, ids[1]); other != nil && !other.suspended {
			return fmt.Errorf("thin device %d is active as %s and not suspended: its snapshot would be torn", ids[1], other.name)
		}
		fallthrough
	case "create_thin":
		if pool.thins[id] {
			return fmt.Errorf("thin device %d: %w", id, driver.ErrExists)
		}
		pool.thins[id] = true
	case "delete":
		if !pool.thins[id] {
			return fmt.Errorf("no thin device %d: no data available: %w", id, driver.ErrNotFound)
		}
		if other := m.active(d, id); other != nil {
			return fmt.Errorf("thin device %d is active as %s: %w", id, other.name, driver.ErrBusy)
		}
		delete(pool.thins, id)
		delete(pool.mapped, id)
		delete(pool.exceptions, id)
	}
	return nil
}

// active returns a device that stands on thin device id of pool.
func (m *DeviceMapper) active(pool *dmDevice, id uint64) *dmDevice {
	for _, d := range m.named {
		for _, s := range d.live.lines {
			p, err := dm.ParseThin(s)
			if err == nil && uint64(p.ID) == id && m.devs.lookup(p.Pool) == pool.dev {
				return d
			}
		}
	}
	return nil
}
