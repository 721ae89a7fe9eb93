package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// Mapper is the kernel's device-mapper. Its methods can be called from many
// goroutines; calls that change one device wait for each other.
type Mapper struct {
	run   command.Runner
	nodes nodes
	names keyed

	mu  sync.Mutex // of ctl
	ctl *os.File

	probeMu sync.Mutex
	probed  map[string]error // modules that modprobe was run for
}

var _ driver.DeviceMapper = (*Mapper)(nil)

// New returns a Mapper that runs modprobe through run. It opens nothing yet.
func New(run command.Runner) *Mapper {
	return &Mapper{run: run, nodes: newNodes(), probed: map[string]error{}}
}

// device turns the kernel's header into a Device.
func (m *Mapper) device(h header) driver.Device {
	return driver.Device{
		Name: h.name, UUID: h.uuid, Path: m.nodes.path(h.name),
		Major: unix.Major(h.dev), Minor: unix.Minor(h.dev),
		OpenCount: int(h.openCount),
		ReadOnly:  h.flags&unix.DM_READONLY_FLAG != 0,
		Suspended: h.flags&unix.DM_SUSPEND_FLAG != 0,
		Live:      h.flags&unix.DM_ACTIVE_PRESENT_FLAG != 0,
	}
}

// status does DM_DEV_STATUS.
func (m *Mapper) status(ctx context.Context, name string) (header, error) {
	if err := checkName(name); err != nil {
		return header{}, err
	}
	h, _, err := m.call(ctx, unix.DM_DEV_STATUS, header{name: name}, nil)
	return h, opError("look at", name, err)
}

// Get implements driver.DeviceMapper.
func (m *Mapper) Get(ctx context.Context, name string) (driver.Device, error) {
	h, err := m.status(ctx, name)
	if err != nil {
		return driver.Device{}, err
	}
	return m.device(h), nil
}

