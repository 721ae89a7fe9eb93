package db

import (
	"context"
	"net"
	"time"
)

// dialer makes connections on which no read waits for ever. lib/pq reads without a
// deadline, also on the connection by which it cancels a query whose context has
// ended, so a server that is frozen rather than gone (a stopped process, a hung disk, a
// cut link) would hold its caller until TCP gives up.
type dialer struct {
	net.Dialer
	limit time.Duration // of one read
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return limited{c, d.limit}, nil
}

type limited struct {
	net.Conn
	limit time.Duration
}

func (c limited) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}
