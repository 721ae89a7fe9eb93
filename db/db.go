package db

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// Options of [Open]. Zero values mean the defaults named here.
type Options struct {
	ApplicationName  string        // in pg_stat_activity; "vmthunder"
	MaxOpen          int           // connections; 20
	MaxIdle          int           // connections kept while idle; MaxOpen
	MaxLifetime      time.Duration // of a connection; 30 min, so that a moved server is found again
	ConnectTimeout   time.Duration // 5 s
	StatementTimeout time.Duration // of one statement, kept by the server; 30 s
	// ReadTimeout is how long a server that says nothing is waited for;
	// StatementTimeout and 10 s.
	ReadTimeout time.Duration
	// QuotaDefaults are the limits of a project where neither it nor class "default"
	// has one, by resource name, -1 for none. They go over [model.CinderQuotas].
	QuotaDefaults map[string]int64
}

func (o Options) withDefaults() Options {
	def(&o.ApplicationName, "vmthunder")
	def(&o.MaxOpen, 20)
	def(&o.MaxIdle, o.MaxOpen)
	def(&o.MaxLifetime, 30*time.Minute)
	def(&o.ConnectTimeout, 5*time.Second)
	def(&o.StatementTimeout, 30*time.Second)
	def(&o.ReadTimeout, o.StatementTimeout+10*time.Second)
	return o
}

func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	db     *sqlx.DB
	config pq.Config
	opts   Options

	prepared prepared
}

// Open connects to the database that the connection string names and returns
// model.ErrUnavailable if it does not answer. See [Config] for what a connection
// string may be. It does not look at the schema: call [Store.CheckVersion].
func Open(ctx context.Context, connection string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	cfg, err := Config(connection, opts)
	if err != nil {
		return nil, err
	}
	db, err := open(cfg, opts.ReadTimeout)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(opts.MaxOpen)
	db.SetMaxIdleConns(opts.MaxIdle)
	db.SetConnMaxLifetime(opts.MaxLifetime)
	s := &Store{db: sqlx.NewDb(db, "postgres"), config: cfg, opts: opts}
	if err := s.Ping(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return s, nil
}

// open connects lazily; readTimeout 0 lets reads wait as long as it takes.
func open(cfg pq.Config, readTimeout time.Duration) (*sql.DB, error) {
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("database connection: %w", err)
	}
	if readTimeout > 0 {
		connector.Dialer(dialer{limit: readTimeout})
	}
	return sql.OpenDB(connector), nil
}

// Close closes all connections.
func (s *Store) Close() error { return s.db.Close() }

// Ping tells whether the database answers: nil or model.ErrUnavailable.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return translate(ctx, s.db.GetContext(ctx, &one, "SELECT 1"))
}

// Stats of the connection pool.
func (s *Store) Stats() sql.DBStats { return s.db.Stats() }