// List implements driver.DeviceMapper.
func (m *Mapper) List(ctx context.Context, prefix string) ([]driver.Device, error) {
	_, data, err := m.call(ctx, unix.DM_LIST_DEVICES, header{}, nil)
	if err != nil {
		return nil, opError("list", prefix+"*", err)
	}
	names, err := unmarshalNames(data)
	if err != nil {
		return nil, opError("list", prefix+"*", err)
	}
	var out []driver.Device
	for _, l := range names {
		if !strings.HasPrefix(l.name, prefix) {
			continue
		}
		d, err := m.Get(ctx, l.name)
		if errors.Is(err, driver.ErrNotFound) {
			continue // went away in between
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Table implements driver.DeviceMapper.
func (m *Mapper) Table(ctx context.Context, name string) (driver.Table, error) {
	return m.lines(ctx, name, unix.DM_STATUS_TABLE_FLAG)
}

// Status implements driver.DeviceMapper. A thin pool is not made to commit its
// metadata for it.
func (m *Mapper) Status(ctx context.Context, name string) (driver.Table, error) {
	return m.lines(ctx, name, unix.DM_NOFLUSH_FLAG)
}

func (m *Mapper) lines(ctx context.Context, name string, flags uint32) (driver.Table, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	h, data, err := m.call(ctx, unix.DM_TABLE_STATUS, header{name: name, flags: flags}, nil)
	if err != nil {
		return nil, opError("read table of", name, err)
	}
	t, err := unmarshalTable(data, h.targetCount)
	return t, opError("read table of", name, err)
}

// Deps returns the devices that the live table of name stands on.
func (m *Mapper) Deps(ctx context.Context, name string) ([]DevNumber, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	_, data, err := m.call(ctx, unix.DM_TABLE_DEPS, header{name: name}, nil)
	if err != nil {
		return nil, opError("read dependencies of", name, err)
	}
	deps, err := unmarshalDeps(data)
	return deps, opError("read dependencies of", name, err)
}

// Message implements driver.DeviceMapper.
func (m *Mapper) Message(ctx context.Context, name string, sector uint64, message string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	h, data, err := m.call(ctx, unix.DM_TARGET_MSG, header{name: name}, marshalMessage(sector, message))
	if err != nil {
		word, _, _ := strings.Cut(message, " ")
		return "", opError("send message "+word+" to", name, err)
	}
	if h.flags&unix.DM_DATA_OUT_FLAG == 0 {
		return "", nil
	}
	return cString(data), nil
}

// Create implements driver.DeviceMapper.
func (m *Mapper) Create(ctx context.Context, name string, t driver.Table, o driver.CreateOptions) (_ driver.Device, err error) {
	if err := checkName(name); err != nil {
		return driver.Device{}, err
	}
	if err := checkTable(t); err != nil {
		return driver.Device{}, fmt.Errorf("device-mapper: create %s: %w", name, err)
	}
	defer m.names.lock(name)()

	h, err := m.status(ctx, name)
	switch {
	case errors.Is(err, driver.ErrNotFound):
		if h, _, err = m.call(ctx, unix.DM_DEV_CREATE, header{name: name, uuid: o.UUID}, nil); err != nil {
			return driver.Device{}, opError("create", name, err)
		}
	case err != nil:
		return driver.Device{}, err
	case h.flags&unix.DM_ACTIVE_PRESENT_FLAG != 0:
		return m.adopt(ctx, h, t, o)
	case h.uuid != o.UUID:
		return driver.Device{}, fmt.Errorf("device-mapper: create %s: half made with UUID %q: %w", name, h.uuid, driver.ErrExists)
	}
	// New, or what an agent that died before it could load the table left behind.
	var undo driver.Undo
	defer func() { err = undo.OnError(ctx, err) }()
	undo.Add(func(ctx context.Context) error { return m.remove(ctx, name) })

	why, done := watchKernelLog()
	defer done()
	if err := m.load(ctx, name, t, o.ReadOnly, why); err != nil {
		return driver.Device{}, err
	}
	if h, err = m.resume(ctx, name, why); err != nil {
		return driver.Device{}, err
	}
	if err := m.nodes.ensure(ctx, name, h.dev); err != nil {
		return driver.Device{}, err
	}
	return m.device(h), nil
}

// adopt says whether the device of header h is what Create was asked for.
func (m *Mapper) adopt(ctx context.Context, h header, t driver.Table, o driver.CreateOptions) (driver.Device, error) {
	no := func(what string) (driver.Device, error) {
		return driver.Device{}, fmt.Errorf("device-mapper: create %s: stands with another %s: %w", h.name, what, driver.ErrExists)
	}
	if h.uuid != o.UUID {
		return no("UUID")
	}
	if ro := h.flags&unix.DM_READONLY_FLAG != 0; ro != o.ReadOnly {
		return no("access mode")
	}
	live, err := m.Table(ctx, h.name)
	if err != nil {
		return driver.Device{}, err
	}
	same, err := Same(live, t, Number)
	if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return driver.Device{}, opError("create", h.name, err)
	}
	if !same {
		return no("table")
	}
	if err := m.nodes.ensure(ctx, h.name, h.dev); err != nil {
		return driver.Device{}, err
	}
	return m.device(h), nil
}

// load does DM_TABLE_LOAD, after modprobe if the kernel lacks something. reason is watchKernelLog's.
func (m *Mapper) load(ctx context.Context, name string, t driver.Table, readOnly bool, reason func() string) error {
	if err := m.checkDevices(t); err != nil {
		return fmt.Errorf("device-mapper: load %s: %w", name, err)
	}
	payload, err := marshalTable(t)
	if err != nil {
		return opError("load", name, err)
	}
	h := header{name: name, targetCount: uint32(len(t))}
	if readOnly {
		h.flags = unix.DM_READONLY_FLAG
	}
	_, _, err = m.call(ctx, unix.DM_TABLE_LOAD, h, payload)
	if errors.Is(err, unix.EINVAL) {
		again, missing := m.probeTable(ctx, t)
		if missing != nil {
			return opError("load", name, missing)
		}
		if again {
			_, _, err = m.call(ctx, unix.DM_TABLE_LOAD, h, payload)
		}
	}
	var errno unix.Errno
	if errors.As(err, &errno) && errno != unix.ENXIO {
		return fmt.Errorf("%w (%s)", opError("load", name, err), reason())
	}
	return opError("load", name, err)
}

// checkDevices sees that the devices that t names are there, because the kernel
// says the same of all that it can't open.
func (m *Mapper) checkDevices(t driver.Table) error {
	for _, s := range t {
		for _, f := range SplitParams(s.Params) {
			if strings.HasPrefix(f, "/") {
				if _, err := Number(f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// busyWait bounds how often a removal is tried again while udev runs: it opens
// new and changed devices for a moment to look at them.
const busyWait = time.Second

// Remove implements driver.DeviceMapper.
func (m *Mapper) Remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	defer m.names.lock(name)()
	return m.remove(ctx, name)
}

func (m *Mapper) remove(ctx context.Context, name string) error {
	_, _, err := m.call(ctx, unix.DM_DEV_REMOVE, header{name: name}, nil)
	if errors.Is(err, unix.EBUSY) && m.nodes.udev() {
		poll(ctx, busyWait, func() bool {
			_, _, err = m.call(ctx, unix.DM_DEV_REMOVE, header{name: name}, nil)
			return !errors.Is(err, unix.EBUSY)
		})
	}
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return opError("remove", name, err)
	}
	return m.nodes.remove(ctx, name)
}
