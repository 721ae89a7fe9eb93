package agent

import (
	"context"
	"errors"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// lookPage sees the page layer on backing. Loop devices without one are what a crash left,
// or the page layer of an agent that used only one: it is made of them and what is missing.
// What stands on one of them stays there, and reads the same page cache.
func (a *Agent) lookPage(ctx context.Context, id, backing string, actual *stack.Actual) error {
	if d, ok := actual.Devices[driver.ImageDevice(id, driver.PartPage)]; ok && d.Live {
		if n, err := a.d.Size(d.Major, d.Minor); err == nil { // else it went away meanwhile
			actual.Pages[id] = stack.Page{Path: d.Path, Backing: backing, Bytes: uint64(n)}
		}
		return nil
	}
	loop, err := a.d.Loop.Find(ctx, backing)
	switch {
	case errors.Is(err, driver.ErrNotFound):
	case err != nil:
		return err
	case a.host.PageLoops > 1:
		actual.Looped[id] = backing
	default:
		actual.Pages[id] = stack.Page{Path: loop.Path, Backing: backing, Bytes: loop.Bytes}
	}
	return nil
}

// makePage binds all loop devices that the image is to have here, the relay's too, and makes
// the page layer over the first of them.
func (a *Agent) makePage(ctx context.Context, s stack.Step) error {
	n := a.host.PageLoops
	if n == 1 {
		_, err := a.d.Loop.Attach(ctx, s.Path, a.pageOptions())
		return err
	}
	loops, err := a.d.Loop.AttachAll(ctx, s.Path, a.pageOptions(), 2*n)
	if err != nil {
		return err
	}
	return a.spread(ctx, s.Name, loops[:n])
}

// makeRelay makes the relay over the loop devices that the page layer has left.
func (a *Agent) makeRelay(ctx context.Context, s stack.Step) error {
	n := a.host.PageLoops
	loops, err := a.d.Loop.AttachAll(ctx, s.Path, a.pageOptions(), 2*n)
	if err != nil {
		return err
	}
	return a.spread(ctx, s.Name, loops[n:])
}

func (a *Agent) pageOptions() driver.LoopOptions {
	return driver.LoopOptions{ReadOnly: true, ReadAheadSectors: a.cfg.ReadAheadSectors}
}

func (a *Agent) spread(ctx context.Context, name string, loops []driver.LoopDevice) error {
	var paths []string
	for _, l := range loops {
		paths = append(paths, l.Path)
	}
	_, err := a.d.DM.Create(ctx, name, stack.PageTable(paths, loops[0].Bytes/stack.SectorBytes),
		driver.CreateOptions{UUID: driver.DeviceUUID(name), ReadOnly: true})
	return err
}

// dropPage takes down the page layer, whole or not, and the relay's loop devices with it.
func (a *Agent) dropPage(ctx context.Context, s stack.Step) error {
	if err := a.d.DM.Remove(ctx, s.Name); err != nil || s.Path == "" {
		return err
	}
	for {
		l, err := a.d.Loop.Find(ctx, s.Path)
		if errors.Is(err, driver.ErrNotFound) {
			return nil
		}
		if err == nil {
			err = a.d.Loop.Detach(ctx, l.Path)
		}
		if err != nil {
			return err
		}
	}
}
