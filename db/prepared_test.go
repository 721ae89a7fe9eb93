package db_test

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
)

// Behind a pooler whose sessions change under us prepared statements are not there. All
// goes on without them.
func TestStatementsThatAreNotKept(t *testing.T) {
	for _, inTransaction := range []bool{false, true} {
		w := &world{Store: dbtest.New(t, db.Options{MaxOpen: 1}), t: t, ctx: t.Context()}
		id := w.active("h1", 4096)
		v := w.create(image(id), counted(1)...)[0]
		w.volume(v.ID)
		if n := w.count("SELECT count(*) FROM pg_prepared_statements"); n < 5 {
			t.Fatalf("%d statements are prepared, and this test is to take them away", n)
		}
		w.must(w.ExecRaw(w.ctx, "DEALLOCATE ALL"))
		if inTransaction {
			w.create(image(id), counted(1)...)
		} else if got := w.volume(v.ID); got.ID != v.ID {
			t.Errorf("volume %+v", got)
		}
		w.volume(v.ID)
		w.create(image(id), counted(1)...)
		if n := w.count("SELECT count(*) FROM pg_prepared_statements"); n != 0 {
			t.Errorf("%d statements are prepared again", n)
		}
	}
}

// However many want to prepare at once, none waits for a connection that another holds.
func TestPrepareInAFullPool(t *testing.T) {
	w := newWorld(t, db.Options{MaxOpen: 2, QuotaDefaults: map[string]int64{"volumes": -1, "gigabytes": -1}})
	errs := make(chan error)
	for range 16 {
		go func() {
			_, err := w.CreateVolumes(w.ctx, counted(1), nil)
			errs <- err
		}()
	}
	for range 16 {
		w.must(<-errs)
	}
}

// wire carries bytes between a store and its server and counts what the server has
// finished: it says ReadyForQuery after each statement (PostgreSQL manual, 55.2.3).
type wire struct{ ready atomic.Int64 }

func (c *wire) listen(t *testing.T, connection string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	u, err := url.Parse(connection)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { pipe(backend, client, nil); _ = backend.Close() }()
			go func() { pipe(client, backend, &c.ready); _ = client.Close() }()
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

// pipe copies; an answer ends with the five bytes of ReadyForQuery and the status.
func pipe(to, from net.Conn, ready *atomic.Int64) {
	buf := make([]byte, 1<<20)
	for {
		n, err := from.Read(buf)
		if ready != nil && n >= 6 && bytes.Equal(buf[n-6:n-1], []byte{'Z', 0, 0, 0, 5}) {
			ready.Add(1)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// What the requests that come most often cost in round trips to the database.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	var c wire
	ctx := context.Background()
	store, err := db.Open(ctx, c.listen(t, dbtest.Database(t)), db.Options{MaxOpen: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w := &world{Store: store, t: t, ctx: ctx}
	id := w.active("h1", 4096)
	var v model.Volume
	for _, x := range []struct {
		name string
		most int64
		do   func()
	}{
		{"create from an active image", 6, func() { v = w.create(image(id), counted(1)...)[0] }}, // begin, lock, quota, image, insert, commit
		{"create a blank one", 5, func() { w.create(nil, counted(1)...) }},
		{"create 100", 6, func() {
			vs := make([]model.Volume, 100)
			for i := range vs {
				vs[i] = vol(1)
				vs[i].ConsumesQuota = i == 0
			}
			w.create(image(id), vs...)
		}},
		{"show", 1, func() { w.volume(v.ID) }},
		{"list", 2, func() { // volumes, attachments
			_, err := w.ListVolumes(ctx, model.ListQuery{ProjectID: "p1", Limit: 100, Detail: true})
			w.must(err)
		}},
		{"list after a marker", 3, func() {
			_, err := w.ListVolumes(ctx, model.ListQuery{ProjectID: "p1", Limit: 100, Detail: true, Marker: &v.ID})
			w.must(err)
		}},
		{"type by name", 1, func() { _, _ = w.TypeByName(ctx, uuid.NewString(), "") }},
	} {
		x.do() // prepares
		before := c.ready.Load()
		x.do()
		if n := c.ready.Load() - before; n > x.most || n < 1 {
			t.Errorf("%s: %d round trips, at most %d are needed", x.name, n, x.most)
		}
	}
}
