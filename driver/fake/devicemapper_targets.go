package fake

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// open is dm_get_device: by whom and how a target opens a device. sectors of it must exist.
func (m *DeviceMapper) open(t *dmTable, path string, write bool, sectors uint64) (*blockDevice, error) {
	d := m.devs.lookup(path)
	switch {
	case d == nil:
		return nil, fmt.Errorf("device %s: %w", path, driver.ErrNotFound)
	case d.claimed > 0:
		return nil, fmt.Errorf("device %s is claimed: %w", path, driver.ErrBusy)
	case write && d.readOnly && d.disk:
		// A write-protected disk can't be opened for writing; loop and device-mapper
		// devices can, and fail each write.
		return nil, fmt.Errorf("device %s: read-only file system", path)
	case d.sectors < sectors:
		return nil, fmt.Errorf("device %s has %d sectors, the target wants %d: %w", path, d.sectors, sectors, errDMInvalid)
	}
	d.inTables++
	t.uses = append(t.uses, d)
	return d, nil
}

// construct is the target's constructor.
func (m *DeviceMapper) construct(t *dmTable, s driver.Segment, ro bool) error {
	switch s.Type {
	case "zero", "error":
		if strings.TrimSpace(s.Params) != "" && s.Type == "zero" {
			return errDMInvalid
		}
		return nil
	case "linear":
		p, err := dm.ParseLinear(s)
		if err != nil {
			return err
		}
		_, err = m.open(t, p.Device, !ro, p.Offset+s.Length)
		return err
	case "switch":
		p, err := dm.ParseSwitch(s)
		for _, d := range p.Devices {
			if err == nil {
				_, err = m.open(t, d, !ro, s.Length)
			}
		}
		return err
	case "multipath":
		p, err := dm.ParseMultipath(s)
		if err != nil || p.Device == "" {
			return err
		}
		d, err := m.open(t, p.Device, !ro, s.Length)
		if err == nil && d.mapped != nil {
			return fmt.Errorf("including non-request-stackable device %s: %w", p.Device, errDMInvalid)
		}
		return err
	case "snapshot":
		p, err := dm.ParseSnapshot(s)
		if err != nil {
			return err
		}
		if n := p.ChunkSectors; n < 8 || n&(n-1) != 0 {
			return fmt.Errorf("chunk of %d sectors: %w", n, errDMInvalid)
		}
		if _, err = m.open(t, p.Origin, false, s.Length); err != nil {
			return err
		}
		_, err = m.open(t, p.Cow, !ro, 1)
		return err
	case "cache":
		p, err := dm.ParseCache(s)
		if err != nil {
			return err
		}
		if p.BlockSectors < 64 || p.BlockSectors%64 != 0 {
			return fmt.Errorf("block of %d sectors: %w", p.BlockSectors, errDMInvalid)
		}
		for _, d := range []struct {
			path string
			min  uint64
		}{{p.Metadata, 1}, {p.Cache, p.BlockSectors}, {p.Origin, s.Length}} {
			if _, err := m.open(t, d.path, true, d.min); err != nil {
				return err
			}
		}
		return nil
	case "thin-pool":
		p, err := dm.ParseThinPool(s)
		if err != nil {
			return err
		}
		if p.BlockSectors < 128 || p.BlockSectors%128 != 0 || p.BlockSectors > 1<<21 {
			return fmt.Errorf("block of %d sectors: %w", p.BlockSectors, errDMInvalid)
		}
		meta, err := m.open(t, p.Metadata, true, 1)
		if err != nil {
			return err
		}
		if _, err = m.open(t, p.Data, true, s.Length); err != nil {
			return err
		}
		key := m.ground(meta)
		if m.disks[key] == nil {
			m.disks[key] = &dmPool{thins: map[uint64]bool{}, mapped: map[uint64]uint64{}, exceptions: map[uint64]bool{}}
		}
		m.disks[key].metaBlocks = meta.sectors / 8
		m.disks[key].dataBlocks = s.Length / p.BlockSectors
		return nil
	case "thin":
		p, err := dm.ParseThin(s)
		if err != nil {
			return err
		}
		d, err := m.open(t, p.Pool, !ro, 0)
		if err != nil {
			return err
		}
		pool := m.poolOf(d)
		if pool == nil {
			return fmt.Errorf("device %s is no thin pool: %w", p.Pool, errDMInvalid)
		}
		if !pool.thins[uint64(p.ID)] {
			return fmt.Errorf("no thin device %d: no data available: %w", p.ID, driver.ErrNotFound)
		}
		return nil
	}
	return fmt.Errorf("target type %s: %w", s.Type, driver.ErrUnavailable)
}

