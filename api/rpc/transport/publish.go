package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/streadway/amqp"
	"github.com/vmthunder/vmthunder/api/rpc"
)

// outgoing is one message on its way.
type outgoing struct {
	m        rpc.Message
	returned bool
	result   chan error // takes one
}

func (o *outgoing) publishing() amqp.Publishing {
	p := amqp.Publishing{
		Headers:         amqp.Table{},
		ContentType:     "application/json",
		ContentEncoding: "utf-8",
		DeliveryMode:    amqp.Persistent,
		Body:            o.m.Body,
	}
	if o.m.Expiration > 0 {
		p.Expiration = strconv.FormatInt(max(o.m.Expiration.Milliseconds(), 1), 10)
	}
	return p
}

// publisher is a channel in confirm mode. One goroutine sends, so that it knows
// the sequence numbers; another takes what comes back.
type publisher struct {
	ch   *amqp.Channel
	reqs chan *outgoing
	dead chan struct{}
	err  error // why, after dead

	mu      sync.Mutex
	seq     uint64
	pending map[uint64]*outgoing
}

var errNack = errors.New("broker could not take the message")

// spares is how many publishers a session keeps besides the one that all share.
const spares = 16

// newPublisher takes a spare one, or opens one.
func newPublisher(s *session) (*publisher, error) {
	for {
		select {
		case p := <-s.spare:
			if p.alive() {
				return p, nil
			}
			continue
		default:
		}
		break
	}
	ch, err := s.openChannel()
	if err != nil {
		return nil, err
	}
	p := &publisher{
		ch: ch.Channel, reqs: make(chan *outgoing), dead: make(chan struct{}),
		pending: map[uint64]*outgoing{},
	}
	// Unbuffered and received by one goroutine: so a return is seen before the
	// confirmation that follows it, as the broker sends them.
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation))
	returns := ch.NotifyReturn(make(chan amqp.Return))
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	go p.listen(confirms, returns, closes)
	if _, err := await(s, func() (struct{}, error) { return struct{}{}, ch.Confirm(false) }); err != nil {
		return nil, err
	}
	go p.send()
	return p, nil
}

func (p *publisher) alive() bool {
	select {
	case <-p.dead:
		return false
	default:
		return true
	}
}

func (p *publisher) send() {
	for {
		select {
		case o := <-p.reqs:
			p.mu.Lock()
			p.seq++
			p.pending[p.seq] = o
			p.mu.Unlock()
			if err := p.ch.Publish(o.m.Exchange.Name, o.m.Key, o.m.Mandatory, false, o.publishing()); err != nil {
				<-p.dead // it closes after a failed write, and tells all that are pending
				return
			}
		case <-p.dead:
			return
		}
	}
}

func (p *publisher) listen(confirms chan amqp.Confirmation, returns chan amqp.Return, closes chan *amqp.Error) {
	for confirms != nil {
		select {
		case c, ok := <-confirms:
			if !ok {
				confirms = nil // the last one to be closed
				break
			}
			p.mu.Lock()
			o := p.pending[c.DeliveryTag]
			delete(p.pending, c.DeliveryTag)
			p.mu.Unlock()
			switch {
			case o == nil:
			case o.returned:
				o.result <- rpc.ErrNoConsumer
			case !c.Ack:
				o.result <- errNack
			default:
				o.result <- nil
			}
		case r, ok := <-returns:
			if !ok {
				returns = nil
				break
			}
			p.mark(r)
		}
	}
	p.err = errLost
	if e := <-closes; e != nil {
		p.err = e
	}
	if code(p.err) == 0 {
		p.err = fmt.Errorf("%w: %w", errLost, p.err)
	}
	close(p.dead)
}

// mark finds the message that came back. A return has no number, but each
// body has a _unique_id of its own.
func (p *publisher) mark(r amqp.Return) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.pending {
		if !o.returned && o.m.Mandatory && o.m.Key == r.RoutingKey && o.m.Exchange.Name == r.Exchange &&
			bytes.Equal(o.m.Body, r.Body) {
			o.returned = true
			return
		}
	}
}

