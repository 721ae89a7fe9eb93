// Package dbtest gives tests real databases: a PostgreSQL server of the test binary's own
// in a temporary folder, and on it a fresh database with the schema for every test.
//
//	func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		store := dbtest.New(t)
//
// The server is started when the first test asks for it. A test run as root starts it as
// user postgres, since PostgreSQL refuses to run as root.
package dbtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db"
)

// shared is the server of this test binary, from Main to its end.
var shared struct { //nolint:gochecknoglobals // one per process is what it is for
	sync.Mutex
	active bool
	server *Server
	err    error
}

// Main runs the tests and stops the server, if one was started. It returns the exit code.
func Main(m *testing.M) int {
	shared.active = true
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.close(); err != nil {
			fmt.Fprintln(os.Stderr, "dbtest:", err)
			return max(code, 1)
		}
	}
	return code
}

// New returns a store on a fresh database, which is dropped at the test's end.
func New(tb testing.TB, opts ...db.Options) *db.Store {
	tb.Helper()
	return theServer(tb).New(tb, opts...)
}

// Database returns the connection string of a fresh database with the schema, for tests
// of programs that open it themselves.
func Database(tb testing.TB) string {
	tb.Helper()
	return theServer(tb).Database(tb)
}

func theServer(tb testing.TB) *Server {
	tb.Helper()
	if !shared.active {
		tb.Fatal("dbtest: the package's TestMain must be: func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }")
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start()
	}
	if shared.err != nil {
		tb.Fatalf("dbtest: %v", shared.err)
	}
	return shared.server
}

// NewServer starts a server of the test's own, which it may stop and start.
func NewServer(tb testing.TB) *Server {
	tb.Helper()
	s, err := start()
	if err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Errorf("dbtest: %v", err)
		}
	})
	return s
}

// template is the database that has the schema; others are copies of it.
const template = "vmthunder_template"

// numbers names databases.
var numbers atomic.Int64 //nolint:gochecknoglobals // a counter

// Database makes a fresh database and returns its connection string.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("test_%d", numbers.Add(1))
	if err := s.admin(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	tb.Cleanup(func() {
		if !s.running() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.admin(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("dbtest: %v", err)
		}
	})
	return s.URL(name)
}

// New returns a store on a fresh database, which is dropped at the test's end.
func (s *Server) New(tb testing.TB, opts ...db.Options) *db.Store {
	tb.Helper()
	var o db.Options
	if len(opts) > 0 {
		o = opts[0]
	}
	url := s.Database(tb)
	store, err := db.Open(context.Background(), url, o)
	if err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}
