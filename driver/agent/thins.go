package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// Thins tells of the thin devices in this node's pool but those whose numbers are given.
// model.ErrUnavailable: there is no pool that can be looked into.
func (a *Agent) Thins(ctx context.Context, but []int64) (model.Thins, error) {
	if err := a.checkPool(""); err != nil {
		return model.Thins{}, fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	skip := slices.Sorted(slices.Values(but))
	list, err := a.d.Pool.ListThins(ctx, func(id uint32) bool {
		_, found := slices.BinarySearch(skip, int64(id))
		return !found
	})
	if err != nil {
		return model.Thins{}, fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	a.mu.Lock()
	out := model.Thins{PoolUUID: a.poolUUID, Thins: []model.Thin{}}
	a.mu.Unlock()
	for _, t := range list {
		out.Thins = append(out.Thins, model.Thin{
			ID: t.ID, MappedBytes: int64(t.MappedBytes), EndBytes: int64(t.EndBytes), Device: t.Device, Exceptions: t.Exceptions,
		})
	}
	return out, nil
}
