package db

import (
	"context"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// FrontierSQL is what Tx.Frontier asks.
const FrontierSQL = frontier

// ExecRaw runs a statement as it is.
func (s *Store) ExecRaw(ctx context.Context, query string, args ...any) error {
	_, err := s.affected(ctx, query, args...)
	return err
}

// GetRaw reads one value.
func (s *Store) GetRaw(ctx context.Context, dst any, query string, args ...any) error {
	return s.get(ctx, dst, query, args...)
}

// Explain returns PostgreSQL's plan.
func (s *Store) Explain(ctx context.Context, query string, args ...any) (string, error) {
	var lines []string
	err := s.list(ctx, &lines, "EXPLAIN "+query, args...)
	return strings.Join(lines, "\n"), err
}

// ExplainList returns the plan of ListVolumes.
func (s *Store) ExplainList(ctx context.Context, q model.ListQuery) (string, error) {
	p, err := s.page(ctx, volumes(), q)
	if err != nil {
		return "", err
	}
	return s.Explain(ctx, p.sql(volumeColumns, volumeFrom), p.args...)
}
