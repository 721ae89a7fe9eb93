package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/vmthunder/vmthunder/migrations"
)

const runSync = "run vmthunder db sync"

// ErrSchema: the schema is older or newer than this program's.
var ErrSchema = errors.New("wrong database schema")

// Migrate brings the schema to this program's version. Several may run at the same time:
// a lock of the session lets one do the work. Migrations have no statement timeout.
func (s *Store) Migrate(ctx context.Context) error {
	cfg := s.config
	cfg.Runtime = map[string]string{}
	for k, v := range s.config.Runtime {
		if k != "statement_timeout" && k != "idle_in_transaction_session_timeout" {
			cfg.Runtime[k] = v
		}
	}
	db, err := open(cfg, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", translate(ctx, err))
	}
	return nil
}

// Version returns the schema's version, 0 if there is none yet, and this program's.
func (s *Store) Version(ctx context.Context) (current, wanted int64, err error) {
	p, err := goose.NewProvider(goose.DialectPostgres, s.db.DB, migrations.FS, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, fmt.Errorf("migrations: %w", err)
	}
	for _, src := range p.ListSources() {
		wanted = max(wanted, src.Version)
	}
	// Not the provider's own query: that one makes the table.
	err = s.db.GetContext(ctx, &current, "SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied")
	var pe *pq.Error
	if errors.As(err, &pe) && pe.Code == "42P01" {
		return 0, wanted, nil
	}
	return current, wanted, translate(ctx, err)
}

// CheckVersion returns ErrSchema, saying what to run, unless the schema has this program's version.
func (s *Store) CheckVersion(ctx context.Context) error {
	current, wanted, err := s.Version(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read the schema's version: %w", err)
	case current < wanted:
		return fmt.Errorf("%w: version %d, this program needs %d: %s", ErrSchema, current, wanted, runSync)
	case current > wanted:
		return fmt.Errorf("%w: version %d is of a newer release than this program, which knows %d: upgrade this program, then %s", ErrSchema, current, wanted, runSync)
	}
	return nil
}
