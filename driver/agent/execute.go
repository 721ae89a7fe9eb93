package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// execute does one step; pool is the one that the document speaks of.
func (g *group) execute(ctx context.Context, s stack.Step, pool string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	began := time.Now()
	err := g.do(ctx, s, pool)
	g.log.WithField("step", s.String()).WithField("took", time.Since(began)).Debug("step ended")
	return err
}

func (g *group) do(ctx context.Context, s stack.Step, pool string) error {
	d := g.a.d
	if s.VolumeID != "" && s.Op != stack.OpCopyThin { // which holds more than one
		// A copy that is being taken of it holds its devices up.
		unlock, err := g.a.still.Acquire(ctx, s.VolumeID)
		if err != nil {
			return err
		}
		defer unlock()
	}
	g.log.WithField("step", s.String()).Debug("step")
	switch s.Op {
	case stack.OpImport:
		return g.importImage(ctx, s)
	case stack.OpLogin:
		return g.login(ctx, s)
	case stack.OpLogout:
		return d.Initiator.Logout(ctx, s.Portals[0].IQN, s.Portals[0].Address)
	case stack.OpMakePath:
		_, err := d.DM.Create(ctx, s.Name, stack.PathTable(s.Number, s.Sectors), driver.CreateOptions{UUID: driver.DeviceUUID(s.Name), ReadOnly: true})
		return err
	case stack.OpSwitchPath:
		// Without flushing, what was sent to the old parent stays queued and goes to the new one.
		return d.DM.Reload(ctx, s.Name, stack.PathTable(s.Number, s.Sectors), driver.ReloadOptions{ReadOnly: true, NoFlush: true, NoLockFS: true})
	case stack.OpReinstate:
		_, err := d.DM.Message(ctx, s.Name, 0, "reinstate_path "+s.Number)
		return err
	case stack.OpMakeLocal:
		return g.makeLocal(ctx, s, pool)
	case stack.OpStartCache:
		_, err := d.Cache.Start(ctx, g.cacheSpec(s))
		if err == nil {
			g.setFresh(false) // from here on the local devices hold what this cache has fetched
		}
		return err
	case stack.OpStopCache:
		return d.Cache.Stop(ctx, g.cacheSpec(s), true)
	case stack.OpDeleteLocal:
		return g.deleteLocal(ctx, s, pool)
	case stack.OpMakePage:
		return g.a.makePage(ctx, s)
	case stack.OpMakeRelay:
		return g.a.makeRelay(ctx, s)
	case stack.OpDropPage:
		return g.a.dropPage(ctx, s)
	case stack.OpCreateThin:
		g.a.setGone(s.VolumeID, false)
		return d.Pool.CreateThin(ctx, s.Thin)
	case stack.OpCopyThin:
		return g.a.copyThin(ctx, s)
	case stack.OpGrowThin:
		return d.Pool.Grow(ctx, s.Name, s.Thin, s.Sectors)
	case stack.OpReload:
		return d.DM.Reload(ctx, s.Name, s.Table, driver.ReloadOptions{ReadOnly: s.ReadOnly})
	case stack.OpActivate:
		_, err := d.Pool.Activate(ctx, s.Name, driver.DeviceUUID(s.Name), s.Thin, s.Sectors)
		return err
	case stack.OpDeactivate:
		return d.Pool.Deactivate(ctx, s.Name)
	case stack.OpDeleteThin:
		if err := d.Pool.DeleteThin(ctx, s.Thin); err != nil {
			return err
		}
		g.a.setDeleted(s.VolumeID, s.Thin)
		return nil
	case stack.OpMakeDevice:
		_, err := d.DM.Create(ctx, s.Name, s.Table, driver.CreateOptions{UUID: driver.DeviceUUID(s.Name), ReadOnly: s.ReadOnly})
		return err
	case stack.OpResume:
		return d.DM.Resume(ctx, s.Name)
	case stack.OpRemove:
		return d.DM.Remove(ctx, s.Name)
	case stack.OpExport:
		// What a failure leaves need not be what was there before.
		g.a.setEnsured(s.Target.IQN, "")
		if _, err := d.Target.Ensure(ctx, s.Target); err != nil {
			return err
		}
		g.a.setEnsured(s.Target.IQN, stack.Fingerprint(s.Target))
		return nil
	case stack.OpUnexport:
		g.a.setEnsured(s.Target.IQN, "")
		return d.Target.Remove(ctx, s.Target.IQN)
	case stack.OpRemoveFile:
		if d.Images != nil {
			if err := d.Images.Remove(ctx, s.ImageID); err != nil {
				return err
			}
		}
		g.a.setGone(s.ImageID, true)
		return nil
	}
	return fmt.Errorf("unknown step %q", s.Op)
}

