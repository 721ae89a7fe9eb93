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

// stillTimeout bounds how long a volume is held up for a copy of it. What takes long is
// I/O under way that can't be finished, because its pool is full or its image out of reach.
const stillTimeout = 5 * time.Second

// copyThin makes a thin device as a copy of another. A volume that has that one's device
// stands still meanwhile, from its top to the store: what has been acknowledged to its users
// is in the copy, and nothing of what comes later.
func (a *Agent) copyThin(ctx context.Context, s stack.Step) error {
	a.setGone(s.VolumeID, false)
	source, waits := a.holderOf(s.From)
	if source != "" {
		unlock, err := a.still.Acquire(ctx, source)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if err := a.whileStill(ctx, source, func() error { return a.d.Pool.SnapThin(ctx, s.Thin, s.From) }); err != nil {
		switch {
		case errors.Is(err, driver.ErrNotFound) && waits:
			return fmt.Errorf("thin device %d, which this is to be a copy of, is still to be made", s.From)
		case errors.Is(err, driver.ErrNotFound):
			return fmt.Errorf("%w: thin device %d, which this is to be a copy of, is gone from the pool", errLost, s.From)
		}
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.copied[s.VolumeID] = true
	return nil
}

// holderOf returns the id of the volume whose device stands on a thin device, "" if none, and
// whether the document says that the thin device is still to be made.
func (a *Agent) holderOf(thin uint32) (volume string, waits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.doc.Volumes {
		if v.ThinID != thin {
			continue
		}
		if v.State == model.Present {
			volume = v.ID
		}
		return volume, !v.Materialized && !a.copied[v.ID]
	}
	return "", false
}

// whileStill does something while the volume's devices that stand are suspended.
func (a *Agent) whileStill(ctx context.Context, volume string, do func() error) (err error) {
	if volume == "" {
		return do()
	}
	ctx, cancel := context.WithTimeout(ctx, stillTimeout)
	defer cancel()
	for _, part := range []string{driver.PartExport, driver.PartVolume, driver.PartCow} {
		name := driver.VolumeDevice(volume, part)
		d, missing := a.d.DM.Get(ctx, name)
		if errors.Is(missing, driver.ErrNotFound) || missing == nil && !d.Live {
			continue
		}
		if missing != nil {
			return missing
		}
		if err := a.d.DM.Suspend(ctx, name, driver.ReloadOptions{}); err != nil {
			return fmt.Errorf("hold up %s: %w", name, err)
		}
		defer func() {
			resume, cancel := driver.Teardown(ctx)
			defer cancel()
			if e := a.d.DM.Resume(resume, name); e != nil && !errors.Is(e, driver.ErrNotFound) {
				err = errors.Join(err, fmt.Errorf("let %s go on: %w", name, e))
			}
		}()
	}
	return do()
}
