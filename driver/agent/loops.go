package agent

import (
	"context"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
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
		doc, err := a.control.Report(one, a.tell(one))
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
			if err := a.Take(*doc); err != nil && ctx.Err() == nil {
				a.log.WithError(err).Error("the document can't be taken")
			}
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				due = true
			case <-a.reportNow:
				due = !a.answered(ctx)
			}
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

// tell is Observe for somebody who hears of all that it tells.
func (a *Agent) tell(ctx context.Context) model.Observed {
	a.mu.Lock()
	news := a.news
	a.mu.Unlock()
	o := a.Observe(ctx)
	a.mu.Lock()
	a.told = max(a.told, news)
	a.mu.Unlock()
	return o
}

// beAsked notes that an answer is waited for, until the function that it returns is called.
func (a *Agent) beAsked() (done func()) {
	a.mu.Lock()
	a.asked++
	a.mu.Unlock()
	return func() {
		a.mu.Lock()
		a.asked--
		a.mu.Unlock()
		a.announce(false)
	}
}

// answered lets answers that are waited for go first, but not for long, and tells whether
// they have told all the news: the control plane takes an answer for a report.
func (a *Agent) answered(ctx context.Context) bool {
	limit := time.NewTimer(reportGap)
	defer limit.Stop()
	for {
		a.mu.Lock()
		told, asked, changed := a.told == a.news, a.asked, a.changed
		a.mu.Unlock()
		if told || asked == 0 {
			return told
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
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
