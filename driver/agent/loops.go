package agent

import (
	"context"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// reportTimeout bounds one report; a control plane that does not answer is tried
// again with the next one.
const reportTimeout = 15 * time.Second

// reportGap is the least time between the beginnings of two reports. The first change after a
// quiet time is reported at once, those that follow in its wake are told together.
const reportGap = 200 * time.Millisecond

// reportLoop reports at its interval and whenever something has changed, and takes
// the document that comes back.
func (a *Agent) reportLoop(ctx context.Context) {
	tick := time.NewTicker(a.cfg.ReportInterval)
	defer tick.Stop()
	lost := false
	for {
		began := time.Now()
		one, cancel := context.WithTimeout(ctx, reportTimeout)
		doc, err := a.control.Report(one, a.Observe(one))
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !lost:
			a.log.WithError(err).Warn("the control plane can't be reached; what stands goes on as it is")
		case err == nil && lost:
			a.log.Info("the control plane is back")
		}
		lost = err != nil
		if doc != nil {
			if err := a.take(*doc); err != nil && ctx.Err() == nil {
				a.log.WithError(err).Error("the document can't be taken")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-a.reportNow:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reportGap - time.Since(began)):
		}
		select {
		case <-a.reportNow: // what was asked for meanwhile is in the next one
		default:
		}
	}
}

// watchLoop looks at the sessions' states, which costs a few reads in /sys, and wakes
// the group of an image whose session was lost or came back, without waiting for the
// control plane to notice.
func (a *Agent) watchLoop(ctx context.Context) {
	tick := time.NewTicker(a.cfg.WatchInterval)
	defer tick.Stop()
	last := map[string]driver.SessionState{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sessions, err := a.d.Initiator.Sessions(ctx, driver.IQNPrefix)
		if err != nil {
			continue // the next report says so
		}
		now := map[string]driver.SessionState{}
		for _, s := range sessions {
			now[s.IQN+"@"+s.Address] = s.State
		}
		for key, state := range now {
			// A session that is new and broken already was lost between two looks.
			if before, ok := last[key]; before != state && (ok || state != driver.SessionLoggedIn) {
				a.sessionChanged(key, state)
			}
		}
		for key := range last {
			if _, ok := now[key]; !ok {
				a.sessionChanged(key, "gone")
			}
		}
		last = now
	}
}

func (a *Agent) sessionChanged(key string, state driver.SessionState) {
	a.log.WithField("session", key).WithField("state", string(state)).Info("session changed")
	iqn := key
	for i := range key {
		if key[i] == '@' {
			iqn = key[:i]
			break
		}
	}
	_, _, id, ok := driver.ParseIQN(iqn)
	if !ok {
		return
	}
	a.mu.Lock()
	g := a.groups["image:"+id]
	a.mu.Unlock()
	if g != nil {
		g.poke()
	}
	a.askReport()
}
