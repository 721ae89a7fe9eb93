package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Target says whom a request is for.
type Target struct {
	Topic string
	// Server is one of the topic's servers; empty: any one.
	Server    string
	Namespace string // mostly empty
	Version   string // "1.0"; empty: none is sent, which means 1.0
}

func (t Target) key() string {
	if t.Server == "" {
		return t.Topic
	}
	return t.Topic + "." + t.Server
}

// ClientOptions of a [Client].
type ClientOptions struct {
	Exchange string // control_exchange; empty: DefaultExchange
	Flags    Flags
	Errors   ErrorTable
	// Timeout of a call whose context has no deadline. 0: 60 s, oslo's rpc_response_timeout.
	Timeout time.Duration
	// SendToken lets the caller's token travel in the context. Our own servers need none.
	SendToken bool
	// Grace: for so long after a reconnect, servers that aren't there yet are waited
	// for, as they have to reconnect too. 0: 10 s.
	Grace time.Duration
}

// Client sends requests. One per process is enough.
type Client struct {
	bus     Transport
	opts    ClientOptions
	errors  ErrorTable
	replyQ  string
	replies Consumer
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	calls map[string]*call // by _msg_id
}

// call is one that waits for its reply.
type call struct {
	reply  chan Reply // takes one
	alive  chan struct{}
	result json.RawMessage // came before the ending
}

// NewClient makes a client and starts to consume from its reply queue.
func NewClient(bus Transport, o ClientOptions) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Second
	}
	c := &Client{
		bus: bus, opts: o, errors: o.Errors.withBuiltin(),
		replyQ: "reply_" + newID(), closed: make(chan struct{}), calls: map[string]*call{},
	}
	var err error
	c.replies, err = bus.Subscribe(Subscription{
		Queues:  []Queue{{Name: c.replyQ, Expires: queueExpiry}},
		Deliver: c.deliver,
	})
	if err != nil {
		return nil, fmt.Errorf("message bus client: %w", err)
	}
	return c, nil
}

// Close ends the client; calls under way return [ErrClosed]. The transport stays.
func (c *Client) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.replies.Close()
}

// Healthy tells why a call could not be sent just now, or nil.
func (c *Client) Healthy() error {
	st := c.bus.State()
	switch {
	case !st.Connected:
		return fmt.Errorf("%w: %w", ErrNotConnected, orUnknown(st.Err))
	case st.Blocked != "":
		return fmt.Errorf("%w: broker is blocked: %s", ErrNotConnected, st.Blocked)
	}
	return nil
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("not tried yet")
	}
	return err
}

// Connected waits until calls can be sent, or ctx ends.
func (c *Client) Connected(ctx context.Context) error {
	if err := c.replies.Ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return nil
}

type contextKey struct{}

// WithContext returns a ctx whose requests carry c.
func WithContext(ctx context.Context, c Context) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// ContextFrom gives the Context that requests made with ctx carry; empty if none was set.
func ContextFrom(ctx context.Context) Context {
	c, _ := ctx.Value(contextKey{}).(Context)
	return c
}

// CallOption changes one call.
type CallOption func(*callOptions)

type callOptions struct {
	once    bool
	monitor time.Duration
}

// Once is for methods that are not idempotent: when the connection breaks in
// mid-flight, the call fails with [ErrConnectionLost] and is not sent again.
func Once() CallOption { return func(o *callOptions) { o.once = true } }

// Monitor asks the server for a sign of life within every d (oslo's
// call_monitor_timeout), so that a call may take long but fails with [ErrTimeout]
// soon after its server died. A server too busy to take the request gives none either.
func Monitor(d time.Duration) CallOption { return func(o *callOptions) { o.monitor = d } }

