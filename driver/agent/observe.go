package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sort"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// Observe makes the report. It always makes one: what can't be looked at is a problem
// in it.
func (a *Agent) Observe(ctx context.Context) model.Observed {
	a.mu.Lock()
	doc := a.doc
	groups, tasks := maps.Clone(a.groups), maps.Clone(a.tasks)
	a.mu.Unlock()

	o := model.Observed{
		Schema: model.DesiredSchema, Host: a.cfg.Host, Generation: doc.Generation, BootID: a.cfg.BootID,
		Version: a.cfg.Version, Address: a.cfg.Address, Origin: a.cfg.Origin, Compute: a.cfg.Compute,
		AvailabilityZone: a.cfg.AvailabilityZone, Rack: a.cfg.Rack, Backend: a.cfg.Backend, CacheDriver: a.d.Cache.Name(),
		CacheReason: a.cfg.CacheReason, TargetHelper: a.d.Target.Name(),
		Images: []model.ObservedImage{}, Volumes: []model.ObservedVolume{},
	}
	problem := func(what string, err error) { o.Problems = append(o.Problems, fmt.Sprintf("%s: %v", what, err)) }

	var err error
	if o.Initiator, err = a.d.Initiator.Name(ctx); err != nil {
		problem("initiator name", err)
	}
	o.Pool = a.observePool(ctx, problem)
	if a.d.Images != nil {
		if o.ImageFreeBytes, err = a.d.Images.FreeBytes(ctx); err != nil {
			problem("image store", err)
		}
	}
	if a.d.Backups != nil {
		err := a.backupsWork()
		if o.Backups = err == nil; err != nil && !errors.Is(err, errNotLooked) {
			problem("store of backups", err)
		}
	}
	var ids []string
	for _, i := range doc.Images {
		ids = append(ids, i.ID)
	}
	actual, err := a.look(ctx, ids...)
	if err != nil {
		problem("look at what stands", err)
		return o
	}
	o.Settled = true
	for _, d := range doc.Images {
		g := groups["image:"+d.ID]
		i := a.observeImage(ctx, d, actual, g)
		o.Settled = o.Settled && g != nil && g.isSettled() && (i.State == model.DeviceReady || i.State == model.DeviceAbsent)
		o.Images = append(o.Images, i)
	}
	for _, d := range doc.Volumes {
		g := groups["volume:"+d.ID]
		if d.ImageID != "" {
			g = groups["image:"+d.ImageID]
		}
		v := a.observeVolume(d, actual, g)
		o.Settled = o.Settled && g != nil && g.isSettled() && v.State != model.DeviceBuilding && v.State != model.DeviceError
		o.Volumes = append(o.Volumes, v)
	}
	for _, d := range doc.Tasks {
		if t := tasks[d.ID]; t != nil {
			o.Tasks = append(o.Tasks, t.observe())
		}
	}
	if doc.Generation > 0 {
		o.Unknown = unknown(doc, actual)
	}
	return o
}

func (a *Agent) observePool(ctx context.Context, problem func(string, error)) model.ObservedPool {
	if a.d.Pool == nil {
		return model.ObservedPool{State: "none"}
	}
	st, err := a.d.Pool.Status(ctx)
	switch {
	case errors.Is(err, driver.ErrForeign):
		problem("pool", err)
		return model.ObservedPool{State: "foreign"}
	case err != nil:
		a.mu.Lock()
		if a.poolErr != nil {
			err = a.poolErr
		}
		a.mu.Unlock()
		problem("pool", err)
		return model.ObservedPool{State: "missing"}
	}
	return model.ObservedPool{
		UUID: st.UUID, State: st.Mode, TotalBytes: int64(st.TotalBytes), FreeBytes: int64(st.FreeBytes),
		MetadataTotal: int64(st.MetadataTotal), MetadataFree: int64(st.MetadataFree),
	}
}