// login tries the portals in turn until one lets us in.
func (g *group) login(ctx context.Context, s stack.Step) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.setDialing(stop)
	defer g.setDialing(nil)
	var errs []error
	for _, p := range s.Portals {
		one, cancel := context.WithTimeout(ctx, g.a.cfg.LoginTimeout)
		_, err := g.a.d.Initiator.Login(one, driver.Portal{
			Address: p.Address, IQN: p.IQN, Credential: driver.Credential{User: p.User, Secret: p.Secret},
		})
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("log in to %s at %s: %w", p.Host, p.Address, err))
	}
	return fmt.Errorf("%w: %w", errNoParent, errors.Join(errs...))
}

// makeLocal makes the cache's local devices. What a cache holds can be fetched again, so
// unlike a volume's store one that is gone is simply made anew.
func (g *group) makeLocal(ctx context.Context, s stack.Step, pool string) error {
	if g.a.d.Pool == nil {
		return fmt.Errorf("the %s cache wants a pool: %w", g.a.d.Cache.Name(), driver.ErrUnavailable)
	}
	if err := g.a.checkPool(pool); err != nil {
		return err
	}
	g.a.setGone(s.ImageID, false)
	for _, l := range s.Local {
		_, err := g.a.d.Pool.Activate(ctx, l.Name, driver.DeviceUUID(l.Name), l.Thin, l.Sectors)
		if errors.Is(err, driver.ErrNotFound) {
			g.setFresh(true)
			if err = g.a.d.Pool.CreateThin(ctx, l.Thin); err == nil {
				_, err = g.a.d.Pool.Activate(ctx, l.Name, driver.DeviceUUID(l.Name), l.Thin, l.Sectors)
			}
		}
		if err != nil {
			return fmt.Errorf("local device %s: %w", l.Name, err)
		}
	}
	return nil
}

// deleteLocal gives the cache's local devices back. In a pool that is not the document's the
// numbers are somebody else's: nothing is deleted there, and nothing need be.
func (g *group) deleteLocal(ctx context.Context, s stack.Step, pool string) error {
	local, ours := s.Local, true
	if g.a.d.Pool == nil {
		local = nil
	}
	if err := g.a.checkPool(pool); errors.Is(err, errOtherPool) {
		ours = false
	} else if err != nil && len(local) > 0 {
		return err
	}
	for _, l := range local {
		if err := g.a.d.Pool.Deactivate(ctx, l.Name); err != nil {
			return err
		}
		if !ours {
			continue
		}
		if err := g.a.d.Pool.DeleteThin(ctx, l.Thin); err != nil {
			return err
		}
	}
	g.a.setGone(s.ImageID, true)
	return nil
}

func (g *group) setFresh(fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fresh = fresh
}

func (g *group) setBeside(reads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.beside = reads
}

func (g *group) setDialing(stop context.CancelFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dialing = stop
}

func (g *group) cacheSpec(s stack.Step) driver.CacheSpec {
	g.mu.Lock()
	defer g.mu.Unlock()
	spec := driver.CacheSpec{ImageID: s.ImageID, Upstream: s.Path, Sectors: s.Sectors, Fresh: g.fresh}
	if g.work.image != nil && !g.work.image.CacheMade {
		spec.Fresh = true
	}
	for _, l := range s.Local {
		spec.Local = append(spec.Local, "/dev/mapper/"+l.Name)
	}
	return spec
}

func (g *group) importImage(ctx context.Context, s stack.Step) error {
	if g.a.d.Images == nil {
		return fmt.Errorf("this node is no origin (set [node] origin = true and image_dir): %w", driver.ErrUnavailable)
	}
	g.a.setGone(s.ImageID, false)
	_, err := g.a.d.Images.Ensure(ctx, source(s.ImageID, *s.Source), func(p driver.ImageProgress) {
		g.mu.Lock()
		step := p.Phase != g.progress.Phase
		g.progress = p
		g.mu.Unlock()
		if step {
			g.a.askReport()
		}
	})
	return err
}

func source(id string, s model.ImageSource) driver.ImageSource {
	return driver.ImageSource{
		ImageID: id, DiskFormat: s.DiskFormat, SizeBytes: s.SizeBytes, HashAlgo: s.HashAlgo, HashValue: s.HashValue,
		Checksum: s.Checksum, MaxBytes: s.MaxBytes,
	}
}

// setGone remembers that the data of an image or volume has been deleted, until something
// of it is made again: a deletion may end when it is wanted no more.
func (a *Agent) setGone(id string, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !gone {
		delete(a.gone, id)
		return
	}
	a.gone[id] = true
}

// setDeleted remembers that a volume's thin device is gone.
func (a *Agent) setDeleted(id string, thin uint32) {
	a.setGone(id, true)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.copied, thin)
}

func (a *Agent) setEnsured(iqn, fingerprint string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if fingerprint == "" {
		delete(a.ensured, iqn)
		return
	}
	a.ensured[iqn] = fingerprint
}
