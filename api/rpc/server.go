package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// ServerOptions of a [Server]. Topic and Server are required.
type ServerOptions struct {
	Exchange string // control_exchange; empty: DefaultExchange
	Topic    string // served by all servers of the topic in turn
	Server   string // this one's name
	Flags    Flags
	// Concurrency is how many requests run at once; also how many each queue may
	// hand out in advance, so that a slow server does not hoard. 0: 16.
	Concurrency int
	Errors      ErrorTable
	// DrainTime is how long requests under way may go on after the end was asked
	// for, before their context is cancelled. 0: 30 s.
	DrainTime time.Duration
	// Remember is how many executed requests are known again (0: 1024), and
	// RememberBytes how large all their replies may be (0: 16 MiB).
	Remember      int
	RememberBytes int
	// ReplyRetry is how long a reply whose queue is missing is tried again; the
	// caller may be about to declare it anew after a restart of the broker. 0: 60 s,
	// oslo's kombu_missing_consumer_retry_timeout.
	ReplyRetry time.Duration
	// Log takes what no caller is told: malformed requests, errors of casts, panics.
	// Nil: nothing is logged.
	Log *logrus.Entry
}

// Server executes requests for a topic.
type Server struct {
	bus       Transport
	opts      ServerOptions
	errors    ErrorTable
	endpoints []Endpoint
	memory    *memory
	slots     chan struct{}
	gone      goneQueues
	work      sync.WaitGroup
	consumer  chan Consumer // holds it once Run has subscribed
	//nolint:containedctx // one per Run; deliveries come without a context
	base context.Context
	stop chan struct{} // closed when no more requests may start

	mu   sync.Mutex
	late []Delivery
}

// NewServer makes a server; [Server.Run] starts it.
func NewServer(bus Transport, o ServerOptions, endpoints ...Endpoint) *Server {
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	if o.DrainTime <= 0 {
		o.DrainTime = 30 * time.Second
	}
	if o.Remember <= 0 {
		o.Remember = 1024
	}
	if o.RememberBytes <= 0 {
		o.RememberBytes = 16 << 20
	}
	if o.ReplyRetry <= 0 {
		o.ReplyRetry = time.Minute
	}
	return &Server{
		bus: bus, opts: o, errors: o.Errors.withBuiltin(), endpoints: endpoints,
		memory:   newMemory(o.Remember, o.RememberBytes),
		slots:    make(chan struct{}, o.Concurrency),
		gone:     goneQueues{seen: map[string]time.Time{}},
		consumer: make(chan Consumer, 1),
		stop:     make(chan struct{}),
	}
}

// Run serves until ctx ends, then takes no more requests, lets those under way
// finish within DrainTime, and returns nil; or the error that kept it from starting.
// It can run once.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.base = base
	f, o := s.opts.Flags, s.opts
	consumer, err := s.bus.Subscribe(Subscription{
		Queues: []Queue{
			f.topicQueue(o.Exchange, o.Topic),
			f.topicQueue(o.Exchange, o.Topic+"."+o.Server),
			fanoutQueue(o.Topic),
		},
		Prefetch: o.Concurrency,
		Deliver:  s.deliver,
	})
	if err != nil {
		return fmt.Errorf("serve %s: %w", o.Topic, err)
	}
	s.consumer <- consumer
	<-ctx.Done()

	end, done := context.WithTimeout(base, o.DrainTime)
	defer done()
	close(s.stop) // releases a delivery that waits for a slot
	err = consumer.Stop(end)
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrNotConnected) {
		err = nil // there is nothing to stop then
	}
	for _, d := range s.returns() {
		_ = d.Requeue()
	}
	finished := make(chan struct{})
	go func() { s.work.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-end.Done():
		cancel()
		err = errors.Join(err, fmt.Errorf("serve %s: requests still under way after %s were cancelled", o.Topic, o.DrainTime))
	}
	return errors.Join(err, consumer.Close())
}

// Ready waits until the server can be reached.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case c := <-s.consumer:
		s.consumer <- c
		return c.Ready(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deliver is called for one delivery after the other.
func (s *Server) deliver(d Delivery) {
	r, err := DecodeRequest(d.Body)
	if err != nil {
		s.log(Request{}).WithError(err).Warn("request dropped")
		_ = d.Ack()
		return
	}
	select {
	case <-s.stop:
		s.giveBack(d)
		return
	default:
	}
	e, v := s.memory.begin(r.UniqueID, d)
	switch v {
	case joined:
		return
	case answered:
		s.work.Go(func() {
			if s.reply(e.replyQ, e.reply) {
				_ = d.Ack()
			}
		})
		return
	case fresh:
	}
	quiet := s.heartbeats(r)
	select {
	case s.slots <- struct{}{}:
	case <-s.stop:
		quiet()
		s.giveBack(s.memory.forget(e)...)
		return
	}
	s.work.Go(func() { s.execute(r, e, quiet) })
}

// giveBack keeps deliveries that came after the end was asked for. They go back once
// nothing is consumed any more, or they would return to us.
func (s *Server) giveBack(ds ...Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, ds...)
}

