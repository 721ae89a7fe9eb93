package stack

import (
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// node is a model of a node's kernel: it does steps and refuses what a kernel refuses.
type node struct {
	actual   Actual
	thins    map[uint32]bool
	down     map[string]bool // addresses that do not answer
	sessions int
}

func newNode() *node {
	return &node{
		actual: Actual{
			Devices: map[string]driver.Device{}, Targets: map[string]driver.TargetState{}, Paths: map[string]Path{},
			Caches: map[string]string{}, Pages: map[string]Page{}, Files: map[string]driver.ImageFile{},
			Ensured: map[string]string{}, Gone: map[string]bool{}, Thins: map[string]uint32{},
		},
		thins: map[uint32]bool{}, down: map[string]bool{},
	}
}

// uses says what stands on a device or path.
func (n *node) uses(path string, tables map[string]driver.Table) string {
	for name, t := range tables {
		for _, s := range t {
			if strings.Contains(" "+s.Params+" ", " "+path+" ") {
				return name
			}
		}
	}
	for iqn, t := range n.actual.Targets {
		if t.Device == path {
			return iqn
		}
	}
	return ""
}

// kernel keeps the tables beside Actual, which has none.
type kernel struct {
	*node
	tables map[string]driver.Table
}

func (k *kernel) make(name string, t driver.Table) {
	k.tables[name] = t
	k.actual.Devices[name] = driver.Device{Name: name, Live: true}
}

func (k *kernel) do(s Step) error {
	switch s.Op {
	case OpImport:
		k.actual.Files[s.ImageID] = driver.ImageFile{ImageID: s.ImageID, Path: "/images/" + s.ImageID, DeviceBytes: 1 << 20}
	case OpLogin:
		for _, p := range s.Portals {
			if k.down[p.Address] {
				continue
			}
			for i, have := range k.actual.Sessions {
				if have.IQN == p.IQN && have.Address == p.Address {
					k.actual.Sessions[i].State = driver.SessionLoggedIn
					return nil
				}
			}
			k.sessions++
			k.actual.Sessions = append(k.actual.Sessions, Session{
				Session: driver.Session{ID: k.sessions, IQN: p.IQN, Address: p.Address, State: driver.SessionLoggedIn, Device: fmt.Sprintf("/dev/sd%d", k.sessions)},
				Number:  fmt.Sprintf("8:%d", k.sessions),
			})
			return nil
		}
		return driver.ErrUnreachable
	case OpMakePath, OpSwitchPath:
		k.make(s.Name, PathTable(s.Number, s.Sectors))
		k.actual.Paths[s.ImageID] = Path{Number: s.Number}
	case OpReinstate:
		p := k.actual.Paths[s.ImageID]
		p.Failed = false
		k.actual.Paths[s.ImageID] = p
	case OpLogout:
		for i, have := range k.actual.Sessions {
			if have.IQN == s.Portals[0].IQN && have.Address == s.Portals[0].Address {
				for id, p := range k.actual.Paths {
					if p.Number == have.Number {
						return fmt.Errorf("logout under the live path of image %s: %w", id, driver.ErrBusy)
					}
				}
				k.actual.Sessions = append(k.actual.Sessions[:i:i], k.actual.Sessions[i+1:]...)
				return nil
			}
		}
	case OpMakeLocal:
		for _, l := range s.Local {
			k.thins[l.Thin] = true
			k.make(l.Name, nil)
		}
	case OpStartCache:
		if !k.actual.live(driver.ImageDevice(s.ImageID, driver.PartPath)) {
			return fmt.Errorf("cache without path: %w", driver.ErrNotFound)
		}
		k.make(driver.ImageDevice(s.ImageID, driver.PartBack), driver.Table{linear(16, 1<<11, mapper(driver.ImageDevice(s.ImageID, driver.PartPath)), 0)})
		k.actual.Caches[s.ImageID] = "/dev/bcache-" + s.ImageID
	case OpStopCache:
		if _, ok := k.actual.Pages[s.ImageID]; ok {
			return fmt.Errorf("cache under a page layer: %w", driver.ErrBusy)
		}
		back := driver.ImageDevice(s.ImageID, driver.PartBack)
		delete(k.actual.Devices, back)
		delete(k.tables, back)
		delete(k.actual.Caches, s.ImageID)
	case OpMakePage:
		k.make(s.Name, PageTable([]string{"/dev/loop-" + s.ImageID}, 1<<11))
		k.actual.Pages[s.ImageID] = Page{Path: mapper(s.Name), Backing: s.Path, Bytes: 1 << 20}
	case OpMakeRelay:
		k.make(s.Name, PageTable([]string{"/dev/loop-relay-" + s.ImageID}, 1<<11))
	case OpDropPage:
		if k.actual.stands(driver.ImageDevice(s.ImageID, driver.PartRelay)) {
			return fmt.Errorf("page under the relay: %w", driver.ErrBusy)
		}
		if who := k.uses(mapper(s.Name), k.tables); who != "" {
			return fmt.Errorf("page under %s: %w", who, driver.ErrBusy)
		}
		if k.actual.stands(s.Name) && s.Path == "" {
			return fmt.Errorf("the loop devices of %s are left: %w", s.Name, driver.ErrBusy)
		}
		delete(k.actual.Devices, s.Name)
		delete(k.tables, s.Name)
		delete(k.actual.Pages, s.ImageID)
	case OpCreateThin:
		k.thins[s.Thin] = true
	case OpActivate:
		if !k.thins[s.Thin] {
			return driver.ErrNotFound
		}
		k.make(s.Name, nil)
		k.actual.Thins[s.Name] = s.Thin
	case OpDeleteThin:
		delete(k.thins, s.Thin)
		k.actual.Gone[s.VolumeID] = true
	case OpDeleteLocal:
		for _, l := range s.Local {
			if _, ok := k.actual.Caches[s.ImageID]; ok {
				return fmt.Errorf("local device under a cache: %w", driver.ErrBusy)
			}
			delete(k.actual.Devices, l.Name)
			delete(k.tables, l.Name)
			delete(k.thins, l.Thin)
		}
		k.actual.Gone[s.ImageID] = true
	case OpRemoveFile:
		if _, ok := k.actual.Pages[s.ImageID]; ok {
			return fmt.Errorf("file under a page layer: %w", driver.ErrBusy)
		}
		delete(k.actual.Files, s.ImageID)
		k.actual.Gone[s.ImageID] = true
	case OpMakeDevice:
		for _, seg := range s.Table {
			for w := range strings.FieldsSeq(seg.Params) {
				if name, ok := strings.CutPrefix(w, "/dev/mapper/"); ok && !k.actual.stands(name) {
					return fmt.Errorf("%s on %s: %w", s.Name, name, driver.ErrNotFound)
				}
			}
		}
		k.make(s.Name, s.Table)
	case OpResume:
		d := k.actual.Devices[s.Name]
		d.Suspended = false
		k.actual.Devices[s.Name] = d
	case OpRemove, OpDeactivate:
		if who := k.uses("/dev/mapper/"+s.Name, k.tables); who != "" {
			return fmt.Errorf("%s under %s: %w", s.Name, who, driver.ErrBusy)
		}
		if _, id, part, _ := driver.ParseDevice(s.Name); part == driver.PartPath {
			if _, ok := k.actual.Caches[id]; ok {
				return fmt.Errorf("path under a cache: %w", driver.ErrBusy)
			}
			delete(k.actual.Paths, id)
		}
		delete(k.actual.Devices, s.Name)
		delete(k.actual.Thins, s.Name)
		delete(k.tables, s.Name)
	case OpExport:
		name := strings.TrimPrefix(s.Target.Device, "/dev/mapper/")
		if !k.actual.live(name) {
			return fmt.Errorf("export of %s: %w", name, driver.ErrNotFound)
		}
		k.actual.Targets[s.Target.IQN] = driver.TargetState{IQN: s.Target.IQN, Device: s.Target.Device}
		k.actual.Ensured[s.Target.IQN] = Fingerprint(s.Target)
	case OpUnexport:
		delete(k.actual.Targets, s.Target.IQN)
		delete(k.actual.Ensured, s.Target.IQN)
	default:
		return fmt.Errorf("no such step %q", s.Op)
	}
	return nil
}

// settle plans and does until nothing is left, at most budget steps; -1 is no limit.
func (k *kernel) settle(h Host, image *model.DesiredImage, vols []model.DesiredVolume, budget int) (steps []Step, err error) {
	for range 50 {
		var plan []Step
		for _, v := range vols {
			if v.State != model.Present {
				plan = append(plan, h.Volume(v, k.actual)...)
			}
		}
		if image != nil && len(plan) == 0 {
			plan = append(plan, h.Image(*image, k.actual)...)
		}
		if len(plan) == 0 {
			for _, v := range vols {
				if v.State == model.Present {
					plan = append(plan, h.Volume(v, k.actual)...)
				}
			}
		}
		if len(plan) == 0 {
			return steps, nil
		}
		for _, s := range plan {
			if budget >= 0 && len(steps) >= budget {
				return steps, nil
			}
			steps = append(steps, s)
			if err := k.do(s); err != nil {
				return steps, fmt.Errorf("%s: %w", s, err)
			}
			if s.Barrier() {
				break
			}
		}
	}
	return steps, fmt.Errorf("does not come to rest: %v", steps[max(0, len(steps)-5):])
}
