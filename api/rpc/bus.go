package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Transport carries messages over a broker. It connects by itself, and again
// whenever the connection is lost. All methods may be called at once from many goroutines.
type Transport interface {
	// Publish sends m and waits until the broker has taken it over. When the
	// connection is lost before that, it sends m again over the next one, until ctx
	// ends, unless m.Once. It returns the generation of the connection that took m.
	// Errors wrap ErrNoConsumer, ErrTopology, ErrRefused, ErrConnectionLost (m.Once
	// only), ErrClosed or the context's.
	Publish(ctx context.Context, m Message) (generation uint64, err error)
	// Subscribe declares s's queues and consumes from them, in the background and
	// again after every loss of the connection, until the Consumer is closed.
	Subscribe(s Subscription) (Consumer, error)
	// Consumers counts who listens on a queue now; 0 if there is no such queue.
	Consumers(ctx context.Context, queue string) (int, error)
	// State of the connection.
	State() State
	// Close ends the connection and all that uses it.
	Close() error
}

// State of a [Transport]'s connection.
type State struct {
	Connected bool
	// Generation counts the connections made so far; 0: none yet.
	Generation uint64
	Since      time.Time // of the last change
	Blocked    string    // why the broker takes no messages now; empty: it does
	Err        error     // why it is not connected; nil: it is
	// Changed is closed when this State is out of date.
	Changed <-chan struct{}
}

// Consumer is a running subscription.
type Consumer interface {
	// Ready waits until the queues are declared and consumed from on the current
	// connection. While it fails, it is tried again; the last error comes along
	// with the context's.
	Ready(ctx context.Context) error
	// Stop ends deliveries; those under way can still be acknowledged.
	Stop(ctx context.Context) error
	// Close ends the subscription; what was not acknowledged goes back to its queue.
	Close() error
}

// Exchange to be declared. Name "" is the default exchange, which always stands.
type Exchange struct {
	Name       string
	Kind       string // topic, fanout
	Durable    bool
	AutoDelete bool
}

// Queue to be declared, with its bindings.
type Queue struct {
	Name       string
	Durable    bool
	AutoDelete bool
	Quorum     bool
	Expires    time.Duration // unused for so long, it goes; 0: never
	Bindings   []Binding
}

// Binding of a queue to an exchange.
type Binding struct {
	Exchange Exchange
	Key      string
}

// Message to publish. Properties are those of oslo.messaging: JSON in UTF-8,
// delivery mode 2.
type Message struct {
	Exchange Exchange // declared first, unless it is the default one
	Key      string
	Queue    *Queue // declared first; nil: none
	Body     []byte
	// Mandatory: fail with ErrNoConsumer when no queue takes it.
	Mandatory bool
	// Expiration, in whole ms; then the broker drops it if nobody took it. 0: never.
	Expiration time.Duration
	// Once: when the connection breaks before the broker has confirmed, fail with
	// ErrConnectionLost and do not send again.
	Once bool
}

// Subscription to queues.
type Subscription struct {
	Queues []Queue
	// Prefetch is how many deliveries of each queue may be unacknowledged; 0: any.
	Prefetch int
	// Deliver is called for one delivery after another; blocking holds up the rest.
	Deliver func(Delivery)
}

// Delivery is a message received. Ack or Requeue must be called once, from any
// goroutine; they fail when the connection it came over is gone, and then the
// broker delivers it again.
type Delivery struct {
	Body        []byte
	Redelivered bool
	Ack         func() error
	Requeue     func() error
}

// Flags of queues and exchanges that must be the same in all programs that
// use them (section oslo_messaging_rabbit of the other services).
type Flags struct {
	Durable    bool // amqp_durable_queues
	AutoDelete bool // amqp_auto_delete
	Quorum     bool // rabbit_quorum_queue
}

// DefaultExchange is oslo.messaging's control_exchange where a service sets none.
const DefaultExchange = "openstack"

// queueExpiry is oslo's rabbit_transient_queues_ttl.
const queueExpiry = 30 * time.Minute

func (f Flags) controlExchange(name string) Exchange {
	if name == "" {
		name = DefaultExchange
	}
	return Exchange{Name: name, Kind: "topic", Durable: f.Durable || f.Quorum, AutoDelete: f.AutoDelete}
}

// topicQueue is a queue bound to the control exchange by its own name.
func (f Flags) topicQueue(exchange, name string) Queue {
	return Queue{
		Name: name, Durable: f.Durable || f.Quorum, AutoDelete: f.AutoDelete, Quorum: f.Quorum,
		Bindings: []Binding{{Exchange: f.controlExchange(exchange), Key: name}},
	}
}

func fanoutExchange(topic string) Exchange {
	return Exchange{Name: topic + "_fanout", Kind: "fanout", AutoDelete: true}
}

func fanoutQueue(topic string) Queue {
	return Queue{
		Name: topic + "_fanout_" + newID(), Expires: queueExpiry,
		Bindings: []Binding{{Exchange: fanoutExchange(topic), Key: topic}},
	}
}

// newID gives 32 hex digits, as Python's uuid4().hex.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}
