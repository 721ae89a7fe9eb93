package db

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// ExtendVolume gives a volume whose status is one of from a new, larger size in GiB; else
// ErrConflict. Where no device stands that is all there is to do; otherwise the volume is
// extending until its home reports the new size ([Store.FinishExtend]). A size that is not
// larger is ErrInvalid, one that exceeds a quota a *[model.QuotaError].
func (s *Store) ExtendVolume(ctx context.Context, id uuid.UUID, gib int, from []model.VolumeStatus) (model.Volume, error) {
	before, err := s.Volume(ctx, id, "")
	if err != nil {
		return before, err
	}
	var out model.Volume
	err = s.Tx(ctx, func(t *Tx) error {
		if err := t.lockProject(before.ProjectID); err != nil {
			return err
		}
		vs, err := volumesWhere(t.ctx, t.q, "v.id = $1", id) // nobody else extends or retypes it now
		before, err = one(vs, err, "volume", id)
		if err != nil {
			return err
		}
		if by := gib - before.SizeGiB; before.ConsumesQuota && by > 0 {
			if err := s.reserve(t, before.ProjectID, claim{Claim: model.ExtendClaim(by, gib), kind: before.VolumeTypeID}); err != nil {
				return err
			}
		}
		v, err := t.LockVolume(id)
		switch {
		case err != nil:
			return err
		case !slices.Contains(from, v.Status):
			return say(model.ErrConflict, "Volume %s status must be %s to extend, but it is %s.", id, strings.Join(words(from...), " or "), v.Status)
		case gib <= v.SizeGiB:
			return say(model.ErrInvalid, "New size for extend must be greater than current size. (current: %d, extended: %d).", v.SizeGiB, gib)
		}
		if err := t.exec("UPDATE volumes SET size_gib = $2, updated_at = now() WHERE id = $1", id, gib); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if len(v.Attachments) > 0 && v.Home != nil {
			if err := t.SetVolumeStatus(id, model.VolumeExtending, v.AttachStatus, nil); err != nil {
				return err
			}
		}
		if v.Home != nil {
			_ = t.Bump(*v.Home)
		}
		out, err = t.LockVolume(id)
		return err
	})
	return out, err
}

// FinishExtend gives an extending volume the status back that its attachments have, and has
// a job tell their instances. One in another status is ErrConflict.
func (s *Store) FinishExtend(ctx context.Context, id uuid.UUID) (model.Volume, error) {
	var out model.Volume
	err := s.Tx(ctx, func(t *Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if v.Status != model.VolumeExtending {
			return say(model.ErrConflict, "Volume %s status must be extending, but it is %s.", id, v.Status)
		}
		status, attach := atRest(&v)
		if err := t.addJob(model.JobTellExtended, id); err != nil {
			return err
		}
		if err := t.SetVolumeStatus(id, status, attach, nil); err != nil {
			return err
		}
		out, err = t.LockVolume(id)
		return err
	})
	return out, err
}
