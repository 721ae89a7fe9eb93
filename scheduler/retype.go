package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Retype gives a volume whose status is one of from another type. If its home is not one for that, it
// moves to a node that is, if move is true, and has the type when it is there: at once if nothing was ever
// written to it; else its data are copied, as by [Service.Migrate]. If that fails, the volume is where it
// was and what it was. model.ErrImmovable: it can't be moved as it is.
//
// Where there is no node for it, or it would have to move and must not, nothing changes and the
// volume's owner gets a message, as Cinder's scheduler ends it.
//
// More than the quotas of the type have room for is a *[model.QuotaError].
func (s *Service) Retype(ctx context.Context, id uuid.UUID, to model.VolumeType, move bool, from []model.VolumeStatus, who model.Task) error {
	seen, err := s.store.Volume(ctx, id)
	if err != nil {
		return err
	}
	nodes, err := s.room(ctx, true)
	if err != nil {
		return err
	}
	p := nodes.retype(&seen, to.ExtraSpecs, move)
	switch {
	case p.why != "":
		s.log.WithField("volume", id).WithField("type", to.Name).WithField("reason", p.why).Warn("volume keeps its type")
		event := model.NewEvent(model.ResourceVolume, model.ActionScheduleVolume, model.DetailNoBackend)
		return s.store.AddMessage(ctx, model.VolumeMessage(event, &seen, fmt.Sprintf("It can't get type %s: %s.", to.Name, p.why)))
	case p.move && seen.Status != model.VolumeAvailable:
		return fmt.Errorf("%w: it is %s, and only detached volumes are moved; detach it first", model.ErrImmovable, seen.Status)
	case p.move && seen.Home != nil:
		err := s.migrate(ctx, seen, *p.host, &to, who)
		if errors.Is(err, model.ErrConflict) || errors.Is(err, model.ErrInUse) {
			err = fmt.Errorf("%w: %w", model.ErrImmovable, err)
		}
		return err
	}
	return s.store.Tx(ctx, func(t Tx) error {
		if err := t.ReserveType(seen, to.ID); err != nil {
			return err
		}
		v, err := t.LockVolume(id)
		if err != nil {
			return err
		}
		if err := v.MustBe(from); err != nil {
			return err
		}
		if deref(v.Home) != deref(seen.Home) {
			return fmt.Errorf("%w: volume %s has got another home meanwhile; try again", model.ErrConflict, id)
		}
		if v.Home == nil {
			if err := t.SetPlaced(id, p.host); err != nil {
				return err
			}
		}
		if p.move {
			if err := t.SetMigrationStatus(id, migrated); err != nil {
				return err
			}
		}
		return t.SetType(v, to.ID, to.Is("multiattach"))
	})
}

// rehoming is what another type means to a volume.
type rehoming struct {
	host *string // where it is to live; nil of one without a home: wherever it is asked for
	move bool    // that is another than now
	why  string  // it can't have the type, and nothing is to be changed
}

// retype decides where a volume lives if it gets a type with the extra specs. It stays if it can.
func (r room) retype(v *model.Volume, specs model.StringMap, move bool) rehoming {
	there := r.choice(v.AvailabilityZone, specs)
	if host := v.Host(); host != nil {
		n := r.node(*host)
		lack := "it holds no volumes any more"
		if n != nil {
			lack = r.lacks(n, specs)
		}
		switch {
		case lack == "":
			return rehoming{host: host}
		case !move:
			return rehoming{why: fmt.Sprintf("its node %s is not for that type (%s), and the migration policy is never; retype it with on-demand", *host, lack)}
		}
	}
	if why := there.unplaceable(v, v.ImageID != nil); why != "" {
		return rehoming{why: why}
	}
	if v.Host() == nil && !there.restricted {
		return rehoming{}
	}
	best := mostRoom(there.open, v, there.reserved)
	if best == nil {
		return rehoming{why: "no node that is for that type has room for it"}
	}
	return rehoming{host: &best.Host, move: v.Host() != nil}
}
