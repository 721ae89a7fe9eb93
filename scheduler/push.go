package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/reconcile"
)

// document computes what should stand on a host now.
func (s *Service) document(ctx context.Context, host string) (model.Desired, error) {
	state, err := s.store.NodeState(ctx, host)
	if err != nil {
		return model.Desired{}, err
	}
	return reconcile.Desired(state, reconcile.Options{MaxImageBytes: s.opt.MaxImageBytes}), nil
}

// tell has these hosts sent their documents soon. A host named again before that is
// sent one document, the newest.
func (s *Service) tell(hosts ...string) {
	s.mu.Lock()
	for _, h := range hosts {
		if h != "" {
			s.dirty[h] = true
		}
	}
	s.mu.Unlock()
	select {
	case s.push <- struct{}{}:
	default:
	}
}

// pushers bounds the documents under way at once.
const pushers = 16

// pushLoop sends documents. A node that can't be reached is not tried again here: its
// next report brings it the document.
func (s *Service) pushLoop(ctx context.Context) {
	slots := make(chan struct{}, pushers)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.push:
		}
		s.mu.Lock()
		hosts := s.dirty
		s.dirty = map[string]bool{}
		s.mu.Unlock()
		for host := range hosts {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				s.nudge(ctx, host)
			})
		}
	}
}

func (s *Service) nudge(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	doc, err := s.document(ctx, host)
	if err == nil {
		err = s.nodes.Nudge(ctx, host, doc)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.WithError(err).WithField("node", host).Debug("document not delivered; the node's next report fetches it")
	}
}
