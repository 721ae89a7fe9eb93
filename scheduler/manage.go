package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Manageable lists what a node's pool holds that is a volume, or a snapshot, or could become one. A
// node that is not known is model.ErrNotFound, one that can't look model.ErrUnavailable.
func (s *Service) Manageable(ctx context.Context, host string, kind model.Kind) ([]model.Manageable, error) {
	inv, err := s.inventory(ctx, host)
	if err != nil {
		return nil, err
	}
	if gone := inv.gone(); len(gone) > 0 {
		s.log.WithField("node", host).WithField("ids", gone).Info("what was unmanaged is gone from the pool, and forgotten")
		if err := s.store.ForgetUnmanaged(ctx, host, gone); err != nil {
			return nil, err
		}
		s.wakeJobs()
	}
	if kind == model.KindSnapshot {
		return inv.snapshots(), nil
	}
	return inv.volumes(), nil
}

// Manage makes a volume of what a reference names in a node's pool: it is kept on a thin device
// that is there, whose bytes it has. If that can't be, the volume is made all the same, with
// status error_managing and the reason. Without a host nothing is found but what was unmanaged
// before anything was written to it, which is nowhere.
// So it ends, too, if the node is not for volumes whose type has the extra specs.
func (s *Service) Manage(ctx context.Context, v model.Volume, specs model.StringMap, host string, ref model.ManageRef) (model.Volume, error) {
	inv, err := s.inventory(ctx, host)
	if err != nil {
		return v, err
	}
	a, why := inv.volume(ref)
	if why == "" && host != "" {
		node, err := s.store.Node(ctx, host)
		if err != nil {
			return v, err
		}
		if lack := lacks(s.opt.Backend, &node, specs); lack != "" {
			why = fmt.Sprintf("node %s is not as the volume type wants it: %s", host, lack)
		}
	}
	if why == "" {
		made, err := s.store.Adopt(ctx, v, a)
		if err == nil {
			s.tell(deref(a.Host))
			return made, nil
		}
		var quota *model.QuotaError
		if !errors.As(err, &quota) && !errors.Is(err, model.ErrConflict) && !errors.Is(err, model.ErrInvalid) {
			return v, err
		}
		why = err.Error()
	}
	if host == "" {
		return v, fmt.Errorf("%w: %s", model.ErrInvalid, why)
	}
	s.log.WithField("node", host).WithField("ref", ref.Text).WithField("reason", why).Warn("can't be managed")
	return s.store.AdoptFailed(ctx, v, why)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// inventory asks a node what is in its pool.
func (s *Service) inventory(ctx context.Context, host string) (inventory, error) {
	known, err := s.store.Storage(ctx, host)
	if err != nil || host == "" {
		return newInventory(host, known, model.Thins{}), err
	}
	thins, err := s.nodes.Thins(ctx, host, asked(known))
	if err != nil {
		return inventory{}, err
	}
	if known.PoolUUID != "" && thins.PoolUUID != known.PoolUUID {
		return inventory{}, fmt.Errorf("%w: node %s shows pool %s, but its volumes are in %s", model.ErrUnavailable, host, thins.PoolUUID, known.PoolUUID)
	}
	return newInventory(host, known, thins), nil
}

// Unmanage has a volume forgotten and its thin device left where it is. One whose devices may
// stand is unmanaging until its home has taken them down.
func (s *Service) Unmanage(ctx context.Context, id uuid.UUID) error {
	var home *string
	err := s.store.Tx(ctx, func(t Tx) error {
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		snaps, err := t.LockSnapshotsOf(id)
		switch {
		case err != nil:
			return err
		case !slices.Contains(model.Unmanageable, v.Status), len(v.Attachments) > 0, v.GroupID != nil, v.Migrating():
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, id, v.Status)
		case len(snaps) > 0:
			return fmt.Errorf("%w: volume %s has %d snapshots", model.ErrConflict, id, len(snaps))
		case !v.Pristine() && !v.Materialized:
			return fmt.Errorf("%w: the thin device of volume %s was never made", model.ErrConflict, id)
		}
		home = v.Home
		if err := t.SetVolumeStatus(id, model.VolumeUnmanaging, model.AttachDetached, nil); err != nil {
			return err
		}
		return t.Bump(deref(home))
	})
	if err != nil {
		return err
	}
	if home == nil {
		return s.store.FinishUnmanage(ctx, id)
	}
	s.tell(*home)
	return nil
}

// ManageSnapshot makes a snapshot of a volume again of what a reference names in the pool of the
// volume's home. If that can't be, it is made all the same, with status error and the reason.
func (s *Service) ManageSnapshot(ctx context.Context, sn model.Snapshot, ref model.ManageRef) (model.Snapshot, error) {
	v, err := s.store.Volume(ctx, sn.VolumeID)
	if err != nil {
		return sn, err
	}
	inv, err := s.inventory(ctx, deref(v.Home))
	if err != nil {
		return sn, err
	}
	a, why := inv.snapshot(ref)
	if why == "" {
		made, err := s.store.AdoptSnapshot(ctx, sn, a)
		if err == nil {
			s.tell(deref(a.Host))
			return made, nil
		}
		if !errors.Is(err, model.ErrConflict) && !errors.Is(err, model.ErrInvalid) {
			return sn, err
		}
		why = err.Error()
	}
	s.log.WithField("volume", v.ID.String()).WithField("ref", ref.Text).WithField("reason", why).Warn("can't be managed")
	return s.store.AdoptSnapshotFailed(ctx, sn, why)
}

// UnmanageSnapshot has a snapshot whose status is one of from, else model.ErrConflict, forgotten and
// its thin device left where it is.
func (s *Service) UnmanageSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) error {
	home, err := s.store.UnmanageSnapshot(ctx, id, from)
	s.tell(deref(home))
	return err
}
