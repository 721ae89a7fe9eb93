package transport

import (
	"context"
	"errors"
	"fmt"

	"github.com/streadway/amqp"
	"github.com/vmthunder/vmthunder/api/rpc"
)

// errLost: the connection or channel went away; another one may do better.
var errLost = errors.New("lost")

// code of the broker's refusal, which ends the channel only; 0: there is none.
func code(err error) int {
	e, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return 0
	}
	switch e.Code {
	case amqp.ContentTooLarge, amqp.NoConsumers, amqp.AccessRefused, amqp.NotFound,
		amqp.ResourceLocked, amqp.PreconditionFailed:
		return e.Code
	}
	return 0
}

// declare runs f on the session's channel for declarations, one at a time.
// Errors are the broker's refusal, errLost or the context's.
func (s *session) declare(ctx context.Context, f func(*amqp.Channel) error) error {
	var ch *amqp.Channel
	select {
	case ch = <-s.admin:
	case <-s.done:
		return fmt.Errorf("%w: %w", errLost, s.err)
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() {
		var err error
		if ch == nil {
			var c *channel
			if c, err = s.openChannel(); err == nil {
				ch = c.Channel
			}
		}
		if err == nil {
			_, err = await(s, func() (struct{}, error) { return struct{}{}, f(ch) })
		}
		if err != nil {
			ch = nil // a refusal closed it
			if code(err) == 0 {
				err = fmt.Errorf("%w: %w", errLost, err)
			}
		}
		s.admin <- ch
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func declareExchange(ch *amqp.Channel, e rpc.Exchange) error {
	if e.Name == "" {
		return nil
	}
	if err := ch.ExchangeDeclare(e.Name, e.Kind, e.Durable, e.AutoDelete, false, false, nil); err != nil {
		return fmt.Errorf("exchange %s: %w", e.Name, err)
	}
	return nil
}

func declareQueue(ch *amqp.Channel, q rpc.Queue) error {
	args := amqp.Table{}
	if q.Expires > 0 {
		args["x-expires"] = int32(min(q.Expires.Milliseconds(), 1<<31-1))
	}
	if q.Quorum {
		args["x-queue-type"] = "quorum"
	}
	if _, err := ch.QueueDeclare(q.Name, q.Durable, q.AutoDelete, false, false, args); err != nil {
		return fmt.Errorf("queue %s: %w", q.Name, err)
	}
	for _, b := range q.Bindings {
		if err := declareExchange(ch, b.Exchange); err != nil {
			return err
		}
		if err := ch.QueueBind(q.Name, b.Key, b.Exchange.Name, false, nil); err != nil {
			return fmt.Errorf("bind queue %s to %s: %w", q.Name, b.Exchange.Name, err)
		}
	}
	return nil
}

// prepare declares what a message needs, once per connection; auto-delete
// things each time, as they come and go.
func (s *session) prepare(ctx context.Context, m rpc.Message) error {
	if m.Exchange.Name == "" && m.Queue == nil {
		return nil
	}
	key := "e " + m.Exchange.Name
	fixed := !m.Exchange.AutoDelete
	if m.Queue != nil {
		key = "q " + m.Queue.Name
		fixed = fixed && !m.Queue.AutoDelete && m.Queue.Expires == 0
	}
	known := <-s.known
	stands := known[key]
	s.known <- known
	if stands {
		return nil
	}
	err := s.declare(ctx, func(ch *amqp.Channel) error {
		if err := declareExchange(ch, m.Exchange); err != nil || m.Queue == nil {
			return err
		}
		return declareQueue(ch, *m.Queue)
	})
	if code(err) != 0 {
		return fmt.Errorf("%w: %w", rpc.ErrTopology, err)
	}
	if err == nil && fixed {
		known = <-s.known
		known[key] = true
		s.known <- known
	}
	return err
}

// forget what was declared, since something of it isn't there any more.
func (s *session) forget() {
	<-s.known
	s.known <- map[string]bool{}
}
