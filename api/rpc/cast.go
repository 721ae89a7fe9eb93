package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Cast sends a request and waits only until the broker has it. If t names a
// server that was never there it returns [ErrNoConsumer]; one that is away for a while
// gets the request when it is back.
func (c *Client) Cast(ctx context.Context, t Target, method string, args any) error {
	return c.cast(ctx, t, method, args, Message{
		Exchange: c.opts.Flags.controlExchange(c.opts.Exchange), Key: t.key(), Mandatory: true,
	})
}

// Fanout sends a request to all servers of a topic there are just now; t.Server
// does not matter. That there is none is no error.
func (c *Client) Fanout(ctx context.Context, t Target, method string, args any) error {
	return c.cast(ctx, t, method, args, Message{Exchange: fanoutExchange(t.Topic)})
}

func (c *Client) cast(ctx context.Context, t Target, method string, args any, m Message) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	r, err := c.request(ctx, t, method, args)
	if err == nil {
		m.Body, err = r.Encode()
	}
	for err == nil {
		_, err = c.bus.Publish(ctx, m)
		if !errors.Is(err, ErrNoConsumer) || !c.inGrace() {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
			err = nil
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("cast %s to %s: %w", method, t.key(), timeout(err))
	}
	return nil
}

func (c *Client) request(ctx context.Context, t Target, method string, args any) (Request, error) {
	select {
	case <-c.closed:
		return Request{}, ErrClosed
	default:
	}
	r := Request{
		Method: method, Namespace: t.Namespace, Version: t.Version,
		UniqueID: newID(), Context: ContextFrom(ctx),
	}
	if !c.opts.SendToken {
		r.Context = r.Context.WithoutToken()
	}
	if args != nil {
		var err error
		if r.Args, err = marshal(args); err != nil {
			return Request{}, fmt.Errorf("arguments: %w", err)
		}
		if !isNull(r.Args) && r.Args[0] != '{' {
			return Request{}, fmt.Errorf("%w: arguments must be a JSON object", ErrInvalidArguments)
		}
	}
	return r, nil
}
