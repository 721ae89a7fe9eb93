package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// DeviceMapper is a driver.DeviceMapper over [Devices]. It knows what the kernel
// knows of the targets of this program: which devices a table opens and how, that
// they must be there and large enough, and which thin devices a pool has. It moves no data.
type DeviceMapper struct {
	devs   *Devices
	faults dmFaults

	// All below is guarded by devs.mu.
	types  []string
	named  map[string]*dmDevice
	disks  map[string]*dmPool // what thin pools have on their metadata devices
	minors uint32
}

var _ driver.DeviceMapper = (*DeviceMapper)(nil)

const dmMajor = 254

// dmTable is a loaded table: normalised, with the devices it holds open.
type dmTable struct {
	lines driver.Table
	uses  []*blockDevice
	ro    bool
}

type dmDevice struct {
	name, uuid string
	dev        *blockDevice
	live       *dmTable
	suspended  bool
	status     map[int]string // by segment, set by a test
	failedPath bool           // multipath
}

// NewDeviceMapper returns one without devices, that has every target type except flashcache.
func NewDeviceMapper(devs *Devices) *DeviceMapper {
	return &DeviceMapper{
		devs: devs, named: map[string]*dmDevice{}, disks: map[string]*dmPool{},
		types: []string{"linear", "zero", "error", "multipath", "switch", "snapshot", "thin-pool", "thin", "cache"},
	}
}

// FailNext makes the next op on name fail with err: op is create, load, resume,
// suspend, remove, message, get, list, table or status; load and resume are steps
// of create and reload. An empty name is any.
func (m *DeviceMapper) FailNext(op, name string, err error) { m.faults.add(op, name, err) }

// SetTargets replaces the target types that this kernel has.
func (m *DeviceMapper) SetTargets(types ...string) {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	m.types = slices.Clone(types)
}

// SetStatus makes segment i of name report line.
func (m *DeviceMapper) SetStatus(name string, i int, line string) {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	if d := m.named[name]; d != nil {
		d.status[i] = line
	}
}

// Reboot forgets all devices, and keeps what thin pools have on their disks.
func (m *DeviceMapper) Reboot() {
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	for name, d := range m.named {
		if d.live != nil {
			d.live.release()
		}
		m.devs.drop(d.dev)
		delete(m.named, name)
	}
}

// enter takes the lock and the fault that is due.
func (m *DeviceMapper) enter(ctx context.Context, op, name string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.faults.take(op, name); err != nil {
		return nil, fmt.Errorf("fake device-mapper: %s %s: %w", op, name, err)
	}
	m.devs.mu.Lock()
	return m.devs.mu.Unlock, nil
}

