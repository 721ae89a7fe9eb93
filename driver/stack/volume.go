package stack

import (
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Volume plans for one volume. Its image, if it has one, is planned for before.
func (h Host) Volume(d model.DesiredVolume, a Actual) []Step {
	var steps []Step
	if d.State == model.Present && a.onAnother(d) {
		steps = h.takeDown(d, a)
		a = a.without(d.ID, driver.VolumeIQN(h.Name, d.ID))
	}
	if d.State != model.Absent && d.SourceThin != 0 && !d.Materialized && !a.Copied[d.ThinID] {
		steps = append(steps, Step{Op: OpCopyThin, VolumeID: d.ID, Thin: d.ThinID, From: d.SourceThin, Together: d.Together})
	}
	switch {
	case d.State == model.Present && d.Frozen:
		return append(steps, h.buildFrozen(d, a)...)
	case d.State == model.Present:
		return append(steps, h.buildVolume(d, a)...)
	}
	steps = append(steps, h.takeDown(d, a)...)
	if d.State == model.Absent && !a.Gone[d.ID] && d.ThinID != 0 {
		steps = append(steps, Step{Op: OpDeleteThin, VolumeID: d.ID, Thin: d.ThinID})
	}
	return steps
}

func (h Host) buildVolume(d model.DesiredVolume, a Actual) []Step {
	sectors := uint64(d.Bytes) / SectorBytes
	name := func(part string) string { return driver.VolumeDevice(d.ID, part) }
	cow, base, volume := name(driver.PartCow), name(driver.PartBase), name(driver.PartVolume)

	var steps []Step
	if d.ImageID != "" {
		if _, ok := a.Pages[d.ImageID]; !ok {
			return nil // the image's plan comes first
		}
	}
	size := sectors
	if d.ImageID != "" {
		size = CowSectors(sectors)
	}
	switch {
	case a.suspended(cow): // by a copy that was cut short
		steps = append(steps, Step{Op: OpResume, VolumeID: d.ID, Name: cow})
	case !a.live(cow):
		if !d.Materialized && d.SourceThin == 0 {
			steps = append(steps, Step{Op: OpCreateThin, VolumeID: d.ID, Thin: d.ThinID})
		}
		steps = append(steps, Step{Op: OpActivate, VolumeID: d.ID, Name: cow, Thin: d.ThinID, Sectors: size})
	case a.smaller(volume, sectors):
		steps = append(steps, Step{Op: OpGrowThin, VolumeID: d.ID, Name: cow, Thin: d.ThinID, Sectors: size})
	}
	if d.ImageID == "" {
		steps = append(steps, h.sized(Step{
			VolumeID: d.ID, Name: volume, Table: driver.Table{linear(0, sectors, mapper(cow), 0)},
		}, a)...)
	} else {
		page := a.Pages[d.ImageID]
		grown := baseTable(page.Path, page.Bytes/SectorBytes, sectors)
		steps = append(steps, h.device(Step{Op: OpMakeDevice, VolumeID: d.ID, Name: base, ReadOnly: true, Table: grown}, a)...)
		if a.live(base) && a.smaller(volume, sectors) {
			steps = append(steps, Step{Op: OpReload, VolumeID: d.ID, Name: base, ReadOnly: true, Table: grown})
		}
		steps = append(steps, h.sized(Step{VolumeID: d.ID, Name: volume, Table: volumeTable(mapper(base), mapper(cow), sectors)}, a)...)
	}

	iqn, export := driver.VolumeIQN(h.Name, d.ID), name(driver.PartExport)
	if len(d.Hosts) == 0 {
		return append(steps, h.endExport(iqn, export, a)...)
	}
	steps = append(steps, h.sized(Step{VolumeID: d.ID, Name: export, Table: driver.Table{linear(0, sectors, mapper(volume), 0)}}, a)...)
	return append(steps, h.export(driver.Target{
		IQN: iqn, Device: mapper(export), Portal: h.Address, Serial: d.ID, ACLs: acls(d.Hosts),
	}, a)...)
}

// buildFrozen plans for a volume whose device is only read. It does not grow.
func (h Host) buildFrozen(d model.DesiredVolume, a Actual) []Step {
	sectors := uint64(d.Bytes) / SectorBytes
	name := func(part string) string { return driver.VolumeDevice(d.ID, part) }
	cow, base := name(driver.PartCow), name(driver.PartBase)
	below := driver.Table{{Length: sectors, Type: "zero"}} // what is read where nothing was written
	size := sectors
	if d.ImageID != "" {
		page, ok := a.Pages[d.ImageID]
		if !ok {
			return nil // the image's plan comes first
		}
		below, size = baseTable(page.Path, page.Bytes/SectorBytes, sectors), CowSectors(sectors)
	}
	top := Step{Op: OpMakeDevice, VolumeID: d.ID, Name: name(driver.PartVolume), ReadOnly: true, Table: below}
	if d.ThinID == 0 {
		return append(h.device(top, a), h.exportFrozen(d, sectors, a)...)
	}
	var steps []Step
	switch {
	case a.suspended(cow):
		steps = append(steps, Step{Op: OpResume, VolumeID: d.ID, Name: cow})
	case !a.live(cow):
		steps = append(steps, Step{Op: OpActivate, VolumeID: d.ID, Name: cow, Thin: d.ThinID, Sectors: size})
	}
	top.Table = driver.Table{linear(0, sectors, mapper(cow), 0)}
	if d.ImageID != "" {
		steps = append(steps, h.device(Step{Op: OpMakeDevice, VolumeID: d.ID, Name: base, ReadOnly: true, Table: below}, a)...)
		top.Table = volumeTable(mapper(base), mapper(cow), sectors)
	}
	steps = append(steps, h.device(top, a)...)
	return append(steps, h.exportFrozen(d, sectors, a)...)
}

// exportFrozen lets others read a frozen device.
func (h Host) exportFrozen(d model.DesiredVolume, sectors uint64, a Actual) []Step {
	iqn, export := driver.VolumeIQN(h.Name, d.ID), driver.VolumeDevice(d.ID, driver.PartExport)
	if len(d.Hosts) == 0 {
		return h.endExport(iqn, export, a)
	}
	volume := driver.VolumeDevice(d.ID, driver.PartVolume)
	steps := h.device(Step{
		Op: OpMakeDevice, VolumeID: d.ID, Name: export, ReadOnly: true, Table: driver.Table{linear(0, sectors, mapper(volume), 0)},
	}, a)
	return append(steps, h.export(driver.Target{
		IQN: iqn, Device: mapper(export), Portal: h.Address, ReadOnly: true, Serial: d.ID, ACLs: acls(d.Hosts),
	}, a)...)
}

func (h Host) takeDown(d model.DesiredVolume, a Actual) []Step {
	steps := h.endExport(driver.VolumeIQN(h.Name, d.ID), driver.VolumeDevice(d.ID, driver.PartExport), a)
	for _, part := range []string{driver.PartVolume, driver.PartBase} {
		if name := driver.VolumeDevice(d.ID, part); a.stands(name) {
			steps = append(steps, Step{Op: OpRemove, VolumeID: d.ID, Name: name})
		}
	}
	if cow := driver.VolumeDevice(d.ID, driver.PartCow); a.stands(cow) {
		steps = append(steps, Step{Op: OpDeactivate, VolumeID: d.ID, Name: cow})
	}
	return steps
}

// smaller tells whether a device stands and has fewer sectors than it should.
func (a Actual) smaller(name string, sectors uint64) bool {
	have, ok := a.Sectors[name]
	return ok && have < sectors
}

// sized is device for one that can grow: one that stands and is too small gets the table.
func (h Host) sized(s Step, a Actual) []Step {
	s.Op = OpMakeDevice
	if a.live(s.Name) && a.smaller(s.Name, s.Table.Sectors()) {
		s.Op = OpReload
		return []Step{s}
	}
	return h.device(s, a)
}

// device makes a device that does not stand, makes one anew that is half made, and
// resumes one that a crash left suspended.
func (h Host) device(s Step, a Actual) []Step {
	have, ok := a.Devices[s.Name]
	switch {
	case !ok:
		return []Step{s}
	case !have.Live:
		return []Step{{Op: OpRemove, ImageID: s.ImageID, VolumeID: s.VolumeID, Name: s.Name}, s}
	case have.Suspended:
		return []Step{{Op: OpResume, ImageID: s.ImageID, VolumeID: s.VolumeID, Name: s.Name}}
	}
	return nil
}

func (h Host) export(t driver.Target, a Actual) []Step {
	have, ok := a.Targets[t.IQN]
	if ok && a.Ensured[t.IQN] == Fingerprint(t) && have.Device != "" {
		return nil
	}
	return []Step{{Op: OpExport, Target: t}}
}

func (h Host) endExport(iqn, device string, a Actual) []Step {
	var steps []Step
	if _, ok := a.Targets[iqn]; ok {
		steps = append(steps, Step{Op: OpUnexport, Target: driver.Target{IQN: iqn}})
	}
	if a.stands(device) {
		steps = append(steps, Step{Op: OpRemove, Name: device})
	}
	return steps
}

// acls lists each initiator once, in order.
func acls(children []model.Child) []driver.ACL {
	var out []driver.ACL
	for _, c := range children {
		if c.Initiator == "" || slices.ContainsFunc(out, func(a driver.ACL) bool { return a.Initiator == c.Initiator }) {
			continue
		}
		out = append(out, driver.ACL{Initiator: c.Initiator, Credential: driver.Credential{User: c.User, Secret: c.Secret}})
	}
	slices.SortFunc(out, func(x, y driver.ACL) int {
		if x.Initiator < y.Initiator {
			return -1
		}
		return 1
	})
	return out
}