// publish sends one message and waits for its confirmation. Errors: ErrNoConsumer, the
// broker's refusal, errNack, errLost, the context's.
func (p *publisher) publish(ctx context.Context, s *session, m rpc.Message) error {
	o := &outgoing{m: m, result: make(chan error, 1)}
	select {
	case p.reqs <- o:
	case <-p.dead:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		t := time.NewTimer(s.confirm)
		select {
		case err := <-o.result:
			t.Stop()
			return err
		case <-p.dead:
			t.Stop()
			select {
			case err := <-o.result:
				return err
			default:
				return p.err
			}
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
			if s.blocked() {
				continue
			}
			s.hangUp()
			return fmt.Errorf("%w: not confirmed within %s", errLost, s.confirm)
		}
	}
}

// sharedPublisher gives the session's publisher, a new one if the last is dead.
func (s *session) sharedPublisher(ctx context.Context) (*publisher, error) {
	var p *publisher
	select {
	case p = <-s.shared:
	case <-s.done:
		return nil, fmt.Errorf("%w: %w", errLost, s.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p != nil && p.alive() {
		s.shared <- p
		return p, nil
	}
	return s.openPublisher(ctx, func(p *publisher) { s.shared <- p })
}

// openPublisher makes a publisher and gives it, nil if it failed, to keep, even if ctx
// ends before.
func (s *session) openPublisher(ctx context.Context, keep func(*publisher)) (*publisher, error) {
	type made struct {
		p   *publisher
		err error
	}
	result := make(chan made, 1)
	go func() {
		p, err := newPublisher(s)
		if err != nil {
			p, err = nil, fmt.Errorf("%w: %w", errLost, err)
		}
		keep(p)
		result <- made{p, err}
	}()
	select {
	case r := <-result:
		return r.p, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// putSpare keeps a publisher that nobody uses. Beyond all measure it stays idle until
// the connection ends.
func (s *session) putSpare(p *publisher) {
	if !p.alive() {
		return
	}
	select {
	case s.spare <- p:
	default:
	}
}

// publish declares, sends and confirms over one session.
func (s *session) publish(ctx context.Context, m rpc.Message) error {
	if err := s.prepare(ctx, m); err != nil {
		return err
	}
	p, err := s.sharedPublisher(ctx)
	if err != nil {
		return err
	}
	err = p.publish(ctx, s, m)
	if code(err) == 0 {
		return err
	}
	// Somebody's message ended the channel for all that were on it. Alone on a
	// channel it is seen whose.
	s.forget()
	if err := s.prepare(ctx, m); err != nil {
		return err
	}
	done, over := context.WithCancel(ctx)
	defer over() // with ctx or with us, it is spare
	p, err = s.openPublisher(ctx, func(p *publisher) {
		if p != nil {
			context.AfterFunc(done, func() { s.putSpare(p) })
		}
	})
	if err != nil {
		return err
	}
	err = p.publish(ctx, s, m)
	if code(err) == amqp.NotFound {
		return fmt.Errorf("%w: %w", errLost, err) // an auto-delete exchange went meanwhile
	}
	if code(err) != 0 {
		return fmt.Errorf("%w: %w", rpc.ErrRefused, err)
	}
	return err
}

// Publish implements [rpc.Transport].
func (b *Bus) Publish(ctx context.Context, m rpc.Message) (uint64, error) {
	for n := 0; ; n++ {
		s, err := b.connected(ctx)
		if err != nil {
			return 0, err
		}
		err = s.publish(ctx, m)
		switch {
		case err == nil:
			return s.generation, nil
		case !errors.Is(err, errLost) && !errors.Is(err, errNack):
			return 0, err
		case m.Once:
			return 0, fmt.Errorf("%w: %w", rpc.ErrConnectionLost, err)
		}
		select {
		case <-time.After(b.backoff(min(n, 5)) / 4):
		case <-ctx.Done():
			return 0, fmt.Errorf("publish: %w: %w", err, ctx.Err())
		case <-b.life.Done():
			return 0, rpc.ErrClosed
		}
	}
}
