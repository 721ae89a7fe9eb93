package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// look sees what stands on the node: everything under our names, and of the images
// named their caches, page layers and files.
func (a *Agent) look(ctx context.Context, images ...string) (stack.Actual, error) {
	began := time.Now()
	defer func() { a.log.WithField("took", time.Since(began)).Debug("looked") }()
	actual := stack.Actual{
		Devices: map[string]driver.Device{}, Targets: map[string]driver.TargetState{}, Paths: map[string]stack.Path{},
		Caches: map[string]string{}, Pages: map[string]stack.Page{}, Looped: map[string]string{}, Files: map[string]driver.ImageFile{},
		Thins: map[string]uint32{}, Ensured: map[string]string{}, Gone: map[string]bool{}, Copied: map[uint32]bool{}, Sectors: map[string]uint64{},
	}
	devices, err := a.d.DM.List(ctx, driver.Prefix)
	if err != nil {
		return actual, fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		actual.Devices[d.Name] = d
		kind, _, part, ok := driver.ParseDevice(d.Name)
		switch {
		case !ok || kind != "volume" || !d.Live:
		case part == driver.PartCow:
			thin, err := a.thin(ctx, d.Name)
			switch {
			case err == nil:
				actual.Thins[d.Name] = thin
			case !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrForeign): // went away meanwhile, or is not ours
				return actual, err
			}
		case part == driver.PartVolume || part == driver.PartExport:
			if n, err := a.d.Size(d.Major, d.Minor); err == nil { // else it went away meanwhile
				actual.Sectors[d.Name] = uint64(n) / stack.SectorBytes
			}
		}
	}
	targets, err := a.d.Target.List(ctx, driver.IQNPrefix)
	if err != nil {
		return actual, fmt.Errorf("list targets: %w", err)
	}
	for _, t := range targets {
		actual.Targets[t.IQN] = t
	}
	if actual.Sessions, err = a.sessions(ctx); err != nil {
		return actual, err
	}
	for _, id := range images {
		if id == "" {
			continue
		}
		if err := a.lookImage(ctx, id, &actual); err != nil {
			return actual, fmt.Errorf("look at image %s: %w", id, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(actual.Ensured, a.ensured)
	maps.Copy(actual.Gone, a.gone)
	maps.Copy(actual.Copied, a.copied)
	return actual, nil
}

func (a *Agent) sessions(ctx context.Context) ([]stack.Session, error) {
	list, err := a.d.Initiator.Sessions(ctx, driver.IQNPrefix)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var out []stack.Session
	for _, s := range list {
		number := ""
		if s.Device != "" {
			// A disk that goes away just now is one that isn't there.
			number, _ = a.d.Number(s.Device)
		}
		out = append(out, stack.Session{Session: s, Number: number})
	}
	return out, nil
}

func (a *Agent) lookImage(ctx context.Context, id string, actual *stack.Actual) error {
	if a.d.Images != nil {
		file, err := a.d.Images.Find(ctx, id)
		if err == nil {
			actual.Files[id] = file
			return a.lookPage(ctx, id, file.Path, actual)
		}
		if !errors.Is(err, driver.ErrNotFound) {
			return err
		}
	}
	name := driver.ImageDevice(id, driver.PartPath)
	if d, ok := actual.Devices[name]; ok && d.Live {
		path, err := a.path(ctx, name)
		switch {
		case err == nil:
			actual.Paths[id] = path
		case !errors.Is(err, driver.ErrNotFound): // which is one that went away meanwhile
			return err
		}
	}
	cache, err := a.d.Cache.Find(ctx, id)
	if a.d.Cache.Name() == "none" {
		// Without a cache the page layer stands on the path itself.
		if _, ok := actual.Paths[id]; !ok {
			return nil
		}
		cache, err = "/dev/mapper/"+name, nil
	}
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	actual.Caches[id] = cache
	return a.lookPage(ctx, id, cache, actual)
}

// thin is the thin device that a COW device stands on.
func (a *Agent) thin(ctx context.Context, name string) (uint32, error) {
	table, err := a.d.DM.Table(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("table of %s: %w", name, err)
	}
	if len(table) != 1 || table[0].Type != "thin" {
		return 0, fmt.Errorf("%s is no thin device: %w", name, driver.ErrForeign)
	}
	t, err := dm.ParseThin(table[0])
	if err != nil {
		return 0, fmt.Errorf("table of %s: %w", name, err)
	}
	return t.ID, nil
}

// path reads which disk a multipath device uses and whether the kernel has given it up.
func (a *Agent) path(ctx context.Context, name string) (stack.Path, error) {
	status, err := a.d.DM.Status(ctx, name)
	if err != nil {
		return stack.Path{}, err
	}
	if len(status) != 1 || status[0].Type != "multipath" {
		return stack.Path{}, fmt.Errorf("%s is no multipath device: %w", name, driver.ErrForeign)
	}
	number, failed, err := ParsePath(status[0].Params)
	if err != nil {
		return stack.Path{}, fmt.Errorf("status of %s: %w", name, err)
	}
	return stack.Path{Number: number, Failed: failed}, nil
}

// ParsePath finds the one path in a multipath target's status line and whether it is
// failed: "… 8:16 A 0 …" or "… 8:16 F 1 …" (drivers/md/dm-mpath.c, multipath_status).
func ParsePath(params string) (number string, failed bool, err error) {
	words := strings.Fields(params)
	for i, w := range words[:max(0, len(words)-1)] {
		major, minor, ok := strings.Cut(w, ":")
		if ok && digits(major) && digits(minor) && (words[i+1] == "A" || words[i+1] == "F") {
			return w, words[i+1] == "F", nil
		}
	}
	return "", false, fmt.Errorf("no path in %q", params)
}

func digits(s string) bool {
	if s == "" {
		return false
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
