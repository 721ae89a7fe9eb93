package rpc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Priorities of notifications.
const (
	PriorityInfo  = "INFO"
	PriorityWarn  = "WARN"
	PriorityError = "ERROR"
)

// Drivers of notifications, as in section oslo_messaging_notifications.
const (
	DriverNone        = "noop"        // nothing is sent; "" too
	DriverMessagingV2 = "messagingv2" // with envelope
	DriverMessaging   = "messaging"   // bare
)

// NotifierOptions of a [Notifier].
type NotifierOptions struct {
	Driver   string
	Exchange string   // control_exchange; empty: DefaultExchange
	Topics   []string // empty: "notifications"
	Flags    Flags
	Timeout  time.Duration // for a context without deadline; 0: 30 s
}

// Notifier tells the other services what happened.
type Notifier struct {
	bus  Transport
	opts NotifierOptions
}

// NewNotifier makes a notifier; bus is not used if the driver is none.
func NewNotifier(bus Transport, o NotifierOptions) (*Notifier, error) {
	switch o.Driver {
	case "", DriverNone, DriverMessaging, DriverMessagingV2:
	default:
		return nil, fmt.Errorf("notifications: unknown driver %q", o.Driver)
	}
	if len(o.Topics) == 0 {
		o.Topics = []string{"notifications"}
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return &Notifier{bus, o}, nil
}

// Notify publishes an event to <topic>.<priority>, a queue it declares itself, so that
// events pile up there until somebody wants them. publisher is <service>.<host>. The
// context set by [WithContext] goes along, without its token.
func (n *Notifier) Notify(ctx context.Context, eventType, priority, publisher string, payload any) error {
	if n.opts.Driver == "" || n.opts.Driver == DriverNone {
		return nil
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.opts.Timeout)
		defer cancel()
	}
	raw, err := marshal(payload)
	if err != nil {
		return fmt.Errorf("notify %s: payload: %w", eventType, err)
	}
	body, err := Notification{
		MessageID: uuid.NewString(), PublisherID: publisher, EventType: eventType,
		Priority: strings.ToUpper(priority), Payload: raw, Timestamp: time.Now(), UniqueID: newID(),
		Context: ContextFrom(ctx),
	}.Encode()
	if err == nil && n.opts.Driver == DriverMessaging {
		body, err = Unwrap(body)
	}
	if err != nil {
		return fmt.Errorf("notify %s: %w", eventType, err)
	}
	for _, topic := range n.opts.Topics {
		q := n.opts.Flags.topicQueue(n.opts.Exchange, topic+"."+strings.ToLower(priority))
		_, err := n.bus.Publish(ctx, Message{
			Exchange: q.Bindings[0].Exchange, Key: q.Name, Queue: &q, Body: body,
		})
		if err != nil {
			return fmt.Errorf("notify %s: %w", eventType, timeout(err))
		}
	}
	return nil
}
