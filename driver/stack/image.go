package stack

import (
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Host is what plans need to know of the node itself.
type Host struct {
	Name    string
	Address string // IP:PORT that targets listen on
	// PageLoops is how many loop devices the page layer consists of, and the relay:
	// [PageLoops], or 1 where the kernel has no dm-switch. Then the relay stands on the page layer.
	PageLoops int
	// Needs of the cache driver for an image of that many sectors.
	Needs func(sectors uint64) []driver.LocalDevice
}

// Image plans for one image. The plan is empty when all stands as it should.
func (h Host) Image(d model.DesiredImage, a Actual) []Step {
	if d.State == model.Absent {
		return h.removeImage(d, a)
	}
	var steps, later []Step
	if d.Role == model.RoleRoot {
		steps = h.buildRoot(d, a)
	} else {
		steps, later = h.buildRelay(d, a)
	}
	return append(append(steps, h.exportImage(d, a)...), later...)
}

func (h Host) buildRoot(d model.DesiredImage, a Actual) []Step {
	file, ok := a.Files[d.ID]
	if !ok {
		if d.Source == nil {
			return nil
		}
		return []Step{{Op: OpImport, ImageID: d.ID, Source: d.Source}}
	}
	return h.page(d.ID, file.Path, a)
}

func (h Host) page(imageID, backing string, a Actual) []Step {
	name := driver.ImageDevice(imageID, driver.PartPage)
	if _, ok := a.Pages[imageID]; ok && !a.suspended(name) {
		return nil
	}
	return h.device(Step{Op: OpMakePage, ImageID: imageID, Name: name, Path: backing}, a)
}

// dropPage takes down the page layer, whole or not.
func (h Host) dropPage(imageID string, a Actual) []Step {
	name := driver.ImageDevice(imageID, driver.PartPage)
	page, whole := a.Pages[imageID]
	backing, half := a.Looped[imageID]
	if whole {
		backing = page.Backing
	}
	if whole || half || a.stands(name) {
		return []Step{{Op: OpDropPage, ImageID: imageID, Name: name, Path: backing}}
	}
	return nil
}

// buildRelay returns in later what may fail or take long without anybody waiting for it.
func (h Host) buildRelay(d model.DesiredImage, a Actual) (steps, later []Step) {
	if d.DeviceBytes == 0 || d.Parent == nil {
		return nil, nil // nothing to read yet
	}
	steps, later = planPath(d, a)
	if len(steps) > 0 {
		return steps, later
	}
	return h.buildCache(d, a), later
}

// planPath chooses the session that the image is read through. The parent comes
// first, then the alternates; a session that works is left only for the parent's.
func planPath(d model.DesiredImage, a Actual) (now, later []Step) {
	name := driver.ImageDevice(d.ID, driver.PartPath)
	sectors := uint64(d.DeviceBytes) / SectorBytes
	portals := append([]model.ParentPortal{*d.Parent}, d.Alternates...)

	best, found := Session{}, false
	for _, p := range portals {
		if s, ok := a.session(p.IQN, p.Address); ok && s.healthy() {
			best, found = s, true
			break
		}
	}
	atParent := found && best.IQN == d.Parent.IQN && best.Address == d.Parent.Address
	path, stands := a.Paths[d.ID]
	current := slices.IndexFunc(a.Sessions, func(s Session) bool { return s.Number != "" && s.Number == path.Number })
	works := stands && current >= 0 && a.Sessions[current].healthy()

	step := func(op Op, number string) []Step {
		return []Step{{Op: op, ImageID: d.ID, Name: name, Number: number, Sectors: sectors}}
	}
	login := []Step{{Op: OpLogin, ImageID: d.ID, Portals: byHope(portals, a)}}
	switch {
	case a.stands(name) && (!stands || !a.live(name)):
		// Half made, or suspended by a switch that was cut short: the switch is done anew.
		if found {
			return step(OpSwitchPath, best.Number), nil
		}
		return login, nil
	case !found && !works:
		return login, nil
	case !stands:
		return step(OpMakePath, best.Number), nil
	case works && found && a.Sessions[current].Number == best.Number:
		if path.Failed {
			return step(OpReinstate, path.Number), nil
		}
	case found && (!works || atParent):
		return step(OpSwitchPath, best.Number), nil
	}
	if !atParent {
		// Reading goes on as it is; the way to the parent is made beside it.
		return nil, []Step{{Op: OpLogin, ImageID: d.ID, Portals: []model.ParentPortal{*d.Parent}}}
	}
	for _, s := range a.sessionsOf(d.ID) { // sessions that are not read through any more
		if s.ID != best.ID {
			later = append(later, logout(d.ID, s))
		}
	}
	return nil, later
}

func logout(imageID string, s Session) Step {
	return Step{Op: OpLogout, ImageID: imageID, Portals: []model.ParentPortal{{IQN: s.IQN, Address: s.Address}}}
}

// byHope puts those whose session is known to be broken last.
func byHope(portals []model.ParentPortal, a Actual) []model.ParentPortal {
	out := slices.Clone(portals)
	slices.SortStableFunc(out, func(x, y model.ParentPortal) int {
		broken := func(p model.ParentPortal) int {
			if s, ok := a.session(p.IQN, p.Address); ok && !s.healthy() {
				return 1
			}
			return 0
		}
		return broken(x) - broken(y)
	})
	return out
}

func (h Host) buildCache(d model.DesiredImage, a Actual) []Step {
	cache, ok := a.Caches[d.ID]
	if !ok {
		local := h.local(d)
		for _, l := range local {
			if !a.live(l.Name) {
				return []Step{{Op: OpMakeLocal, ImageID: d.ID, Local: local}}
			}
		}
		return []Step{{
			Op: OpStartCache, ImageID: d.ID, Local: local, Sectors: uint64(d.DeviceBytes) / SectorBytes,
			Path: mapper(driver.ImageDevice(d.ID, driver.PartPath)),
		}}
	}
	return h.page(d.ID, cache, a)
}

func (h Host) local(d model.DesiredImage) []LocalThin {
	var out []LocalThin
	for i, n := range h.Needs(uint64(d.DeviceBytes) / SectorBytes) {
		out = append(out, LocalThin{Name: driver.ImageDevice(d.ID, n.Suffix), Thin: d.ThinBase + uint32(i), Sectors: n.Sectors})
	}
	return out
}

// exportImage lets the children in, and nobody else.
func (h Host) exportImage(d model.DesiredImage, a Actual) []Step {
	iqn, relay := driver.ImageIQN(h.Name, d.ID), driver.ImageDevice(d.ID, driver.PartRelay)
	if len(d.Children) == 0 {
		return h.endExport(iqn, relay, a)
	}
	page, ok := a.Pages[d.ID]
	if !ok {
		return nil
	}
	step := Step{Op: OpMakeRelay, ImageID: d.ID, Name: relay, Path: page.Backing}
	if h.PageLoops <= 1 {
		step = Step{
			Op: OpMakeDevice, ImageID: d.ID, Name: relay, ReadOnly: true,
			Table: driver.Table{linear(0, page.Bytes/SectorBytes, page.Path, 0)},
		}
	}
	steps := h.device(step, a)
	return append(steps, h.export(driver.Target{
		IQN: iqn, Device: mapper(relay), Portal: h.Address, ReadOnly: true, Serial: d.ID, ACLs: acls(d.Children),
	}, a)...)
}

func (h Host) removeImage(d model.DesiredImage, a Actual) []Step {
	relay, path := driver.ImageDevice(d.ID, driver.PartRelay), driver.ImageDevice(d.ID, driver.PartPath)
	steps := h.endExport(driver.ImageIQN(h.Name, d.ID), relay, a)
	steps = append(steps, h.dropPage(d.ID, a)...)
	local := h.local(d)
	cache, ok := a.Caches[d.ID]
	// Of a bcache that was being stopped when the agent was, its backing device may be left.
	half := a.stands(driver.ImageDevice(d.ID, driver.PartBack))
	if (ok && cache != mapper(path) || half) && d.Role == model.RoleRelay {
		return append(steps, Step{Op: OpStopCache, ImageID: d.ID, Local: local, Sectors: uint64(d.DeviceBytes) / SectorBytes, Path: mapper(path)})
	}
	if a.stands(path) {
		steps = append(steps, Step{Op: OpRemove, ImageID: d.ID, Name: path})
	}
	for _, s := range a.sessionsOf(d.ID) {
		steps = append(steps, logout(d.ID, s))
	}
	if a.Gone[d.ID] {
		return steps
	}
	if d.Role == model.RoleRoot {
		return append(steps, Step{Op: OpRemoveFile, ImageID: d.ID})
	}
	return append(steps, Step{Op: OpDeleteLocal, ImageID: d.ID, Local: local})
}
