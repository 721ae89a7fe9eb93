package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
)

// pgWire passes connections on to a Postgres and counts what clients ask of it.
type pgWire struct {
	statements atomic.Int64 // Query and Execute messages

	listener net.Listener
	dir      string
	to       string // the server's socket
	mu       sync.Mutex
	open     map[net.Conn]bool
	running  sync.WaitGroup
}

var (
	dsnHost = regexp.MustCompile(`\bhost=(\S+)`)
	dsnPort = regexp.MustCompile(`\bport=(\d+)`)
)

// newPGWire stands before the server whose socket a connection string names, and returns
// the connection string to use instead.
func newPGWire(dsn string) (*pgWire, string, error) {
	host, port := dsnHost.FindStringSubmatch(dsn), dsnPort.FindStringSubmatch(dsn)
	if host == nil || port == nil {
		return nil, "", errors.New("the connection string names no socket")
	}
	dir, err := os.MkdirTemp("", "vmthunder-wire-")
	if err != nil {
		return nil, "", err
	}
	name := ".s.PGSQL." + port[1]
	w := &pgWire{dir: dir, to: filepath.Join(host[1], name), open: map[net.Conn]bool{}}
	if w.listener, err = net.Listen("unix", filepath.Join(dir, name)); err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	w.running.Go(w.accept)
	return w, dsnHost.ReplaceAllString(dsn, "host="+dir), nil
}

func (w *pgWire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.running.Go(func() { w.pass(c) })
	}
}

func (w *pgWire) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("unix", w.to)
	if err != nil {
		return // the client sees its connection end
	}
	defer s.Close()
	if !w.keep(c, s) {
		return
	}
	w.running.Go(func() {
		_, _ = io.Copy(c, s)
		_ = c.Close()
	})
	_, _ = io.Copy(s, io.TeeReader(c, &pgMessages{see: func(kind byte) {
		if kind == 'Q' || kind == 'E' {
			w.statements.Add(1)
		}
	}}))
}

func (w *pgWire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.open == nil {
			return false
		}
		w.open[c] = true
	}
	return true
}

// Close ends all connections.
func (w *pgWire) Close() error {
	err := w.listener.Close()
	w.mu.Lock()
	for c := range w.open {
		_ = c.Close()
	}
	w.open = nil
	w.mu.Unlock()
	w.running.Wait()
	return errors.Join(err, os.RemoveAll(w.dir))
}

// pgMessages tells the kinds of the messages in what a client sends, which comes in
// pieces: the first message has a length only, the others a kind before it (PostgreSQL
// manual, 55.7 Message Formats).
type pgMessages struct {
	see     func(kind byte)
	started bool
	head    []byte // of the message that begins
	skip    int    // bytes of its body to come
}

func (m *pgMessages) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if m.skip > 0 {
			k := min(m.skip, len(b))
			m.skip -= k
			b = b[k:]
			continue
		}
		want := 5
		if !m.started {
			want = 4
		}
		k := min(want-len(m.head), len(b))
		m.head, b = append(m.head, b[:k]...), b[k:]
		if len(m.head) < want {
			break
		}
		length := m.head[want-4:]
		m.skip = (int(length[0])<<24 | int(length[1])<<16 | int(length[2])<<8 | int(length[3])) - 4
		if m.skip < 0 {
			return 0, fmt.Errorf("a message of %d bytes", m.skip+4)
		}
		if m.started {
			m.see(m.head[0])
		}
		m.started, m.head = true, m.head[:0]
	}
	return n, nil
}