// dmPool is what a thin pool has on its metadata device.
type dmPool struct {
	thins                map[uint64]bool
	mapped               map[uint64]uint64 // sectors, by thin device
	exceptions           map[uint64]bool   // thin devices that hold a dm-snapshot's exceptions
	used, dataBlocks     uint64            // data blocks
	usedMeta, metaBlocks uint64            // blocks of 4 KiB
	mode                 string            // "" is rw
}

// ground names where a device begins on a disk, so that a pool is found again
// when the linear devices below it are made anew.
func (m *DeviceMapper) ground(d *blockDevice) string {
	var offset uint64
	for d.mapped != nil && d.mapped.live != nil {
		p, err := dm.ParseLinear(d.mapped.live.lines[0])
		if err != nil {
			break
		}
		offset += p.Offset
		d = m.devs.lookup(p.Device)
	}
	// A loop device stands for its file, whatever its number.
	return d.home() + "+" + strconv.FormatUint(offset, 10)
}

// poolOf returns the pool that the device-mapper device d is.
func (m *DeviceMapper) poolOf(d *blockDevice) *dmPool {
	if d.mapped == nil || d.mapped.live == nil {
		return nil
	}
	p, err := dm.ParseThinPool(d.mapped.live.lines[0])
	if err != nil {
		return nil
	}
	return m.disks[m.ground(m.devs.lookup(p.Metadata))]
}

// SetPoolUsage sets what the thin pool name reports: used data blocks, and mode rw,
// ro, out_of_data_space or fail. Data blocks are never used by themselves here.
func (m *DeviceMapper) SetPoolUsage(name string, usedBlocks uint64, mode string) {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	if d := m.named[name]; d != nil {
		if p := m.poolOf(d.dev); p != nil {
			p.used, p.mode = usedBlocks, mode
		}
	}
}

// SetThinMapped sets how many sectors of a thin device of the pool name have data. None
// have by themselves here.
func (m *DeviceMapper) SetThinMapped(name string, id uint32, sectors uint64) {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	if d := m.named[name]; d != nil {
		if p := m.poolOf(d.dev); p != nil {
			p.mapped[uint64(id)] = sectors
		}
	}
}

// SetThinExceptions makes a thin device of the pool name hold the exceptions of a dm-snapshot.
func (m *DeviceMapper) SetThinExceptions(name string, id uint32) {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	if d := m.named[name]; d != nil {
		if p := m.poolOf(d.dev); p != nil {
			p.exceptions[uint64(id)] = true
		}
	}
}

// statusLine is what the kernel would report of a target that nothing happened to.
func (m *DeviceMapper) statusLine(d *dmDevice, s driver.Segment) string {
	switch s.Type {
	case "snapshot":
		p, _ := dm.ParseSnapshot(s)
		if cow := m.devs.lookup(p.Cow); cow != nil {
			return fmt.Sprintf("16/%d 16", cow.sectors)
		}
	case "multipath":
		p, _ := dm.ParseMultipath(s)
		if p.Device == "" {
			return "2 1 0 0 0 0"
		}
		state, fails := "A", 0
		if d.failedPath {
			state, fails = "F", 1
		}
		return fmt.Sprintf("2 0 0 0 1 1 E 0 1 0 %s %s %d", p.Device, state, fails)
	case "thin":
		p, _ := dm.ParseThin(s)
		if d := m.devs.lookup(p.Pool); d != nil {
			if pool := m.poolOf(d); pool != nil && pool.mapped[uint64(p.ID)] > 0 {
				return fmt.Sprintf("%d %d", pool.mapped[uint64(p.ID)], pool.mapped[uint64(p.ID)]-1)
			}
		}
		return "0 -"
	case "cache":
		p, _ := dm.ParseCache(s)
		var blocks uint64
		if c := m.devs.lookup(p.Cache); c != nil {
			blocks = c.sectors / p.BlockSectors
		}
		return fmt.Sprintf("8 7/1024 %d 0/%d 0 0 0 0 0 0 0 1 %s 2 migration_threshold 2048 smq 0 rw -", p.BlockSectors, blocks, p.Mode)
	case "thin-pool":
		pool := m.poolOf(d.dev)
		mode := pool.mode
		switch {
		case mode == "fail":
			return "Fail"
		case mode == "" && pool.used >= pool.dataBlocks:
			mode = "out_of_data_space"
		case mode == "":
			mode = "rw"
		}
		return fmt.Sprintf("0 %d/%d %d/%d - %s discard_passdown queue_if_no_space - 1024",
			10+pool.usedMeta, pool.metaBlocks, pool.used, pool.dataBlocks, mode)
	}
	return ""
}
