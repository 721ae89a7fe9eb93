package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// stillTimeout bounds how long volumes are held up for copies of them. What takes long is
// I/O under way that can't be finished, because its pool is full or its image out of reach.
const stillTimeout = 5 * time.Second

// thinCopy is a thin device to be made as a copy of another.
type thinCopy struct {
	id         string // of the volume or snapshot that gets it
	thin, from uint32
	source     string // volume whose device stands on from, "" if none does
	waits      bool   // the document says that from itself is still to be made
}

// copyThin makes a thin device as a copy of another, and with it all that belong together
// with it, of whatever image. Volumes that have the sources' devices stand still meanwhile,
// from their tops to the stores: what has been acknowledged to their users is in the copies,
// and nothing of what comes later.
func (a *Agent) copyThin(ctx context.Context, s stack.Step) error {
	for {
		set := a.copySet(s)
		unlock, err := a.holdSet(ctx, set)
		if err != nil {
			return err
		}
		if now := a.copySet(s); !slices.Equal(now, set) { // a newer document, or another worker was here
			unlock()
			continue
		}
		defer unlock()
		return a.copyAll(ctx, s.Together, set)
	}
}

// copySet is what a step is to copy, in order of ids. Of copies that belong together it is all
// that the document asks for, or nothing if they were made meanwhile.
func (a *Agent) copySet(s stack.Step) []thinCopy {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.Together == "" {
		source, waits := a.holderOf(s.From)
		return []thinCopy{{s.VolumeID, s.Thin, s.From, source, waits}}
	}
	var set []thinCopy
	for _, v := range a.doc.Volumes {
		if v.Together == s.Together && v.State != model.Absent && v.SourceThin != 0 && !v.Materialized && !a.copied[v.ThinID] {
			source, waits := a.holderOf(v.SourceThin)
			set = append(set, thinCopy{v.ID, v.ThinID, v.SourceThin, source, waits})
		}
	}
	slices.SortFunc(set, func(x, y thinCopy) int { return cmp.Compare(x.id, y.id) })
	return set
}

// holderOf returns the id of the volume whose device stands on a thin device, "" if none, and
// whether the document says that the thin device is still to be made.
func (a *Agent) holderOf(thin uint32) (volume string, waits bool) {
	for _, v := range a.doc.Volumes {
		if v.ThinID != thin {
			continue
		}
		if v.State == model.Present {
			volume = v.ID
		}
		return volume, !v.Materialized && !a.copied[v.ThinID]
	}
	return "", false
}

// holdSet keeps all others from the devices of copies and sources. Locks are taken in order.
func (a *Agent) holdSet(ctx context.Context, set []thinCopy) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range slices.Backward(held) {
			u()
		}
	}
	ids := sources(set)
	for _, c := range set {
		ids = append(ids, c.id)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		u, err := a.still.Acquire(ctx, id)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, u)
	}
	return unlock, nil
}

// sources are the volumes that stand still for a set of copies, each once.
func sources(set []thinCopy) []string {
	var ids []string
	for _, c := range set {
		if c.source != "" {
			ids = append(ids, c.source)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (a *Agent) copyAll(ctx context.Context, together string, set []thinCopy) error {
	if together == "" {
		for _, c := range set {
			a.setGone(c.id, false)
		}
		if err := a.snapAll(ctx, set); err != nil {
			return err
		}
		a.setCopied(set)
		return nil
	}
	if err := a.failedTogether(together); err != nil || len(set) == 0 {
		return err
	}
	err := a.snapTogether(ctx, set)
	switch {
	case err == nil:
		a.setCopied(set)
		return nil
	case ctx.Err() != nil || errors.Is(err, errWaits):
		return err // it is tried again, from the start
	}
	err = fmt.Errorf("%w: %w", errTogether, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed[together] = err
	return err
}

// snapTogether makes all copies or none. What is there of them is of an attempt that was cut
// short, so of another moment, and goes first: none of it was ever reported as made.
func (a *Agent) snapTogether(ctx context.Context, set []thinCopy) error {
	for _, c := range set {
		a.setGone(c.id, false)
		if err := a.d.Pool.DeleteThin(ctx, c.thin); err != nil {
			return err
		}
	}
	err := a.snapAll(ctx, set)
	if err == nil {
		return nil
	}
	undo, cancel := driver.Teardown(ctx)
	defer cancel()
	for _, c := range set {
		err = errors.Join(err, a.d.Pool.DeleteThin(undo, c.thin))
	}
	return err
}

// snapAll makes copies while all their sources stand still.
func (a *Agent) snapAll(ctx context.Context, set []thinCopy) error {
	return a.whileStill(ctx, sources(set), func() error {
		for _, c := range set {
			err := a.d.Pool.SnapThin(ctx, c.thin, c.from)
			switch {
			case errors.Is(err, driver.ErrNotFound) && c.waits:
				return fmt.Errorf("thin device %d, which this is to be a copy of, %w", c.from, errWaits)
			case errors.Is(err, driver.ErrNotFound):
				return fmt.Errorf("%w: thin device %d, which this is to be a copy of, is gone from the pool", errLost, c.from)
			case err != nil:
				return err
			}
		}
		return nil
	})
}

// setCopied tells of all copies of a set at once.
func (a *Agent) setCopied(set []thinCopy) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range set {
		a.copied[c.thin] = true
	}
}

// failedTogether is why copies that belong together could not be made, nil if that is not so.
func (a *Agent) failedTogether(together string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[together]
}

// whileStill does something while the devices of all these volumes that stand are suspended:
// the tops of all first, so that their users stop as soon as can be.
func (a *Agent) whileStill(ctx context.Context, volumes []string, do func() error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stillTimeout)
	defer cancel()
	for _, part := range []string{driver.PartExport, driver.PartVolume, driver.PartCow} {
		for _, volume := range volumes {
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
	}
	return do()
}
