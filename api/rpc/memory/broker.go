// Package memory is an [rpc.Transport] without a broker, for tests. It behaves as
// RabbitMQ does, and worse on demand: see [Broker.Inject], [Broker.Restart], [Broker.Stop]
// and [Bus.Disconnect].
package memory

import (
	"slices"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

// Fault is what shall happen to one published message.
type Fault struct {
	Drop      bool          // taken, confirmed and lost
	Duplicate int           // so many copies more
	Delay     time.Duration // before it gets to its queues
	// Lost breaks the publisher's connection before the message is taken, Unconfirmed
	// after it was taken and before this was confirmed.
	Lost        bool
	Unconfirmed bool
}

// Broker holds exchanges and queues.
type Broker struct {
	mu        sync.Mutex
	up        bool
	inject    func(rpc.Message) Fault
	exchanges map[string]*exchange
	queues    map[string]*queue
	buses     []*Bus
}

type exchange struct {
	rpc.Exchange
	bindings []route
}

type route struct{ key, queue string }

type queue struct {
	rpc.Queue
	messages  []*message
	consumers []*consumer // taken in turn
}

type message struct {
	body        []byte
	expires     time.Time
	redelivered bool
}

// NewBroker makes a broker that runs.
func NewBroker() *Broker {
	return &Broker{up: true, exchanges: map[string]*exchange{}, queues: map[string]*queue{}}
}

// Inject asks f about each message published from now on; nil: no more faults.
// f must not call the broker.
func (b *Broker) Inject(f func(rpc.Message) Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inject = f
}

// Stop breaks all connections; what is not durable is lost.
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = false
	for _, bus := range b.buses {
		bus.disconnect()
	}
	for n, q := range b.queues {
		if !q.Durable {
			delete(b.queues, n)
		}
	}
	for n, e := range b.exchanges {
		if !e.Durable {
			delete(b.exchanges, n)
		}
	}
}

// Start lets connections come back.
func (b *Broker) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = true
}

// Restart is Stop and Start.
func (b *Broker) Restart() { b.Stop(); b.Start() }

// Queues lists the names of all queues.
func (b *Broker) Queues() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for n := range b.queues {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Bodies of the messages that wait in a queue.
func (b *Broker) Bodies(name string) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out [][]byte
	if q := b.queues[name]; q != nil {
		for _, m := range q.messages {
			out = append(out, m.body)
		}
	}
	return out
}

// declareExchange fails if it stands with other flags.
func (b *Broker) declareExchange(e rpc.Exchange) error {
	if e.Name == "" {
		return nil
	}
	if old := b.exchanges[e.Name]; old != nil {
		if old.Exchange != e {
			return rpc.ErrTopology
		}
		return nil
	}
	b.exchanges[e.Name] = &exchange{Exchange: e}
	return nil
}

func (b *Broker) declareQueue(q rpc.Queue) error {
	if old := b.queues[q.Name]; old != nil {
		if old.Durable != q.Durable || old.AutoDelete != q.AutoDelete || old.Quorum != q.Quorum || old.Expires != q.Expires {
			return rpc.ErrTopology
		}
	} else {
		b.queues[q.Name] = &queue{Queue: q}
	}
	for _, x := range q.Bindings {
		if err := b.declareExchange(x.Exchange); err != nil {
			return err
		}
		e, r := b.exchanges[x.Exchange.Name], route{x.Key, q.Name}
		if !slices.Contains(e.bindings, r) {
			e.bindings = append(e.bindings, r)
		}
	}
	return nil
}

// routes gives the queues a message goes to.
func (b *Broker) routes(m rpc.Message) []*queue {
	var out []*queue
	if m.Exchange.Name == "" {
		if q := b.queues[m.Key]; q != nil {
			out = append(out, q)
		}
		return out
	}
	e := b.exchanges[m.Exchange.Name]
	if e == nil {
		return nil
	}
	for _, r := range e.bindings {
		if q := b.queues[r.queue]; q != nil && (e.Kind == "fanout" || r.key == m.Key) {
			out = append(out, q)
		}
	}
	return out
}

// enqueue takes a message into its queues.
func (b *Broker) enqueue(qs []*queue, m rpc.Message, f Fault) {
	for _, q := range qs {
		for range 1 + f.Duplicate {
			x := &message{body: slices.Clone(m.Body)}
			if m.Expiration > 0 {
				x.expires = time.Now().Add(m.Expiration)
			}
			q.messages = append(q.messages, x)
		}
		b.dispatch(q)
	}
}

// dispatch hands messages to consumers that have room.
func (b *Broker) dispatch(q *queue) {
	for len(q.messages) > 0 {
		m := q.messages[0]
		if !m.expires.IsZero() && time.Now().After(m.expires) {
			q.messages = q.messages[1:]
			continue
		}
		i := slices.IndexFunc(q.consumers, (*consumer).hasRoom)
		if i < 0 {
			return
		}
		c := q.consumers[i]
		q.consumers = append(slices.Delete(q.consumers, i, i+1), c)
		q.messages = q.messages[1:]
		c.push(m)
	}
}

// leave takes a consumer off its queue; what it had goes back.
func (b *Broker) leave(c *consumer) {
	c.gone = true
	q := c.queue
	q.consumers = slices.DeleteFunc(q.consumers, func(x *consumer) bool { return x == c })
	if b.queues[q.Name] != q {
		return // died with the broker
	}
	for _, m := range c.unacked {
		m.redelivered = true
	}
	q.messages = append(slices.Clone(c.unacked), q.messages...)
	c.unacked = nil
	if q.AutoDelete && len(q.consumers) == 0 {
		b.deleteQueue(q)
		return
	}
	b.dispatch(q)
}

func (b *Broker) deleteQueue(q *queue) {
	delete(b.queues, q.Name)
	for n, e := range b.exchanges {
		had := len(e.bindings)
		e.bindings = slices.DeleteFunc(e.bindings, func(r route) bool { return r.queue == q.Name })
		if e.AutoDelete && had > 0 && len(e.bindings) == 0 {
			delete(b.exchanges, n)
		}
	}
}
