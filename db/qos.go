package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const qosColumns = "q.id, q.name, q.consumer, q.specs, q.created_at, q.updated_at"

func qos() lister {
	return lister{
		selects: qosColumns, from: " FROM qos_specs q", id: "q.id",
		columns: map[string]column{
			"id":         {sql: "q.id", kind: id},
			"name":       {sql: "q.name"},
			"created_at": {sql: "q.created_at", kind: stamp},
			"updated_at": {sql: "q.updated_at", kind: stamp, nullable: true},
		},
	}
}

// ListQoS returns a page of QoS specs.
func (s *Store) ListQoS(ctx context.Context, q model.ListQuery) ([]model.QoS, error) {
	var qs []model.QoS
	return qs, s.rows(ctx, &qs, qos(), q)
}

// QoS returns one.
func (s *Store) QoS(ctx context.Context, id uuid.UUID) (model.QoS, error) {
	var qs []model.QoS
	err := s.list(ctx, &qs, "SELECT "+qosColumns+" FROM qos_specs q WHERE q.id = $1", id)
	return one(qs, err, "QoS specs", id)
}

// AttachOptions are what a volume type says of attachments; of one that is gone, nothing.
func (s *Store) AttachOptions(ctx context.Context, volumeType uuid.UUID) (model.AttachOptions, error) {
	var rows []struct {
		Cacheable bool            `db:"cacheable"`
		Consumer  *string         `db:"consumer"` // null: no QoS specs
		Specs     model.StringMap `db:"specs"`
	}
	err := s.list(ctx, &rows, `SELECT COALESCE(t.extra_specs->>'cacheable', '') = '<is> True' AS cacheable, q.consumer, q.specs
		FROM volume_types t LEFT JOIN qos_specs q ON q.id = t.qos_specs_id WHERE t.id = $1`, volumeType)
	if err != nil || len(rows) == 0 {
		return model.AttachOptions{}, err
	}
	out := model.AttachOptions{Cacheable: rows[0].Cacheable}
	if rows[0].Consumer != nil {
		out.QoS = &model.QoS{Consumer: *rows[0].Consumer, Specs: rows[0].Specs}
	}
	return out, nil
}

// CreateQoS makes QoS specs; ErrExists if the name is taken. Without an id they get one,
// without a consumer it is back-end.
func (s *Store) CreateQoS(ctx context.Context, q model.QoS) (model.QoS, error) {
	if q.ID == uuid.Nil {
		q.ID = uuid.New()
	}
	def(&q.Consumer, "back-end")
	var qs []model.QoS
	err := s.list(ctx, &qs, "INSERT INTO qos_specs AS q (id, name, consumer, specs) VALUES ($1, $2, $3, $4) RETURNING "+qosColumns,
		q.ID, q.Name, q.Consumer, q.Specs)
	if errors.Is(err, model.ErrExists) {
		return model.QoS{}, say(model.ErrExists, "QoS Specs %s already exists.", q.Name)
	}
	return one(qs, err, "QoS specs", q.Name)
}

// EditQoS changes consumer and specs by a function that changes them in place; it may be
// called more than once. Its error is returned as it is, and nothing is changed then.
func (s *Store) EditQoS(ctx context.Context, id uuid.UUID, edit func(*model.QoS) error) (model.QoS, error) {
	var out model.QoS
	err := s.Tx(ctx, func(t *Tx) error {
		q, err := t.lockQoS(id)
		if err != nil {
			return err
		}
		if q.Specs == nil {
			q.Specs = model.StringMap{}
		}
		if err := edit(&q); err != nil {
			return err
		}
		var qs []model.QoS
		err = t.list(&qs, "UPDATE qos_specs AS q SET consumer = $2, specs = $3, updated_at = now() WHERE id = $1 RETURNING "+qosColumns, id, q.Consumer, q.Specs)
		out, err = one(qs, err, "QoS specs", id)
		return err
	})
	return out, err
}

