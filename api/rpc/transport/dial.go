package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/streadway/amqp"
	"github.com/vmthunder/vmthunder/api/rpc"
)

// liveConn gives up a peer that takes or sends nothing for the timeout, 0: never. The
// library has no write deadline and a read deadline of three heartbeats.
type liveConn struct {
	net.Conn
	timeout time.Duration
}

func (c *liveConn) Write(p []byte) (int, error) {
	if c.timeout > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *liveConn) SetReadDeadline(t time.Time) error {
	if limit := time.Now().Add(c.timeout); c.timeout > 0 && (t.IsZero() || t.After(limit)) {
		t = limit
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *liveConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// session is one connection.
type session struct {
	generation uint64
	conn       *amqp.Connection
	sock       net.Conn
	done       chan struct{} // closed when it is lost
	err        error         // why, after done
	confirm    time.Duration
	blocked    func() bool

	admin  chan *amqp.Channel // holds the channel for declarations, nil if to be opened
	shared chan *publisher    // holds the channel for messages, likewise
	spare  chan *publisher    // others that live
	known  chan map[string]bool

	numbers sync.Mutex // of channels are being given or taken back
}

// dial connects to one broker and logs in.
func dial(ctx context.Context, u URL, h Host, o Options) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", h.Addr())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrNotConnected, err)
	}
	var sock net.Conn = &liveConn{raw, max(o.Heartbeat, 0)}
	deadline, _ := ctx.Deadline()
	if err := sock.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if o.TLS != nil {
		c := o.TLS.Clone()
		if c.ServerName == "" {
			c.ServerName = h.Name
		}
		t := tls.Client(sock, c)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("%w: broker %s: TLS: %w", rpc.ErrNotConnected, h, err)
		}
		sock = t
	}
	beat := time.Duration(0)
	if o.Heartbeat > 0 {
		beat = max(o.Heartbeat/time.Duration(o.HeartbeatRate), time.Second)
	}
	// FrameSize stays 0: the broker's own frame_max is taken.
	conn, err := amqp.Open(sock, amqp.Config{
		SASL: sasl(h), Vhost: u.VHost, Heartbeat: beat, Locale: "en_US",
		Properties: amqp.Table{"product": "vmthunder", "connection_name": o.Name},
	})
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: broker %s: %w", rpc.ErrNotConnected, h, err)
	}
	s := &session{
		conn: conn, sock: raw, done: make(chan struct{}), confirm: o.ConfirmTimeout,
		blocked: func() bool { return false },
		admin:   make(chan *amqp.Channel, 1), shared: make(chan *publisher, 1),
		spare: make(chan *publisher, spares), known: make(chan map[string]bool, 1),
	}
	s.admin <- nil
	s.shared <- nil
	s.known <- map[string]bool{}
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		if e := <-closed; e != nil {
			s.err = fmt.Errorf("%w: broker %s: %w", rpc.ErrConnectionLost, h, e)
		} else {
			s.err = rpc.ErrClosed
		}
		close(s.done)
	}()
	return s, nil
}

const farewell = 2 * time.Second

// close says goodbye, or hangs up if the broker doesn't answer.
func (s *session) close() {
	t := time.AfterFunc(farewell, func() { _ = s.sock.Close() })
	defer t.Stop()
	_ = s.conn.Close()
	<-s.done
}
