package db

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// FrontierSQL is what Tx.Frontier asks.
const FrontierSQL = frontier

// ExecRaw runs a statement as it is.
func (s *Store) ExecRaw(ctx context.Context, query string, args ...any) error {
	_, err := s.affected(ctx, query, args...)
	return err
}

// Raw is the pool of connections.
func (s *Store) Raw() *sql.DB { return s.db.DB }

// Hold is how volumes that are made hold their image.
func (t *Tx) Hold(image model.Image) (model.Image, error) { return t.holdImage(image) }

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

// Column that a list can be filtered by.
type Column struct {
	Name  string
	Sorts bool // ordered by, too
}

func listerOf(noun string) lister {
	return map[string]func() lister{
		"volumes": volumes, "attachments": attachments, "snapshots": snapshots, "messages": messages, "types": types,
		"groups": groups, "group snapshots": groupSnapshots,
	}[noun]()
}

// ListColumns of a noun, by name.
func ListColumns(noun string) []Column {
	var out []Column
	l := listerOf(noun)
	for _, name := range slices.Sorted(maps.Keys(l.columns)) {
		c := l.columns[name]
		out = append(out, Column{name, !c.noSort && c.kind != document})
	}
	return out
}

// Nth is the id of the row at a place in a list, from 0.
func (s *Store) Nth(ctx context.Context, noun string, q model.ListQuery, n int) (uuid.UUID, error) {
	var id uuid.UUID
	l := listerOf(noun)
	q.Offset, q.Limit = n, 1
	ps, err := s.pages(ctx, l, q)
	if err != nil {
		return id, err
	}
	return id, s.get(ctx, &id, ps[0].sql(l.id, l.from), ps[0].args...)
}
