package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vmthunder/vmthunder/api/rpc"
)

// subscription is an [rpc.Consumer].
type subscription struct {
	bus  *Bus
	s    rpc.Subscription
	once sync.Once
	over chan struct{} // closed when run has returned
	cond *sync.Cond    // on broker.mu

	// Under broker.mu:
	consumers []*consumer // nil: not consuming
	inbox     []item
	err       error
	stopped   bool
	closed    bool
	busy      bool // in Deliver
	changed   chan struct{}
}

// consumer is a subscription's part on one queue, over one connection.
type consumer struct {
	sub     *subscription
	queue   *queue
	unacked []*message
	gone    bool
}

type item struct {
	c *consumer
	m *message
}

func (c *consumer) hasRoom() bool {
	return !c.gone && (c.sub.s.Prefetch <= 0 || len(c.unacked) < c.sub.s.Prefetch)
}

func (c *consumer) push(m *message) {
	c.unacked = append(c.unacked, m)
	c.sub.inbox = append(c.sub.inbox, item{c, m})
	c.sub.cond.Broadcast()
}

// Subscribe implements [rpc.Transport].
func (b *Bus) Subscribe(s rpc.Subscription) (rpc.Consumer, error) {
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	select {
	case <-b.closed:
		return nil, rpc.ErrClosed
	default:
	}
	c := &subscription{bus: b, s: s, over: make(chan struct{}), changed: make(chan struct{})}
	c.cond = sync.NewCond(&b.broker.mu)
	b.subs = append(b.subs, c)
	if b.state.Connected {
		c.attach()
	}
	b.work.Go(c.run)
	return c, nil
}

func (s *subscription) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
	s.cond.Broadcast()
}

// attach declares and consumes, under the broker's lock.
func (s *subscription) attach() {
	if s.stopped || s.closed {
		return
	}
	defer s.notify()
	k := s.bus.broker
	for _, q := range s.s.Queues {
		if s.err = k.declareQueue(q); s.err != nil {
			return
		}
	}
	for _, q := range s.s.Queues {
		c := &consumer{sub: s, queue: k.queues[q.Name]}
		c.queue.consumers = append(c.queue.consumers, c)
		s.consumers = append(s.consumers, c)
	}
	for _, c := range s.consumers {
		k.dispatch(c.queue)
	}
}

// detach gives everything back, under the broker's lock.
func (s *subscription) detach() {
	cs := s.consumers
	s.consumers, s.inbox = nil, nil
	for _, c := range cs {
		s.bus.broker.leave(c)
	}
	s.notify()
}

func (s *subscription) run() {
	defer close(s.over)
	k := s.bus.broker
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		for len(s.inbox) == 0 && !s.closed {
			s.cond.Wait()
		}
		if s.closed {
			return
		}
		it := s.inbox[0]
		s.inbox = s.inbox[1:]
		s.busy = true
		d := rpc.Delivery{
			Body: it.m.body, Redelivered: it.m.redelivered,
			Ack:     func() error { return s.settle(it, false) },
			Requeue: func() error { return s.settle(it, true) },
		}
		k.mu.Unlock()
		s.s.Deliver(d)
		k.mu.Lock()
		s.busy = false
		s.notify()
	}
}

func (s *subscription) settle(it item, requeue bool) error {
	k := s.bus.broker
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(it.c.unacked, it.m)
	if it.c.gone || i < 0 {
		return rpc.ErrConnectionLost
	}
	it.c.unacked = slices.Delete(it.c.unacked, i, i+1)
	if requeue {
		it.m.redelivered = true
		it.c.queue.messages = append([]*message{it.m}, it.c.queue.messages...)
	}
	k.dispatch(it.c.queue)
	return nil
}

// Ready implements [rpc.Consumer].
func (s *subscription) Ready(ctx context.Context) error {
	k := s.bus.broker
	for {
		k.mu.Lock()
		ok, err, closed, changed := s.consumers != nil, s.err, s.closed, s.changed
		k.mu.Unlock()
		switch {
		case closed:
			return rpc.ErrClosed
		case ok:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err == nil {
				err = rpc.ErrNotConnected
			}
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// Stop implements [rpc.Consumer].
func (s *subscription) Stop(ctx context.Context) error {
	k := s.bus.broker
	k.mu.Lock()
	s.stopped = true
	for _, c := range s.consumers { // no more of them, but acknowledgements still count
		c.queue.consumers = slices.DeleteFunc(c.queue.consumers, func(x *consumer) bool { return x == c })
	}
	back := s.inbox
	s.inbox = nil
	k.mu.Unlock()
	for _, it := range back {
		_ = s.settle(it, true)
	}
	for {
		k.mu.Lock()
		busy, changed := s.busy && !s.closed, s.changed
		k.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("stop consuming: %w", ctx.Err())
		}
	}
}

// Close implements [rpc.Consumer].
func (s *subscription) Close() error {
	s.once.Do(func() {
		k := s.bus.broker
		k.mu.Lock()
		defer k.mu.Unlock()
		s.detach()
		s.closed = true
		s.notify()
		s.bus.subs = slices.DeleteFunc(s.bus.subs, func(x *subscription) bool { return x == s })
	})
	return nil
}
