package fake

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// Devices are the block devices (and the files that can be made into such) of a
// fake node. The fakes of device-mapper, loop and pool share one.
type Devices struct {
	mu     sync.Mutex
	byPath map[string]*blockDevice
	minors uint32
}

// blockDevice is one device, under all of its names.
type blockDevice struct {
	paths    []string
	number   dm.DevNumber
	sectors  uint64
	readOnly bool
	disk     bool      // neither loop nor device-mapper
	file     bool      // a file, which only a loop device can stand on
	mapped   *dmDevice // the device-mapper device that it is
	backing  string    // of a loop device

	opened   int // by processes
	claimed  int // exclusively, by an export, a file system, a cache
	inTables int // by tables of device-mapper devices
	looped   int // by loop devices
}

func (d *blockDevice) users() int { return d.opened + d.claimed + d.inTables + d.looped }

// home is a name that stays the same over a reboot.
func (d *blockDevice) home() string {
	if d.backing != "" {
		return d.backing
	}
	return d.paths[0]
}

// NewDevices returns a node without devices.
func NewDevices() *Devices { return &Devices{byPath: map[string]*blockDevice{}} }

const diskMajor = 8

// Declare makes a disk (a SCSI disk, say) of sectors stand at path. A read-only one
// can't be opened for writing.
func (d *Devices) Declare(path string, sectors uint64, readOnly bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.minors++
	d.add(&blockDevice{
		paths: []string{path}, sectors: sectors, readOnly: readOnly, disk: true,
		number: dm.DevNumber{Major: diskMajor, Minor: d.minors},
	})
}

// DeclareFile makes a regular file of bytes stand at path.
func (d *Devices) DeclareFile(path string, bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.add(&blockDevice{paths: []string{path}, sectors: bytes / 512, file: true})
}

// Forget makes a device go away, in use or not, as when a session is lost.
func (d *Devices) Forget(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.byPath[path]; b != nil {
		d.drop(b)
	}
}

// Exists tells whether something stands at path.
func (d *Devices) Exists(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byPath[path] != nil
}

// Number is [dm.Number] for this node.
func (d *Devices) Number(path string) (dm.DevNumber, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.number(path)
}

// Sectors returns a device's size.
func (d *Devices) Sectors(path string) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.lookup(path)
	if b == nil {
		return 0, fmt.Errorf("fake device %s: %w", path, driver.ErrNotFound)
	}
	return b.sectors, nil
}

// Users counts those that hold a device open: processes, exports, tables and loop devices.
func (d *Devices) Users(path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.lookup(path); b != nil {
		return b.users()
	}
	return 0
}

// Open holds a device open, as a process does, until it is closed.
func (d *Devices) Open(path string) (io.Closer, error) {
	return d.hold(path, func(b *blockDevice) *int { return &b.opened })
}

// Claim holds a device exclusively, as an export or a mounted file system does:
// ErrBusy if it is claimed already or part of a device-mapper device, which can't
// be made of it either until it is closed.
func (d *Devices) Claim(path string) (io.Closer, error) {
	return d.hold(path, func(b *blockDevice) *int {
		if b.claimed+b.inTables > 0 {
			return nil
		}
		return &b.claimed
	})
}

func (d *Devices) hold(path string, counter func(*blockDevice) *int) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.lookup(path)
	if b == nil {
		return nil, fmt.Errorf("fake device %s: %w", path, driver.ErrNotFound)
	}
	n := counter(b)
	if n == nil {
		return nil, fmt.Errorf("fake device %s: %w", path, driver.ErrBusy)
	}
	*n++
	return &deviceHolder{devs: d, count: n}, nil
}

type deviceHolder struct {
	devs  *Devices
	count *int
}

// Close lets go; a second time is an error.
func (h *deviceHolder) Close() error {
	h.devs.mu.Lock()
	defer h.devs.mu.Unlock()
	if h.count == nil {
		return errors.New("closed already")
	}
	*h.count--
	h.count = nil
	return nil
}

// Those below want the lock to be held.

func (d *Devices) add(b *blockDevice) {
	for _, p := range b.paths {
		d.byPath[p] = b
	}
	if !b.file {
		d.byPath[b.number.String()] = b
	}
}

func (d *Devices) drop(b *blockDevice) {
	for p, x := range d.byPath {
		if x == b {
			delete(d.byPath, p)
		}
	}
}

// lookup finds a block device by path or number; files aren't any.
func (d *Devices) lookup(path string) *blockDevice {
	if b := d.byPath[path]; b != nil && !b.file {
		return b
	}
	return nil
}

func (d *Devices) number(path string) (dm.DevNumber, error) {
	if b := d.lookup(path); b != nil {
		return b.number, nil
	}
	return dm.DevNumber{}, fmt.Errorf("device %s: %w", path, driver.ErrNotFound)
}

// dmFaults are errors that a test has ordered.
type dmFaults struct {
	mu    sync.Mutex
	queue []dmFault
}

type dmFault struct {
	op, name string
	err      error
}

func (f *dmFaults) add(op, name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, dmFault{op, name, err})
}

func (f *dmFaults) take(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.queue, func(x dmFault) bool { return x.op == op && (x.name == "" || x.name == name) })
	if i < 0 {
		return nil
	}
	err := f.queue[i].err
	f.queue = slices.Delete(f.queue, i, i+1)
	return err
}
