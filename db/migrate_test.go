package db_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/migrations"
)

func TestCheckVersion(t *testing.T) {
	w := newWorld(t)
	w.must(w.CheckVersion(w.ctx))

	w.must(w.ExecRaw(w.ctx, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)"))
	wrongSchema(t, w.CheckVersion(w.ctx), "newer release")

	w.must(w.ExecRaw(w.ctx, "DROP TABLE goose_db_version"))
	wrongSchema(t, w.CheckVersion(w.ctx), "version 0, this program needs")
	var there bool
	w.must(w.GetRaw(w.ctx, &there, "SELECT to_regclass('goose_db_version') IS NOT NULL"))
	if there {
		t.Error("looking at the version has made the table")
	}
}

func wrongSchema(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, db.ErrSchema) || !strings.Contains(err.Error(), "run vmthunder db sync") || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want ErrSchema with %q", err, words)
	}
}

// Several replicas that start at the same time bring the schema up once.
func TestMigrateTogether(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "DROP SCHEMA public CASCADE"))
	w.must(w.ExecRaw(w.ctx, "CREATE SCHEMA public"))
	var g errgroup.Group
	for range 3 {
		g.Go(func() error { return w.Migrate(w.ctx) })
	}
	w.must(g.Wait())
	if n := w.count("SELECT count(*) FROM goose_db_version WHERE version_id = 1"); n != 1 {
		t.Errorf("the first migration was applied %d times", n)
	}
	w.must(w.CheckVersion(w.ctx))
}

// The way back leaves nothing, and the way up works again after.
func TestDown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cfg, err := db.Config(dbtest.Database(t), db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn := sql.OpenDB(connector)
	defer conn.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		t.Fatal(err)
	}
	var left int
	err = conn.QueryRowContext(ctx, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'goose%'").Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d left, %v", left, err)
	}
	if _, err := p.Up(ctx); err != nil {
		t.Error(err)
	}
}

func TestWrongTablesSaySo(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "DROP TABLE messages"))
	_, err := w.Messages(w.ctx, model.ListQuery{})
	if err == nil || !strings.Contains(err.Error(), "run vmthunder db sync") {
		t.Errorf("got %v", err)
	}
}

// The store says unavailable while the server is away, and works again after, by itself.
func TestServerAway(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := dbtest.NewServer(t)
	store := server.New(t)
	if _, err := store.CreateType(ctx, model.VolumeType{Name: "default"}); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"ping": func() error { return store.Ping(ctx) },
		"read": func() error { _, err := store.Nodes(ctx); return err },
		"write": func() error {
			_, err := store.CreateVolumes(ctx, []model.Volume{vol(1)}, nil)
			return err
		},
		"report": func() error { _, err := store.SaveObserved(ctx, report("h1")); return err },
		"open":   func() error { _, err := db.Open(ctx, server.URL("postgres"), db.Options{}); return err },
	} {
		if err := do(); !errors.Is(err, model.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	// Broken in the middle of a transaction.
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	err := store.Tx(ctx, func(tx *db.Tx) error {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		_, err := tx.Nodes()
		return err
	})
	if !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("in a transaction: %v, want ErrUnavailable", err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if ts, err := store.Types(ctx, model.ListQuery{}, nil); err != nil || len(ts) != 2 {
		t.Errorf("after the server is back: %v, %v", ts, err)
	}
	if _, err := db.Open(ctx, server.SocketURL("postgres"), db.Options{}); err != nil {
		t.Errorf("over the socket: %v", err)
	}
}
