package v3

import (
	"errors"
	"net/http"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/db/model"
)

const notRetypable = "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a " +
	"consistency group, requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change."

// retype gives a volume another type. Where its node is not for that, it moves if the policy is
// on-demand; else, or if there is no node that is, it keeps its type and a message says so.
func (a *API) retype(c *call, in *schema.Object) error {
	ref, err := in.Text("new_type", 1, 255)
	if err != nil {
		return err
	}
	policy, err := in.Enum("migration_policy", "on-demand", "never")
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume:retype")
	if err != nil {
		return err
	}
	kind, err := a.wantedType(c, ref)
	if err != nil {
		return err
	}
	shared := kind.Is("multiattach")
	switch {
	case v.Multiattach != shared && v.Status != model.VolumeAvailable:
		return fault.InvalidInput("Invalid volume_type passed, retypes affecting multiattach are only allowed on available volumes, "+
			"the specified volume however currently has a status of: %s.", v.Status)
	case v.Status != model.VolumeAvailable && v.Status != model.VolumeInUse, v.GroupID != nil, v.Migrating(),
		v.VolumeTypeID != nil && *v.VolumeTypeID == kind.ID:
		return fault.BadRequest(notRetypable)
	}
	if v.Multiattach != shared && shared {
		if err := c.allowOwner("volume:multiattach", v.ProjectID, v.UserID); err != nil {
			return err
		}
	}
	move := policy != nil && *policy == "on-demand"
	err = a.Scheduler.Retype(c.ctx(), v.ID, kind, move, []model.VolumeStatus{v.Status}, c.task())
	switch {
	case errors.Is(err, model.ErrImmovable):
		return fault.InvalidVolume("Volume %s has to move to another node for type %s, and can't as it is: %s", v.ID, kind.Name,
			strings.TrimPrefix(plain(err), model.ErrImmovable.Error()+": "))
	case isState(err):
		return fault.BadRequest(notRetypable)
	case errors.Is(err, model.ErrInvalid):
		return fault.BadRequest("Invalid host: %s", plain(err))
	case err != nil:
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}
