package db

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// ReserveType returns a *[model.QuotaError] if the quotas of a volume type have no room for a volume
// of another. It locks the project, so it comes before any other lock.
func (t *Tx) ReserveType(v model.Volume, kind uuid.UUID) error {
	return t.store.quotaOfType(t, v, kind)
}

// SetType gives a volume that is locked, and its snapshots, another type. One that is in use must not
// get other front-end QoS specs, else ErrConflict.
func (t *Tx) SetType(v model.Volume, kind uuid.UUID, multiattach bool) error {
	if v.Status != model.VolumeAvailable {
		if err := t.sameFrontEnd(v.VolumeTypeID, kind); err != nil {
			return err
		}
	}
	err := t.exec("UPDATE volumes SET volume_type_id = $2, multiattach = $3, retype_to = NULL, updated_at = now() WHERE id = $1", v.ID, kind, multiattach)
	if err != nil {
		return refers(err, "volume type")
	}
	return t.exec("UPDATE snapshots SET volume_type_id = $2 WHERE volume_id = $1", v.ID, kind)
}

// SetRetypeTo of a volume that is locked: the type that it gets when it has moved, which it counts for
// already; nil is none.
func (t *Tx) SetRetypeTo(id uuid.UUID, kind *uuid.UUID) error {
	n, err := t.affected("UPDATE volumes SET retype_to = $2, updated_at = now() WHERE id = $1", id, kind)
	return neededN(n, refers(err, "volume type"), "volume", id)
}

// FinishRetype gives a volume that is locked the type that it was to get when it has moved.
func (t *Tx) FinishRetype(v model.Volume) error {
	var multiattach bool
	err := t.get(&multiattach, "SELECT COALESCE(extra_specs ->> 'multiattach' = '<is> True', false) FROM volume_types WHERE id = $1", *v.RetypeTo)
	if err != nil {
		return fmt.Errorf("volume type %s: %w", v.RetypeTo, err)
	}
	v.Status = model.VolumeAvailable // nobody has had it while it moved
	return t.SetType(v, *v.RetypeTo, multiattach)
}

// SetPlaced writes where a volume that is locked and has no home is to live; nil: wherever it is asked for.
func (t *Tx) SetPlaced(id uuid.UUID, host *string) error {
	n, err := t.affected("UPDATE volumes SET placed = $2, updated_at = now() WHERE id = $1 AND home IS NULL", id, host)
	return neededN(n, err, "volume", id)
}

// Wants returns the extra specs that a volume's home must fulfil: those of its type, and, in a
// group whose volumes live together, of those of all others.
func (t *Tx) Wants(v model.Volume) ([]model.StringMap, error) {
	var out []model.StringMap
	if v.VolumeTypeID != nil {
		if err := t.list(&out, "SELECT extra_specs FROM volume_types WHERE id = $1 AND extra_specs <> '{}'", *v.VolumeTypeID); err != nil {
			return nil, fmt.Errorf("volume type %s: %w", v.VolumeTypeID, err)
		}
	}
	if v.GroupID == nil {
		return out, nil
	}
	group, err := t.GroupWants(*v.GroupID)
	return append(out, group.Specs...), err
}

// GroupWants tells whether the volumes of a group must live together, and then the extra specs that their
// home must fulfil, and the host that they are on or placed on, if there is one.
func (t *Tx) GroupWants(id uuid.UUID) (w model.GroupWants, err error) {
	var gs []model.Group
	if err := t.list(&gs, "SELECT "+groupColumns+groupFrom+" WHERE g.id = $1", id); err != nil {
		return w, fmt.Errorf("group %s: %w", id, err)
	}
	g, err := one(gs, nil, "group", id)
	if err != nil || !g.Consistent() {
		return w, err
	}
	w.Together = true
	err = t.list(&w.Specs, `SELECT DISTINCT t.extra_specs FROM volumes v JOIN volume_types t ON t.id = v.volume_type_id
		WHERE v.group_id = $1 AND v.status <> 'error' AND t.extra_specs <> '{}'`, id)
	if err != nil {
		return w, fmt.Errorf("volume types in group %s: %w", id, err)
	}
	var hosts []string
	err = t.list(&hosts, `SELECT COALESCE(home, placed) FROM volumes WHERE group_id = $1 AND COALESCE(home, placed) IS NOT NULL AND status <> 'error'
		ORDER BY home IS NULL, id LIMIT 1`, id)
	if err != nil {
		return w, fmt.Errorf("hosts of group %s: %w", id, err)
	}
	if len(hosts) > 0 {
		w.Host = &hosts[0]
	}
	return w, nil
}
