package db

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Rehome gives a volume that is locked the node of a task as its home, and the thin device that
// the task has filled. The one that it had is dropped. The task, which is locked, has none any more.
func (t *Tx) Rehome(v model.Volume, k model.Task) error {
	if k.ThinID == nil {
		return fmt.Errorf("task %s has no thin device", k.ID)
	}
	if err := t.dropThin(&v); err != nil {
		return err
	}
	if err := t.exec("UPDATE tasks SET thin_id = NULL, updated_at = now() WHERE id = $1", k.ID); err != nil {
		return fmt.Errorf("task %s: %w", k.ID, err)
	}
	err := t.exec(`UPDATE volumes SET home = $2, thin_id = $3, source_thin = NULL, materialized = true, updated_at = now()
		WHERE id = $1`, v.ID, k.Host, *k.ThinID)
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return t.Bump(k.Host)
}

// Unhome takes its home from a volume that is locked and that nothing was ever written to.
func (t *Tx) Unhome(v model.Volume) error {
	if !v.Pristine() {
		return say(model.ErrConflict, "Volume %s has data on %s.", v.ID, *v.Home)
	}
	if err := t.dropThin(&v); err != nil {
		return err
	}
	err := t.exec("UPDATE volumes SET home = NULL, thin_id = NULL, materialized = false, updated_at = now() WHERE id = $1", v.ID)
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return nil
}

// SetMigrationStatus of a volume that is locked; "" is none.
func (t *Tx) SetMigrationStatus(id uuid.UUID, status string) error {
	n, err := t.affected("UPDATE volumes SET migration_status = NULLIF($2, ''), updated_at = now() WHERE id = $1", id, status)
	return neededN(n, err, "volume", id)
}
