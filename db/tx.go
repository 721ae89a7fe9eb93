package db

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// attempts of a transaction that deadlocks or does not serialize.
const attempts = 6

// Tx is one short transaction. Its methods are for the function that got it, one at a
// time. Locks are taken in the order the package's documentation names; [Tx.Bump] may
// be called at any time, it takes effect at commit.
type Tx struct {
	ctx    context.Context //nolint:containedctx // lives no longer than the call that brought it
	q      *sqlx.Tx
	store  *Store
	bumps  map[string]bool
	locked map[uuid.UUID]bool // images
}

// Tx runs fn in a transaction and commits if it returns nil. fn is run again, from its
// start, if the transaction deadlocked; it must not have side effects but through t.
func (s *Store) Tx(ctx context.Context, fn func(t *Tx) error) error {
	return s.tx(ctx, nil, fn)
}

func (s *Store) tx(ctx context.Context, opts *sql.TxOptions, fn func(t *Tx) error) error {
	for try := 1; ; try++ {
		err := s.once(ctx, opts, fn)
		if err == nil || !again(err) && !s.prepared.unkept(err) || try == attempts {
			return err
		}
		// The others are on their way out; come back at different times.
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(5*time.Millisecond) << try))) //nolint:gosec // spreads load, hides nothing
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func (s *Store) once(ctx context.Context, opts *sql.TxOptions, fn func(t *Tx) error) error {
	q, err := s.db.BeginTxx(ctx, opts)
	if err != nil {
		return translate(ctx, err)
	}
	defer func() { _ = q.Rollback() }() // does nothing after Commit; also when fn panics
	t := &Tx{ctx: ctx, q: q, store: s, bumps: map[string]bool{}, locked: map[uuid.UUID]bool{}}
	if err := fn(t); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	return translate(ctx, q.Commit())
}

// Bump makes the generation of these hosts grow by one, so that they get a new
// document. Unknown hosts and "" are passed over.
func (t *Tx) Bump(hosts ...string) error {
	for _, h := range hosts {
		if h != "" {
			t.bumps[h] = true
		}
	}
	return nil
}

func (t *Tx) flush() error {
	if len(t.bumps) == 0 {
		return nil
	}
	hosts := make([]string, 0, len(t.bumps))
	for h := range t.bumps {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	// The subselect takes the locks in order; an UPDATE alone would not promise one.
	err := t.exec(`UPDATE nodes SET generation = generation + 1, updated_at = now() FROM (
		SELECT host FROM nodes WHERE host = ANY($1) ORDER BY host FOR NO KEY UPDATE) AS l
		WHERE nodes.host = l.host`, pq.Array(hosts))
	if err != nil {
		return fmt.Errorf("new generations: %w", err)
	}
	return nil
}

// Small words for the statements of this package.

func (t *Tx) exec(query string, args ...any) error {
	_, err := t.q.ExecContext(t.ctx, query, args...)
	return translate(t.ctx, err)
}

// affected runs a statement and returns how many rows it changed.
func (t *Tx) affected(query string, args ...any) (int64, error) {
	res, err := t.q.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, translate(t.ctx, err)
	}
	return res.RowsAffected()
}

func (t *Tx) get(dst any, query string, args ...any) error {
	return translate(t.ctx, t.q.GetContext(t.ctx, dst, query, args...))
}

func (t *Tx) list(dst any, query string, args ...any) error {
	return translate(t.ctx, t.q.SelectContext(t.ctx, dst, query, args...))
}

func (t *Tx) move(c change) ([]string, error) { return move(t.ctx, t.q, c) }

func (s *Store) get(ctx context.Context, dst any, query string, args ...any) error {
	return translate(ctx, s.db.GetContext(ctx, dst, query, args...))
}

func (s *Store) list(ctx context.Context, dst any, query string, args ...any) error {
	return translate(ctx, s.db.SelectContext(ctx, dst, query, args...))
}

func (s *Store) affected(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, translate(ctx, err)
	}
	return res.RowsAffected()
}

// ids is an array parameter of uuids.
func ids(of []uuid.UUID) any {
	out := make([]string, len(of))
	for i, id := range of {
		out[i] = id.String()
	}
	return pq.Array(out)
}

func parseIDs(of []string) ([]uuid.UUID, error) {
	out := make([]uuid.UUID, len(of))
	for i, s := range of {
		id, err := uuid.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("id from the database: %w", err)
		}
		out[i] = id
	}
	return out, nil
}