func (a *Agent) observeImage(ctx context.Context, d model.DesiredImage, actual stack.Actual, g *group) model.ObservedImage {
	o := model.ObservedImage{ID: d.ID, Role: d.Role, State: model.DeviceBuilding}
	var err error
	if g != nil {
		var p driver.ImageProgress
		p, err = g.imageState()
		if d.Role == model.RoleRoot {
			o.Phase, o.Done, o.Total = p.Phase, p.Done, p.Total
		}
	}
	if err != nil {
		o.Error = err.Error()
	}
	page, stands := actual.Pages[d.ID]
	_, o.CacheMade = actual.Caches[d.ID]
	parent, healthy := actual.Parent(d.ID)
	o.Parent = parent
	if file, ok := actual.Files[d.ID]; ok {
		o.VirtualBytes, o.DeviceBytes = file.VirtualBytes, file.DeviceBytes
	}
	switch {
	case d.State == model.Absent:
		if images, _ := actual.IDs(); len(images[d.ID]) == 0 && actual.Gone[d.ID] {
			o.State = model.DeviceAbsent
		}
	case hopeless(err):
		o.State = model.DeviceError
	case stands && d.Role == model.RoleRelay && !healthy:
		o.State = model.DevicePathLost
	case stands:
		o.State = model.DeviceReady
	case d.Role == model.RoleRoot:
		o.State = model.DeviceImporting
	case actual.Paths[d.ID].Number != "" && !healthy:
		o.State = model.DevicePathLost
	}
	if t, ok := actual.Targets[driver.ImageIQN(a.cfg.Host, d.ID)]; ok {
		o.Exported, o.Children = true, t.Sessions
	}
	if stands {
		read := func(path string) int64 {
			n, err := a.d.ReadBytes(path)
			if err != nil {
				return 0 // a device that went away meanwhile
			}
			return n
		}
		total := read(page.Path)
		if _, ok := actual.Devices[driver.ImageDevice(d.ID, driver.PartRelay)]; ok {
			o.ServedBytes = read("/dev/mapper/" + driver.ImageDevice(d.ID, driver.PartRelay))
		}
		if o.ReadBytes = total; a.host.PageLoops == 1 { // the relay stands on the page layer
			o.ReadBytes = max(0, total-o.ServedBytes)
		}
		if d.Role == model.RoleRelay {
			o.UpstreamBytes = read("/dev/mapper/" + driver.ImageDevice(d.ID, driver.PartPath))
			if st, err := a.d.Cache.Stats(ctx, d.ID); err == nil {
				o.CacheHits, o.CacheMisses = int64(st.Hits), int64(st.Misses)
			}
		}
	}
	return o
}

func (a *Agent) observeVolume(d model.DesiredVolume, actual stack.Actual, g *group) model.ObservedVolume {
	o := model.ObservedVolume{ID: d.ID, State: model.DeviceBuilding, ThinID: d.ThinID, Materialized: d.Materialized}
	var err error
	if g != nil {
		err = g.volumeState(d.ID)
	}
	if failed := a.failedTogether(d.Together); failed != nil {
		err = failed // of all of them at once, whoever found out
	}
	if err != nil {
		o.Error = err.Error()
	}
	name := driver.VolumeDevice(d.ID, driver.PartVolume)
	_, volumes := actual.IDs()
	stands := len(volumes[d.ID]) > 0
	dev, ok := actual.Devices[name]
	on, stood := actual.Thins[driver.VolumeDevice(d.ID, driver.PartCow)]
	o.Materialized = o.Materialized || stood && on == d.ThinID || actual.Copied[d.ThinID]
	copying := d.SourceThin != 0 && !o.Materialized
	switch {
	case d.State == model.Absent && !stands && (actual.Gone[d.ID] || d.ThinID == 0):
		o.State = model.DeviceAbsent
	case copying && hopeless(err):
		o.State = model.DeviceError
	case d.State == model.Inactive && !stands && !copying:
		o.State = model.DeviceInactive
	case d.State == model.Present && hopeless(err):
		o.State = model.DeviceError
	case d.State == model.Present && ok && dev.Live && !dev.Suspended && err == nil && len(a.host.Volume(d, actual)) == 0:
		o.State, o.Device = model.DeviceReady, "/dev/mapper/"+name
		o.Bytes = int64(actual.Sectors[name]) * stack.SectorBytes
	}
	if t, ok := actual.Targets[driver.VolumeIQN(a.cfg.Host, d.ID)]; ok {
		o.Exported, o.LUN, o.Hosts = true, t.LUN, t.ACLs
	}
	return o
}

// unknown lists what stands under our names and no document mentions.
func unknown(doc model.Desired, actual stack.Actual) []string {
	images, volumes := actual.IDs()
	for _, i := range doc.Images {
		delete(images, i.ID)
	}
	for _, v := range doc.Volumes {
		delete(volumes, v.ID)
	}
	var out []string
	for _, m := range []map[string][]string{images, volumes} {
		for _, what := range m {
			out = append(out, what...)
		}
	}
	sort.Strings(out)
	return out
}

func (g *group) isSettled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.settled
}

func (g *group) imageState() (driver.ImageProgress, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.progress, g.imageErr
}

func (g *group) volumeState(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.volErr[id]
}
