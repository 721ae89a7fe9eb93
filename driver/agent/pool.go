package agent

import (
	"context"
	"fmt"
	"time"
)

// openPool makes the thin pool stand. A pool that can't be opened is a problem to be
// reported, not a reason to stop: the node can still relay.
func (a *Agent) openPool(ctx context.Context) {
	if a.d.Pool == nil {
		return
	}
	st, err := a.d.Pool.Open(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	told := text(a.poolErr) == text(err)
	a.poolErr, a.poolUUID = err, st.UUID
	if err != nil && !told {
		a.log.WithError(err).Error("the pool can't be opened; volumes of this node can't be served")
	}
}

// poolLoop tries a pool that could not be opened again, and has the groups go on when it can.
func (a *Agent) poolLoop(ctx context.Context) {
	tick := time.NewTicker(a.cfg.ResyncInterval)
	defer tick.Stop()
	for {
		a.mu.Lock()
		err := a.poolErr
		a.mu.Unlock()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.openPool(ctx)
		a.mu.Lock()
		if a.poolErr == nil {
			for _, g := range a.groups {
				g.poke()
			}
		}
		a.mu.Unlock()
	}
}

// checkPool keeps anything from being made or deleted in a pool that is not the document's: a
// disk that was exchanged must not look like a volume full of zeros, and in another node's
// pool the same numbers are other volumes.
func (a *Agent) checkPool(want string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.d.Pool == nil:
		return fmt.Errorf("%w: no pool_device is configured here", errWrongPool)
	case a.poolErr != nil:
		return fmt.Errorf("%w: %w", errWrongPool, a.poolErr)
	case want != "" && want != a.poolUUID:
		return fmt.Errorf("%w: it is in pool %s, here is %s; %w", errWrongPool, want, a.poolUUID, errOtherPool)
	}
	return nil
}