func (m *DeviceMapper) find(op, name string) (*dmDevice, error) {
	if d := m.named[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("fake device-mapper: %s %s: %w", op, name, driver.ErrNotFound)
}

func (d *dmDevice) view() driver.Device {
	return driver.Device{
		Name: d.name, UUID: d.uuid, Path: d.dev.paths[0], Major: d.dev.number.Major, Minor: d.dev.number.Minor,
		OpenCount: d.dev.users(), ReadOnly: d.dev.readOnly, Suspended: d.suspended, Live: d.live != nil,
	}
}

// Create implements driver.DeviceMapper.
func (m *DeviceMapper) Create(ctx context.Context, name string, t driver.Table, o driver.CreateOptions) (driver.Device, error) {
	leave, err := m.enter(ctx, "create", name)
	if err != nil {
		return driver.Device{}, err
	}
	defer leave()
	if err := dmCheck(name, t); err != nil {
		return driver.Device{}, err
	}
	exists := func(what string) (driver.Device, error) {
		return driver.Device{}, fmt.Errorf("fake device-mapper: create %s: stands with another %s: %w", name, what, driver.ErrExists)
	}
	if d := m.named[name]; d != nil {
		same, err := dm.Same(d.live.lines, t, m.devs.number)
		switch {
		case d.uuid != o.UUID:
			return exists("UUID")
		case d.dev.readOnly != o.ReadOnly:
			return exists("access mode")
		case err != nil || !same:
			return exists("table")
		}
		return d.view(), nil
	}
	for _, d := range m.named {
		if o.UUID != "" && d.uuid == o.UUID {
			return exists("name (" + d.name + ")")
		}
	}
	table, err := m.load(name, t, o.ReadOnly)
	if err != nil {
		return driver.Device{}, err
	}
	d := &dmDevice{name: name, uuid: o.UUID, status: map[int]string{}}
	d.dev = &blockDevice{
		paths:  []string{"/dev/mapper/" + name, fmt.Sprintf("/dev/dm-%d", m.minors)},
		number: dm.DevNumber{Major: dmMajor, Minor: m.minors}, mapped: d,
	}
	m.minors++
	if err := m.resume(d, table); err != nil {
		table.release()
		return driver.Device{}, err
	}
	m.devs.add(d.dev)
	m.named[name] = d
	return d.view(), nil
}

// load opens what t names, as the targets' constructors do.
func (m *DeviceMapper) load(name string, t driver.Table, ro bool) (_ *dmTable, err error) {
	if err := m.faults.take("load", name); err != nil {
		return nil, fmt.Errorf("fake device-mapper: load %s: %w", name, err)
	}
	out := &dmTable{ro: ro}
	defer func() {
		if err != nil {
			out.release()
			err = fmt.Errorf("fake device-mapper: load %s: %w", name, err)
		}
	}()
	for _, s := range t {
		if !slices.Contains(m.types, s.Type) {
			return nil, fmt.Errorf("the kernel has no target type %s: %w", s.Type, driver.ErrUnavailable)
		}
		if err := m.construct(out, s, ro); err != nil {
			return nil, err
		}
		params := dm.SplitParams(s.Params)
		for i, f := range params {
			if strings.HasPrefix(f, "/") {
				n, err := m.devs.number(f)
				if err != nil {
					return nil, err
				}
				params[i] = n.String()
			}
		}
		s.Params = strings.Join(params, " ")
		out.lines = append(out.lines, s)
	}
	return out, nil
}

// resume makes table live.
func (m *DeviceMapper) resume(d *dmDevice, table *dmTable) error {
	if err := m.faults.take("resume", d.name); err != nil {
		return fmt.Errorf("fake device-mapper: resume %s: %w", d.name, err)
	}
	// Two snapshots can't stand on one store (it would be a handover).
	for _, s := range table.lines {
		if s.Type != "snapshot" {
			continue
		}
		for _, other := range m.named {
			if other != d && other.live != nil && other.live.hasCow(s) {
				return fmt.Errorf("fake device-mapper: resume %s: %s has this store: invalid argument", d.name, other.name)
			}
		}
	}
	d.live, d.suspended, d.failedPath = table, false, false
	d.dev.sectors, d.dev.readOnly = table.lines.Sectors(), table.ro
	return nil
}

func (t *dmTable) hasCow(s driver.Segment) bool {
	want, _ := dm.ParseSnapshot(s)
	return slices.ContainsFunc(t.lines, func(l driver.Segment) bool {
		have, err := dm.ParseSnapshot(l)
		return err == nil && have.Cow == want.Cow
	})
}

func (t *dmTable) release() {
	for _, d := range t.uses {
		d.inTables--
	}
	t.uses = nil
}

// Reload implements driver.DeviceMapper.
func (m *DeviceMapper) Reload(ctx context.Context, name string, t driver.Table, o driver.ReloadOptions) error {
	leave, err := m.enter(ctx, "reload", name)
	if err != nil {
		return err
	}
	defer leave()
	if err := dmCheck(name, t); err != nil {
		return err
	}
	d, err := m.find("reload", name)
	if err != nil {
		return err
	}
	table, err := m.load(name, t, o.ReadOnly)
	if err != nil {
		return err
	}
	if err := m.faults.take("suspend", name); err != nil {
		table.release()
		return fmt.Errorf("fake device-mapper: suspend %s: %w", name, err)
	}
	old := d.live
	if err := m.resume(d, table); err != nil {
		table.release()
		return err
	}
	old.release()
	return nil
}

// Remove implements driver.DeviceMapper.
func (m *DeviceMapper) Remove(ctx context.Context, name string) error {
	leave, err := m.enter(ctx, "remove", name)
	if err != nil {
		return err
	}
	defer leave()
	d := m.named[name]
	if d == nil {
		return nil
	}
	if d.dev.users() > 0 {
		return fmt.Errorf("fake device-mapper: remove %s: open %d times: %w", name, d.dev.users(), driver.ErrBusy)
	}
	d.live.release()
	m.devs.drop(d.dev)
	delete(m.named, name)
	return nil
}

// Suspend implements driver.DeviceMapper.
func (m *DeviceMapper) Suspend(ctx context.Context, name string, _ driver.ReloadOptions) error {
	return m.setSuspended(ctx, "suspend", name, true)
}

// Resume implements driver.DeviceMapper.
func (m *DeviceMapper) Resume(ctx context.Context, name string) error {
	return m.setSuspended(ctx, "resume", name, false)
}

func (m *DeviceMapper) setSuspended(ctx context.Context, op, name string, to bool) error {
	leave, err := m.enter(ctx, op, name)
	if err != nil {
		return err
	}
	defer leave()
	d, err := m.find(op, name)
	if err != nil {
		return err
	}
	d.suspended = to
	return nil
}

// Get implements driver.DeviceMapper.
func (m *DeviceMapper) Get(ctx context.Context, name string) (driver.Device, error) {
	leave, err := m.enter(ctx, "get", name)
	if err != nil {
		return driver.Device{}, err
	}
	defer leave()
	d, err := m.find("get", name)
	if err != nil {
		return driver.Device{}, err
	}
	return d.view(), nil
}

// List implements driver.DeviceMapper.
func (m *DeviceMapper) List(ctx context.Context, prefix string) ([]driver.Device, error) {
	leave, err := m.enter(ctx, "list", prefix)
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []driver.Device
	for name, d := range m.named {
		if strings.HasPrefix(name, prefix) {
			out = append(out, d.view())
		}
	}
	slices.SortFunc(out, func(a, b driver.Device) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Table implements driver.DeviceMapper.
func (m *DeviceMapper) Table(ctx context.Context, name string) (driver.Table, error) {
	leave, err := m.enter(ctx, "table", name)
	if err != nil {
		return nil, err
	}
	defer leave()
	d, err := m.find("table", name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(d.live.lines), nil
}

// Status implements driver.DeviceMapper.
func (m *DeviceMapper) Status(ctx context.Context, name string) (driver.Table, error) {
	leave, err := m.enter(ctx, "status", name)
	if err != nil {
		return nil, err
	}
	defer leave()
	d, err := m.find("status", name)
	if err != nil {
		return nil, err
	}
	t := slices.Clone(d.live.lines)
	for i, s := range t {
		if line, ok := d.status[i]; ok {
			t[i].Params = line
		} else {
			t[i].Params = m.statusLine(d, s)
		}
	}
	return t, nil
}

// HasTarget implements driver.DeviceMapper.
func (m *DeviceMapper) HasTarget(ctx context.Context, targetType string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.devs.mu.Lock()
	defer m.devs.mu.Unlock()
	return slices.Contains(m.types, targetType), nil
}

// dmCheck refuses what no kernel takes.
func dmCheck(name string, t driver.Table) error {
	if name == "" || len(name) > 127 || name[0] == '.' || strings.Contains(name, "/") {
		return fmt.Errorf("fake device-mapper: %q can't be a device's name", name)
	}
	if len(t) == 0 {
		return fmt.Errorf("fake device-mapper: %s: empty table", name)
	}
	var at uint64
	for _, s := range t {
		if s.Start != at || s.Length == 0 {
			return fmt.Errorf("fake device-mapper: %s: table has a hole at sector %d", name, at)
		}
		at += s.Length
	}
	return nil
}

var errDMInvalid = errors.New("invalid argument")
