package db

import (
	"context"
	"fmt"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Lead takes or renews the named lease for the holder; false if another has it. Time is
// the database's, so replicas need no common clock. A lease of 0 gives it up.
func (s *Store) Lead(ctx context.Context, name, holder string, lease time.Duration) (bool, error) {
	n, err := s.affected(ctx, `INSERT INTO leases AS l (name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 microsecond')
		ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
		WHERE l.holder = EXCLUDED.holder OR l.expires_at < clock_timestamp()`, name, holder, lease.Microseconds())
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", name, err)
	}
	return n == 1, nil
}

// Beat records that this replica lives.
func (s *Store) Beat(ctx context.Context, host, binary string) error {
	_, err := s.affected(ctx, `INSERT INTO services (host, "binary") VALUES ($1, $2)
		ON CONFLICT (host, "binary") DO UPDATE SET last_seen = now()`, host, binary)
	if err != nil {
		return fmt.Errorf("beat of %s on %s: %w", binary, host, err)
	}
	return nil
}

// Services returns the replicas of the control plane.
func (s *Store) Services(ctx context.Context) ([]model.Service, error) {
	var out []model.Service
	return out, s.list(ctx, &out, `SELECT host, "binary", disabled, disabled_reason, last_seen, created_at FROM services ORDER BY "binary", host`)
}
