package transport

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/streadway/amqp"
	"github.com/vmthunder/vmthunder/api/rpc"
)

// subscription is an [rpc.Consumer].
type subscription struct {
	bus  *Bus
	s    rpc.Subscription
	end  context.CancelFunc
	halt context.CancelFunc // closes stop
	stop <-chan struct{}    // closed: no more deliveries
	idle chan struct{}      // closed when there are none any more
	over chan struct{}      // closed when run has returned

	deliver sync.Mutex // one delivery at a time, of whatever queue

	mu      sync.Mutex
	ready   *session // on which it consumes
	err     error    // why it doesn't
	changed chan struct{}
}

// Subscribe implements [rpc.Transport].
func (b *Bus) Subscribe(s rpc.Subscription) (rpc.Consumer, error) {
	if b.life.Err() != nil {
		return nil, rpc.ErrClosed
	}
	c := &subscription{
		bus: b, s: s, idle: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(b.life)
	running, halt := context.WithCancel(ctx)
	c.end, c.halt, c.stop = cancel, halt, running.Done()
	b.work.Go(func() {
		defer close(c.over)
		c.run(ctx, running)
	})
	return c, nil
}

func (c *subscription) update(s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready, c.err = s, err
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *subscription) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// run consumes until running ends, and then keeps the channel until ctx does.
func (c *subscription) run(ctx, running context.Context) {
	defer c.update(nil, rpc.ErrClosed)
	for n := 0; ; n++ {
		s, err := c.bus.connected(running)
		if err != nil {
			return
		}
		began := time.Now()
		err = c.consume(ctx, s)
		if running.Err() != nil {
			return
		}
		c.update(nil, err)
		if time.Since(began) > c.bus.opts.RetryMax {
			n = 0
		}
		select {
		case <-s.done: // a new connection is a new chance
		case <-time.After(c.bus.backoff(n)):
		case <-running.Done():
			return
		}
	}
}

// consume declares and takes deliveries over one session, until that or the
// subscription ends. With everything in place it returns only then.
func (c *subscription) consume(ctx context.Context, s *session) error {
	ch, err := s.openChannel()
	if err != nil {
		return err
	}
	defer s.shut(ch)
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	cancels := ch.NotifyCancel(make(chan string, len(c.s.Queues)))
	all, err := await(s, func() ([]<-chan amqp.Delivery, error) { return c.setUp(ch.Channel) })
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	for _, ds := range all {
		readers.Go(func() { c.read(ds) })
	}
	c.update(s, nil)
	select {
	case e := <-closes:
		if e == nil {
			return rpc.ErrClosed
		}
		return e
	case <-cancels:
		return errors.New("queue was deleted")
	case <-c.stop:
		if ctx.Err() != nil {
			return rpc.ErrClosed
		}
	}
	_, err = await(s, func() (struct{}, error) {
		for i := range c.s.Queues {
			if err := ch.Cancel(tag(i), false); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		return err
	}
	readers.Wait()
	close(c.idle)
	select { // the channel stays, for acknowledgements
	case <-closes:
	case <-ctx.Done():
	}
	return rpc.ErrClosed
}

// setUp declares the queues and starts to consume.
func (c *subscription) setUp(ch *amqp.Channel) ([]<-chan amqp.Delivery, error) {
	for _, q := range c.s.Queues {
		if err := declareQueue(ch, q); err != nil {
			if code(err) != 0 {
				err = fmt.Errorf("%w: %w", rpc.ErrTopology, err)
			}
			return nil, err
		}
	}
	if c.s.Prefetch > 0 {
		if err := ch.Qos(c.s.Prefetch, 0, false); err != nil {
			return nil, err
		}
	}
	var all []<-chan amqp.Delivery
	for i, q := range c.s.Queues {
		ds, err := ch.Consume(q.Name, tag(i), false, false, false, false, nil)
		if err != nil {
			return nil, fmt.Errorf("consume %s: %w", q.Name, err)
		}
		all = append(all, ds)
	}
	return all, nil
}

func tag(i int) string { return strconv.Itoa(i + 1) }

func (c *subscription) read(ds <-chan amqp.Delivery) {
	for d := range ds {
		if c.stopped() {
			_ = d.Nack(false, true)
			continue
		}
		c.deliver.Lock()
		c.s.Deliver(rpc.Delivery{
			Body: d.Body, Redelivered: d.Redelivered,
			Ack:     func() error { return d.Ack(false) },
			Requeue: func() error { return d.Nack(false, true) },
		})
		c.deliver.Unlock()
	}
}

// Ready implements [rpc.Consumer].
func (c *subscription) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		ready, err, changed := c.ready, c.err, c.changed
		c.mu.Unlock()
		if errors.Is(err, rpc.ErrClosed) {
			return err
		}
		st := c.bus.State()
		if ready != nil && st.Connected && ready.generation == st.Generation {
			return nil
		}
		select {
		case <-changed:
		case <-st.Changed:
		case <-c.over:
			return rpc.ErrClosed
		case <-ctx.Done():
			if err == nil {
				err = st.Err
			}
			if err == nil {
				err = rpc.ErrNotConnected
			}
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// Stop implements [rpc.Consumer].
func (c *subscription) Stop(ctx context.Context) error {
	c.halt()
	select {
	case <-c.idle:
		return nil
	case <-c.over: // the connection is gone, and the deliveries with it
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop consuming: %w", ctx.Err())
	}
}

// Close implements [rpc.Consumer]. It does not wait for the broker for long.
func (c *subscription) Close() error {
	c.halt()
	c.end()
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-c.over:
	case <-t.C:
	}
	return nil
}
