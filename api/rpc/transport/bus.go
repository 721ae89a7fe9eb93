// Package transport carries package rpc's messages over RabbitMQ. It is the only
// one that imports an AMQP library.
package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streadway/amqp"
	"github.com/vmthunder/vmthunder/api/rpc"
)

// Bus is an [rpc.Transport] over one connection to one of the brokers of a cluster.
type Bus struct {
	url  URL
	opts Options
	end  context.CancelFunc
	//nolint:containedctx // the Bus's own life
	life context.Context
	work sync.WaitGroup

	mu      sync.Mutex
	state   rpc.State
	changed chan struct{} // state.Changed
	session *session      // nil: not connected
}

var _ rpc.Transport = (*Bus)(nil)

// Open makes a Bus, which connects in the background. Errors are those of the URL.
func Open(transportURL string, o Options) (*Bus, error) {
	u, err := ParseURL(transportURL)
	if err != nil {
		return nil, err
	}
	if o, err = o.withDefaults(u); err != nil {
		return nil, err
	}
	b := &Bus{url: u, opts: o, changed: make(chan struct{})}
	b.state = rpc.State{Since: time.Now(), Changed: b.changed}
	b.life, b.end = context.WithCancel(context.Background())
	b.work.Go(b.run)
	return b, nil
}

// State of the connection.
func (b *Bus) State() rpc.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Close ends the connection; all that waits on it returns [rpc.ErrClosed].
func (b *Bus) Close() error {
	b.end()
	b.work.Wait()
	return nil
}

func (b *Bus) update(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
	b.state.Changed = b.changed
}

// run keeps the Bus connected.
func (b *Bus) run() {
	hosts := append([]Host{}, b.url.Hosts...)
	// As oslo: clients spread over the cluster.
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	for failures := 0; b.life.Err() == nil; {
		h := hosts[failures%len(hosts)]
		s, err := dial(b.life, b.url, h, b.opts)
		if err == nil {
			began := time.Now()
			err = b.keep(s, h)
			if time.Since(began) > b.opts.RetryMax {
				failures = 0
			}
		}
		if b.life.Err() != nil {
			break
		}
		b.update(func() { b.state.Connected, b.state.Err, b.state.Since, b.session = false, err, time.Now(), nil })
		if failures == 0 && b.opts.Log != nil { // once per outage, not per attempt
			b.opts.Log.WithError(err).WithField("broker", h.Addr()).Warn("no connection to the message bus")
		}
		// All brokers of a cluster are tried in turn before waiting longer.
		d := b.backoff(failures / len(hosts))
		failures++
		select {
		case <-time.After(d):
		case <-b.life.Done():
		}
	}
	b.update(func() {
		b.state.Connected, b.state.Err, b.state.Since, b.session = false, rpc.ErrClosed, time.Now(), nil
	})
}

// backoff doubles from RetryMin to RetryMax; half of it is by chance, so that a
// thousand clients don't come back at once.
func (b *Bus) backoff(n int) time.Duration {
	d := b.opts.RetryMin << min(n, 20)
	if d <= 0 || d > b.opts.RetryMax {
		d = b.opts.RetryMax
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // no secret
}

// keep serves one session until it is lost, and tells why it was.
func (b *Bus) keep(s *session, h Host) error {
	blocks := s.conn.NotifyBlocked(make(chan amqp.Blocking, 4))
	s.blocked = func() bool { return b.State().Blocked != "" }
	b.update(func() {
		s.generation = b.state.Generation + 1
		b.state = rpc.State{Connected: true, Generation: s.generation, Since: time.Now()}
		b.session = s
	})
	if b.opts.Log != nil {
		b.opts.Log.WithField("broker", h.Addr()).Info("connected to the message bus")
	}
	for {
		select {
		case x, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			reason := ""
			if x.Active {
				reason = x.Reason
				if reason == "" {
					reason = "no reason given"
				}
			}
			b.update(func() { b.state.Blocked = reason })
		case <-s.done:
			return s.err
		case <-b.life.Done():
			go func() { // the library's reader may wait for us to take one
				for range blocks {
				}
			}()
			s.close()
			return rpc.ErrClosed
		}
	}
}

// connected waits for a session.
func (b *Bus) connected(ctx context.Context) (*session, error) {
	for {
		b.mu.Lock()
		s, st := b.session, b.state
		b.mu.Unlock()
		if b.life.Err() != nil {
			return nil, rpc.ErrClosed
		}
		if s != nil {
			select {
			case <-s.done: // not noticed yet
			default:
				return s, nil
			}
		}
		select {
		case <-st.Changed:
		case <-b.life.Done():
		case <-ctx.Done():
			if st.Err == nil {
				return nil, fmt.Errorf("%w: %w", rpc.ErrNotConnected, ctx.Err())
			}
			return nil, fmt.Errorf("%w (%w): %w", rpc.ErrNotConnected, st.Err, ctx.Err())
		}
	}
}

// Consumers counts who listens on a queue.
func (b *Bus) Consumers(ctx context.Context, queue string) (int, error) {
	for {
		s, err := b.connected(ctx)
		if err != nil {
			return 0, err
		}
		n := 0
		err = s.declare(ctx, func(ch *amqp.Channel) error {
			q, err := ch.QueueInspect(queue)
			n = q.Consumers
			return err
		})
		switch {
		case err == nil:
			return n, nil
		case code(err) == amqp.NotFound:
			return 0, nil
		case !errors.Is(err, errLost):
			return 0, fmt.Errorf("inspect queue %s: %w", queue, err)
		}
	}
}
