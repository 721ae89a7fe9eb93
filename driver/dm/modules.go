package dm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// modulesOf names the kernel modules that tables of a target type want.
func modulesOf(targetType string) []string {
	switch targetType {
	case "linear", "error", "striped":
		return []string{"dm-mod"}
	case "snapshot", "snapshot-origin", "snapshot-merge":
		return []string{"dm-snapshot"}
	case "thin", "thin-pool":
		return []string{"dm-thin-pool"}
	case "cache":
		return []string{"dm-cache", "dm-cache-smq"}
	case "multipath":
		return []string{"dm-multipath", "dm-round-robin", "dm-service-time"}
	case "flashcache": // out of tree
		return []string{"flashcache"}
	}
	return []string{"dm-" + targetType}
}

// probe runs modprobe once for each module in the life of the Mapper.
func (m *Mapper) probe(ctx context.Context, module string) error {
	m.probeMu.Lock()
	defer m.probeMu.Unlock()
	if err, done := m.probed[module]; done {
		return err
	}
	_, err := m.run.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"--quiet", "--use-blacklist", "--", module}})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.probed[module] = err
	return err
}

// Targets returns the target types that the kernel has now, loading nothing.
func (m *Mapper) Targets(ctx context.Context) ([]TargetVersion, error) {
	_, data, err := m.call(ctx, unix.DM_LIST_VERSIONS, header{}, nil)
	if err != nil {
		return nil, opError("list targets of", "kernel", err)
	}
	return unmarshalVersions(data)
}

func (m *Mapper) hasTarget(ctx context.Context, targetType string) (bool, error) {
	list, err := m.Targets(ctx)
	return slices.ContainsFunc(list, func(v TargetVersion) bool { return v.Type == targetType }), err
}

// HasTarget implements driver.DeviceMapper.
func (m *Mapper) HasTarget(ctx context.Context, targetType string) (bool, error) {
	ok, err := m.hasTarget(ctx, targetType)
	if ok || err != nil {
		return ok, err
	}
	for _, module := range modulesOf(targetType) {
		if err := m.probe(ctx, module); ctx.Err() != nil {
			return false, err
		}
	}
	return m.hasTarget(ctx, targetType)
}

// probeTable tries to load what t may have been refused for. It tells whether
// trying again makes sense, and which type is missing still.
func (m *Mapper) probeTable(ctx context.Context, t driver.Table) (again bool, err error) {
	var errs []error
	for _, s := range t {
		for _, module := range modulesOf(s.Type) {
			m.probeMu.Lock()
			_, done := m.probed[module]
			m.probeMu.Unlock()
			if !done {
				again = true
				_ = m.probe(ctx, module) // what matters is what the kernel has then
			}
		}
		ok, err := m.hasTarget(ctx, s.Type)
		if err != nil {
			return false, err
		}
		if !ok {
			errs = append(errs, fmt.Errorf("the kernel has no target type %s (module %s): %w", s.Type, modulesOf(s.Type)[0], driver.ErrUnavailable))
		}
	}
	return again, errors.Join(errs...)
}
