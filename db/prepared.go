package db

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// prepared are the statements that nearly every request runs: PostgreSQL reads and plans
// each once per connection instead of every time. Their texts are constants, and their
// plans must be good whatever the arguments are, which the plans of lists are not.
type prepared struct {
	mu  sync.Mutex // held by who adds one
	of  sync.Map   // text to *sqlx.Stmt
	off atomic.Bool
}

// prepare makes statements known; [Tx.selectPrepared] runs them. It is no place for
// errors: what is not prepared is run as it is, and will say itself what is wrong.
func (s *Store) prepare(ctx context.Context, queries ...string) {
	p := &s.prepared
	for _, q := range queries {
		if _, known := p.of.Load(q); known || p.off.Load() || !p.mu.TryLock() {
			continue
		}
		if st, err := s.db.PreparexContext(ctx, q); err == nil {
			if _, twice := p.of.LoadOrStore(q, st); twice {
				_ = st.Close()
			}
		}
		p.mu.Unlock()
	}
}

// statement of a text, nil if it is not prepared.
func (p *prepared) statement(query string) *sqlx.Stmt {
	if p.off.Load() {
		return nil
	}
	v, _ := p.of.Load(query)
	st, _ := v.(*sqlx.Stmt)
	return st
}

// unkept tells whether a statement failed because it is not there, or another is, under
// the name that it was given, and has all run as they are from now on. That is what
// happens behind a pooler that gives every transaction another session of the server.
func (p *prepared) unkept(err error) bool {
	var pe *pq.Error
	if !errors.As(err, &pe) || pe.Code != "26000" && pe.Code != "42P05" { // invalid_sql_statement_name, duplicate_prepared_statement
		return false
	}
	p.off.Store(true)
	return true
}

// selectPrepared fills dst, a slice, with the rows of a constant query.
func (s *Store) selectPrepared(ctx context.Context, dst any, query string, args ...any) error {
	s.prepare(ctx, query)
	if st := s.prepared.statement(query); st != nil {
		if err := st.SelectContext(ctx, dst, args...); !s.prepared.unkept(err) {
			return translate(ctx, err)
		}
	}
	return s.list(ctx, dst, query, args...)
}

// selectPrepared is the same in a transaction. It prepares nothing, for which it would
// need a second connection. A transaction that fails for the want of a statement is run again.
func (t *Tx) selectPrepared(dst any, query string, args ...any) error {
	if st := t.store.prepared.statement(query); st != nil {
		return translate(t.ctx, t.q.StmtxContext(t.ctx, st).SelectContext(t.ctx, dst, args...))
	}
	return t.list(dst, query, args...)
}

// execPrepared is for constant statements without rows.
func (t *Tx) execPrepared(query string, args ...any) error {
	if st := t.store.prepared.statement(query); st != nil {
		_, err := t.q.StmtxContext(t.ctx, st).ExecContext(t.ctx, args...)
		return translate(t.ctx, err)
	}
	return t.exec(query, args...)
}