func (t *Tx) lockQoS(id uuid.UUID) (model.QoS, error) {
	var qs []model.QoS
	err := t.list(&qs, "SELECT "+qosColumns+" FROM qos_specs q WHERE q.id = $1 FOR UPDATE OF q", id)
	return one(qs, err, "QoS specs", id)
}

// DeleteQoS: ErrInUse while a type has them; with force the types lose them.
func (s *Store) DeleteQoS(ctx context.Context, id uuid.UUID, force bool) error {
	return s.Tx(ctx, func(t *Tx) error {
		if force {
			if err := t.dropQoS(id, nil); err != nil {
				return err
			}
		}
		n, err := t.affected("DELETE FROM qos_specs WHERE id = $1", id)
		if isInUse(err) {
			return say(model.ErrInUse, "QoS Specs %s is still associated with entities.", id)
		}
		return neededN(n, err, "QoS specs", id)
	})
}

// dropQoS takes QoS specs from a type that has them, from all if none is named. Types are
// locked before QoS specs, in order.
func (t *Tx) dropQoS(id uuid.UUID, volumeType *uuid.UUID) error {
	err := t.exec(`UPDATE volume_types SET qos_specs_id = NULL, updated_at = now() FROM (
		SELECT id FROM volume_types WHERE qos_specs_id = $1 AND ($2::uuid IS NULL OR id = $2) ORDER BY id FOR NO KEY UPDATE) AS l
		WHERE volume_types.id = l.id`, id, volumeType)
	if err != nil {
		return fmt.Errorf("types of QoS specs %s: %w", id, err)
	}
	return nil
}

// QoSTypes returns the types that have QoS specs, oldest first.
func (s *Store) QoSTypes(ctx context.Context, id uuid.UUID) ([]model.VolumeType, error) {
	var ts []model.VolumeType
	return ts, s.list(ctx, &ts, "SELECT "+typeColumns+" FROM volume_types t WHERE t.qos_specs_id = $1 ORDER BY t.created_at, t.id", id)
}

// AssociateQoS gives QoS specs to a type. One that has others is ErrConflict.
func (s *Store) AssociateQoS(ctx context.Context, id, volumeType uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		vt, err := t.lockType(volumeType)
		switch {
		case err != nil:
			return err
		case vt.QoSSpecsID != nil && *vt.QoSSpecsID != id:
			return say(model.ErrConflict, "Type %s is already associated with another qos specs: %s", volumeType, *vt.QoSSpecsID)
		}
		err = t.exec("UPDATE volume_types SET qos_specs_id = $2, updated_at = now() WHERE id = $1 AND qos_specs_id IS NULL", volumeType, id)
		if isInUse(err) { // the foreign key
			err = model.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("QoS specs %s: %w", id, err)
		}
		return nil
	})
}

// DisassociateQoS takes QoS specs from a type, from all types if it is nil. A type that
// does not have them stays as it is.
func (s *Store) DisassociateQoS(ctx context.Context, id uuid.UUID, volumeType *uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error { return t.dropQoS(id, volumeType) })
}

// sameFrontEnd is ErrConflict if a hypervisor has been told QoS specs of one type, and
// would have to be told others for another: nobody tells it anew while it runs.
func (t *Tx) sameFrontEnd(from *uuid.UUID, to uuid.UUID) error {
	if from == nil {
		from = &uuid.Nil
	}
	var specs []uuid.UUID
	err := t.list(&specs, `SELECT DISTINCT q.id FROM qos_specs q JOIN volume_types t ON t.qos_specs_id = q.id AND t.id IN ($1, $2)
		WHERE (SELECT count(*) FROM volume_types o WHERE o.id IN ($1, $2) AND o.qos_specs_id = q.id) < 2 AND q.consumer <> 'back-end'`, *from, to)
	if err != nil {
		return fmt.Errorf("QoS specs of volume types %s and %s: %w", *from, to, err)
	}
	if len(specs) > 0 {
		return say(model.ErrConflict, "The front-end QoS specs of a volume in use can't change.")
	}
	return nil
}
