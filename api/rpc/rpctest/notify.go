package rpctest

import (
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
)

func testNotify(l *lab) {
	bus := l.open()
	off, err := rpc.NewNotifier(bus, rpc.NotifierOptions{Topics: []string{l.topic}})
	l.must(err)
	l.must(off.Notify(l.ctx, "nothing", rpc.PriorityInfo, "volume.h", nil))

	on, err := rpc.NewNotifier(bus, rpc.NotifierOptions{Driver: rpc.DriverMessagingV2, Topics: []string{l.topic}})
	l.must(err)
	rc, err := rpc.NewContext(rpc.Identity{UserID: "u1"}).With("auth_token", "sesame")
	l.must(err)
	before := time.Now().Add(-time.Millisecond)
	// Nobody is there yet: they pile up.
	for _, e := range []string{"volume.create.start", "volume.create.end"} {
		l.must(on.Notify(rpc.WithContext(l.ctx, rc), e, rpc.PriorityInfo, "volume.h", map[string]int{"size": 1}))
	}
	bodies := make(chan []byte, 10)
	q := rpc.Queue{Name: l.topic + ".info"}
	consumer, err := bus.Subscribe(rpc.Subscription{Queues: []rpc.Queue{q}, Deliver: func(d rpc.Delivery) {
		bodies <- d.Body
		_ = d.Ack()
	}})
	l.must(err)
	for _, e := range []string{"volume.create.start", "volume.create.end"} {
		body := recv(l, bodies)
		if strings.Contains(string(body), "sesame") {
			l.Fatal("the token is in the notification")
		}
		n, err := rpc.DecodeNotification(body)
		l.must(err)
		if n.EventType != e || n.Priority != "INFO" || n.PublisherID != "volume.h" || string(n.Payload) != `{"size": 1}` ||
			n.Timestamp.Before(before.UTC().Truncate(time.Microsecond)) || n.Context.Identity().UserID != "u1" {
			l.Fatalf("got %+v", n)
		}
	}
	l.must(consumer.Close())
	_, err = rpc.NewNotifier(bus, rpc.NotifierOptions{Driver: "log"})
	if err == nil {
		l.Fatal("an unknown driver was taken")
	}
}
