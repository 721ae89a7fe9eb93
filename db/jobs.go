package db

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

const jobColumns = "j.id, j.kind, j.subject, j.args, j.attempts, j.error, j.run_at, j.taken_by, j.taken_until, j.created_at"

// TakeJob takes one due job for the given time, or returns model.ErrNotFound. Two takers
// never get the same one; a taker that dies loses it when its time is over.
func (s *Store) TakeJob(ctx context.Context, holder string, lease time.Duration) (model.Job, error) {
	var j model.Job
	err := s.get(ctx, &j, `UPDATE jobs j SET taken_by = $1, taken_until = now() + $2 * interval '1 microsecond', attempts = attempts + 1
		WHERE j.id = (SELECT id FROM jobs WHERE run_at <= now() AND (taken_until IS NULL OR taken_until < now())
			ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING `+jobColumns, holder, lease.Microseconds())
	if err != nil {
		return j, fmt.Errorf("take a job: %w", err)
	}
	return j, nil
}

// FinishJob removes a job; if it was asked for again since it was taken, it becomes due
// instead. One that is gone is no error.
func (s *Store) FinishJob(ctx context.Context, id int64) error {
	return s.Tx(ctx, func(t *Tx) error {
		n, err := t.affected(`UPDATE jobs SET again = false, taken_by = NULL, taken_until = NULL, attempts = 0, error = NULL,
			run_at = now() WHERE id = $1 AND again`, id)
		if err == nil && n == 0 {
			// The row may have been marked since: only an unmarked one goes.
			n, err = t.affected("DELETE FROM jobs WHERE id = $1 AND NOT again", id)
			if err == nil && n == 0 {
				err = t.exec("UPDATE jobs SET again = false, taken_by = NULL, taken_until = NULL, run_at = now() WHERE id = $1", id)
			}
		}
		if err != nil {
			return fmt.Errorf("finish job %d: %w", id, err)
		}
		return nil
	})
}

// RetryJob gives a job back, to be taken again at the given time, and keeps why.
func (s *Store) RetryJob(ctx context.Context, id int64, at time.Time, reason string) error {
	n, err := s.affected(ctx, `UPDATE jobs SET taken_by = NULL, taken_until = NULL, error = $3, again = false,
		run_at = CASE WHEN again THEN now() ELSE $2 END WHERE id = $1`, id, at, reason)
	return neededN(n, err, "job", id)
}

// AddJob asks for work on a subject at the given time. A job of this kind and subject
// that waits already stays as it is; one that is being worked on is run once more after.
func (t *Tx) AddJob(kind model.JobKind, subject string, at time.Time) error {
	err := t.exec(`INSERT INTO jobs AS j (kind, subject, run_at) VALUES ($1, $2, $3)
		ON CONFLICT (kind, subject) DO UPDATE SET again = true WHERE j.taken_by IS NOT NULL`, kind, subject, at)
	if err != nil {
		return fmt.Errorf("job %s %s: %w", kind, subject, err)
	}
	return nil
}

// addJob is AddJob for now, by the database's clock.
func (t *Tx) addJob(kind model.JobKind, subject uuid.UUID) error {
	err := t.exec(`INSERT INTO jobs AS j (kind, subject) VALUES ($1, $2)
		ON CONFLICT (kind, subject) DO UPDATE SET again = true WHERE j.taken_by IS NOT NULL`, kind, subject.String())
	if err != nil {
		return fmt.Errorf("job %s %s: %w", kind, subject, err)
	}
	return nil
}

// dropJobs removes the jobs of these kinds about a subject, taken or not.
func (t *Tx) dropJobs(subject string, kinds ...model.JobKind) error {
	if err := t.exec("DELETE FROM jobs WHERE subject = $1 AND kind = ANY($2)", subject, pq.Array(words(kinds...))); err != nil {
		return fmt.Errorf("jobs of %s: %w", subject, err)
	}
	return nil
}