func (s *Server) returns() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

func (s *Server) execute(r Request, e *seen, quiet func()) {
	var result any
	m, err := find(s.endpoints, r)
	if err == nil {
		result, err = invoke(s.base, m, r)
	}
	<-s.slots
	quiet()
	if s.base.Err() != nil && err != nil {
		// Cancelled by the end of the server, not finished: it stays unacknowledged,
		// so another one will do it.
		s.memory.forget(e)
		return
	}
	var reply []byte
	if r.MsgID != "" {
		reply = s.encodeReply(r, result, err)
	}
	s.report(r, err)
	s.memory.finish(e, reply, r.ReplyQ)
	if !s.reply(r.ReplyQ, reply) {
		return
	}
	for _, d := range s.memory.take(e) {
		_ = d.Ack() // the connection is gone: it comes again and is known
	}
}

func (s *Server) encodeReply(r Request, result any, err error) []byte {
	p := Reply{Ending: true, MsgID: r.MsgID, UniqueID: newID()}
	if err == nil {
		p.Result, err = marshal(result)
	}
	if err != nil {
		f := s.errors.failure(err)
		p.Result, p.Failure = nil, &f
	}
	body, err := p.Encode()
	if err != nil { // not reached: all members are encoded already
		f := s.errors.failure(err)
		body, _ = Reply{Ending: true, MsgID: r.MsgID, UniqueID: newID(), Failure: &f}.Encode()
	}
	return body
}

// reply sends a reply, and again while its queue is missing. It reports false if
// the request must not be acknowledged, since its reply was not taken.
func (s *Server) reply(queue string, body []byte) bool {
	if body == nil {
		return true
	}
	until := time.Now().Add(s.opts.ReplyRetry)
	for {
		_, err := s.bus.Publish(s.base, Message{Key: queue, Body: body, Mandatory: true})
		switch {
		case err == nil:
			s.gone.back(queue)
			return true
		case errors.Is(err, ErrNoConsumer):
			// A caller that is gone must not cost a minute for each of its requests.
			if s.gone.is(queue) || time.Now().After(until) {
				s.gone.add(queue)
				s.log(Request{}).WithField("reply_q", queue).Warn("reply dropped: its queue is gone")
				return true
			}
		default:
			s.log(Request{}).WithError(err).WithField("reply_q", queue).Error("reply not sent")
			return errors.Is(err, ErrRefused) // will not be taken another time either
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-s.base.Done():
			return false
		}
	}
}

// heartbeats tells the caller every half of its _timeout that we are at it, until
// the function it returns is called.
func (s *Server) heartbeats(r Request) (stop func()) {
	if r.MsgID == "" || r.Timeout == nil || *r.Timeout <= 0 {
		return func() {}
	}
	every := max(time.Duration(*r.Timeout/2*float64(time.Second)), 50*time.Millisecond)
	ctx, cancel := context.WithCancel(s.base)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			body, err := Reply{MsgID: r.MsgID, UniqueID: newID()}.Encode()
			if err != nil {
				return
			}
			// One that can't be sent in time is of no use later.
			one, end := context.WithTimeout(ctx, every)
			_, _ = s.bus.Publish(one, Message{Key: r.ReplyQ, Body: body, Once: true})
			end()
		}
	})
	return func() { cancel(); wg.Wait() }
}

// report logs what the caller is not told.
func (s *Server) report(r Request, err error) {
	if err == nil {
		return
	}
	l := s.log(r).WithError(err)
	if p, ok := errors.AsType[*panicError](err); ok {
		l.WithField("stack", string(p.stack)).Error("method panicked")
	} else if r.MsgID == "" {
		l.Error("cast failed")
	}
}

func (s *Server) log(r Request) *logrus.Entry {
	if s.opts.Log == nil {
		l := logrus.New()
		l.SetLevel(logrus.PanicLevel)
		return l.WithField("topic", s.opts.Topic)
	}
	l := s.opts.Log.WithField("topic", s.opts.Topic)
	if r.Method != "" {
		l = l.WithFields(logrus.Fields{"method": r.Method, "request_id": r.Context.Identity().RequestID})
	}
	return l
}

// goneQueues remembers reply queues that do not come back, for a minute, as
// oslo's ObsoleteReplyQueuesCache.
type goneQueues struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const (
	goneMax = 200
	goneTTL = time.Minute
)

func (g *goneQueues) is(q string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.seen[q]
	return ok && time.Since(t) < goneTTL
}

func (g *goneQueues) add(q string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, t := range g.seen {
		if len(g.seen) >= goneMax || time.Since(t) >= goneTTL {
			delete(g.seen, k)
		}
	}
	g.seen[q] = time.Now()
}

func (g *goneQueues) back(q string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.seen, q)
}