// Call executes a method and decodes what it returned into result, a pointer, or
// nil if it does not matter. It returns by ctx's deadline, or after the client's
// Timeout. If nobody listens it returns [ErrNoConsumer] at once; errors
// of the method are of type [*RemoteError].
func (c *Client) Call(ctx context.Context, t Target, method string, args, result any, opts ...CallOption) error {
	var o callOptions
	for _, f := range opts {
		f(&o)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	reply, err := c.call(ctx, t, method, args, o)
	if err == nil && reply.Failure != nil {
		err = c.errors.fromFailure(*reply.Failure)
	}
	if err == nil && result != nil {
		if e := json.Unmarshal(reply.Result, result); e != nil {
			err = fmt.Errorf("%w: result: %w", ErrBadMessage, e)
		}
	}
	if err != nil {
		return fmt.Errorf("call %s of %s: %w", method, t.key(), err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, t Target, method string, args any, o callOptions) (Reply, error) {
	r, err := c.request(ctx, t, method, args)
	if err != nil {
		return Reply{}, err
	}
	r.MsgID, r.ReplyQ = newID(), c.replyQ
	if o.monitor > 0 {
		s := o.monitor.Seconds()
		r.Timeout = &s
	}
	body, err := r.Encode()
	if err != nil {
		return Reply{}, err
	}
	w := &call{reply: make(chan Reply, 1), alive: make(chan struct{}, 1)}
	c.mu.Lock()
	c.calls[r.MsgID] = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.calls, r.MsgID)
		c.mu.Unlock()
	}()
	for sent := 0; ; sent++ {
		generation, err := c.send(ctx, t, body, o.once)
		if err != nil {
			select {
			case reply := <-w.reply: // to an earlier transmission
				return reply, nil
			default:
			}
			if sent > 0 && errors.Is(err, ErrNoConsumer) { // but perhaps somebody had it before
				err = fmt.Errorf("%w; the server has not come back", ErrConnectionLost)
			}
			return Reply{}, timeout(err)
		}
		reply, lost, err := c.wait(ctx, w, generation, o.monitor)
		if err != nil || !lost {
			return reply, err
		}
		if o.once {
			return Reply{}, ErrConnectionLost
		}
	}
}

// send publishes a call once the reply queue stands.
func (c *Client) send(ctx context.Context, t Target, body []byte, once bool) (uint64, error) {
	for {
		if err := c.replies.Ready(ctx); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
		generation, err := c.sendOnce(ctx, t, body, once)
		if !errors.Is(err, ErrNoConsumer) || !c.inGrace() {
			return generation, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

func (c *Client) sendOnce(ctx context.Context, t Target, body []byte, once bool) (uint64, error) {
	if t.Server != "" {
		// The queue outlives its server (oslo's queues are not deleted with their last
		// consumer), so that it takes the message tells nothing.
		n, err := c.bus.Consumers(ctx, t.key())
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, ErrNoConsumer
		}
	}
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	if left <= 0 {
		return 0, context.DeadlineExceeded
	}
	return c.bus.Publish(ctx, Message{
		Exchange: c.opts.Flags.controlExchange(c.opts.Exchange), Key: t.key(), Body: body,
		Mandatory: true, Expiration: max(left, time.Millisecond), Once: once,
	})
}

// inGrace tells that we have reconnected just now, and so the others may be about to.
func (c *Client) inGrace() bool {
	st := c.bus.State()
	return !st.Connected || st.Generation > 1 && time.Since(st.Since) < c.opts.Grace
}

// wait for the reply; lost tells that the connection the request went over is gone.
func (c *Client) wait(ctx context.Context, w *call, generation uint64, monitor time.Duration) (r Reply, lost bool, err error) {
	var silence <-chan time.Time
	if monitor > 0 {
		t := time.NewTimer(monitor)
		defer t.Stop()
		silence = t.C
	}
	for {
		st := c.bus.State()
		if st.Generation != generation || !st.Connected {
			select {
			case r = <-w.reply: // came before the loss
				return r, false, nil
			default:
				return Reply{}, true, nil
			}
		}
		select {
		case r = <-w.reply:
			return r, false, nil
		case <-w.alive:
			if monitor > 0 {
				silence = time.After(monitor)
			}
		case <-silence:
			return Reply{}, false, fmt.Errorf("%w: no sign of life within %s", ErrTimeout, monitor)
		case <-st.Changed:
		case <-ctx.Done():
			return Reply{}, false, timeout(ctx.Err())
		case <-c.closed:
			return Reply{}, false, ErrClosed
		}
	}
}

// timeout makes ErrTimeout of a deadline.
func timeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// deliver takes replies.
func (c *Client) deliver(d Delivery) {
	_ = d.Ack() // of no use another time
	r, err := DecodeReply(d.Body)
	if err != nil {
		return // whoever waits for it is told by its deadline
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.calls[r.MsgID]
	if w == nil {
		return // given up, or answered already
	}
	if !r.Ending && r.Failure == nil {
		if !isNull(r.Result) {
			w.result = r.Result
		}
		select {
		case w.alive <- struct{}{}:
		default:
		}
		return
	}
	if isNull(r.Result) && w.result != nil {
		r.Result = w.result
	}
	select {
	case w.reply <- r:
	default:
	}
}
