package db_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
)

// freezer passes a database's connections on until it is frozen; then it takes new ones
// and says nothing on any, as a stopped server does.
type freezer struct {
	net.Listener
	mu     sync.Mutex
	frozen bool
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if f.isFrozen() {
				continue // left open, without a word
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			go f.copy(s, c)
			go f.copy(c, s)
		}
	}()
	return f
}

func (f *freezer) isFrozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

func (f *freezer) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil || f.isFrozen() {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// A query on a server that has frozen ends, also when its context has ended and the driver
// tries to cancel it on a second connection.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(dbtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	f := newFreezer(t, u.Host)
	u.Host = f.Addr().String()
	store, err := db.Open(context.Background(), u.String(), db.Options{ReadTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	f.mu.Lock()
	f.frozen = true
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- store.Ping(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, model.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the query never returns")
	}
}
