package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

// Bus is one connection to a [Broker], an [rpc.Transport].
type Bus struct {
	broker *Broker
	closed chan struct{}
	once   sync.Once
	work   sync.WaitGroup
	wake   chan struct{} // takes one

	// Under broker.mu:
	state   rpc.State
	changed chan struct{}
	subs    []*subscription
}

var _ rpc.Transport = (*Bus)(nil)

// reconnect is how long a Bus is without connection at least.
const reconnect = 2 * time.Millisecond

// Open connects a Bus.
func (b *Broker) Open() *Bus {
	bus := &Bus{broker: b, closed: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{})}
	bus.state = rpc.State{Since: time.Now(), Changed: bus.changed}
	b.mu.Lock()
	b.buses = append(b.buses, bus)
	bus.connect()
	b.mu.Unlock()
	bus.work.Go(bus.run)
	return bus
}

// run reconnects.
func (b *Bus) run() {
	for {
		select {
		case <-b.closed:
			return
		case <-b.wake:
		}
		for again := true; again; {
			select {
			case <-b.closed:
				return
			case <-time.After(reconnect):
			}
			b.broker.mu.Lock()
			if b.broker.up {
				b.connect()
				again = false
			}
			b.broker.mu.Unlock()
		}
	}
}

func (b *Bus) update(st rpc.State) {
	st.Since = time.Now()
	close(b.changed)
	b.changed = make(chan struct{})
	st.Changed = b.changed
	b.state = st
}

// connect is called under the broker's lock.
func (b *Bus) connect() {
	if b.state.Connected || errors.Is(b.state.Err, rpc.ErrClosed) {
		return
	}
	b.update(rpc.State{Connected: true, Generation: b.state.Generation + 1})
	for _, s := range b.subs {
		s.attach()
	}
}

// disconnect is called under the broker's lock.
func (b *Bus) disconnect() {
	if !b.state.Connected {
		return
	}
	b.update(rpc.State{Generation: b.state.Generation, Err: rpc.ErrConnectionLost})
	for _, s := range b.subs {
		s.detach()
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Disconnect breaks the connection; it comes back soon.
func (b *Bus) Disconnect() {
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	b.disconnect()
}

// State implements [rpc.Transport].
func (b *Bus) State() rpc.State {
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	return b.state
}

// Close implements [rpc.Transport].
func (b *Bus) Close() error {
	b.once.Do(func() {
		b.broker.mu.Lock()
		b.disconnect()
		b.update(rpc.State{Generation: b.state.Generation, Err: rpc.ErrClosed})
		subs := slices.Clone(b.subs)
		b.broker.buses = slices.DeleteFunc(b.broker.buses, func(x *Bus) bool { return x == b })
		b.broker.mu.Unlock()
		close(b.closed)
		for _, s := range subs {
			_ = s.Close()
		}
	})
	b.work.Wait()
	return nil
}

// connected waits for the connection and returns with the broker locked.
func (b *Bus) connected(ctx context.Context) error {
	for {
		b.broker.mu.Lock()
		st := b.state
		if st.Connected {
			if ctx.Err() != nil {
				b.broker.mu.Unlock()
				return ctx.Err()
			}
			return nil
		}
		b.broker.mu.Unlock()
		if errors.Is(st.Err, rpc.ErrClosed) {
			return rpc.ErrClosed
		}
		select {
		case <-st.Changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", rpc.ErrNotConnected, ctx.Err())
		}
	}
}

// Consumers implements [rpc.Transport].
func (b *Bus) Consumers(ctx context.Context, name string) (int, error) {
	if err := b.connected(ctx); err != nil {
		return 0, err
	}
	defer b.broker.mu.Unlock()
	if q := b.broker.queues[name]; q != nil {
		return len(q.consumers), nil
	}
	return 0, nil
}

// Publish implements [rpc.Transport].
func (b *Bus) Publish(ctx context.Context, m rpc.Message) (uint64, error) {
	for {
		if err := b.connected(ctx); err != nil {
			return 0, err
		}
		generation, again, err := b.publish(m)
		b.broker.mu.Unlock()
		if !again {
			return generation, err
		}
	}
}

func (b *Bus) publish(m rpc.Message) (generation uint64, again bool, err error) {
	k := b.broker
	var f Fault
	if k.inject != nil {
		f = k.inject(m)
	}
	if f.Lost {
		b.disconnect()
		if m.Once {
			return 0, false, rpc.ErrConnectionLost
		}
		return 0, true, nil
	}
	if err := k.declareExchange(m.Exchange); err != nil {
		return 0, false, err
	}
	if m.Queue != nil {
		if err := k.declareQueue(*m.Queue); err != nil {
			return 0, false, err
		}
	}
	qs := k.routes(m)
	if len(qs) == 0 && m.Mandatory {
		return 0, false, rpc.ErrNoConsumer
	}
	switch {
	case f.Drop:
	case f.Delay > 0:
		time.AfterFunc(f.Delay, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.enqueue(k.routes(m), m, f)
		})
	default:
		k.enqueue(qs, m, f)
	}
	generation = b.state.Generation
	if f.Unconfirmed {
		b.disconnect()
		if m.Once {
			return 0, false, rpc.ErrConnectionLost
		}
		return 0, true, nil
	}
	return generation, false, nil
}
