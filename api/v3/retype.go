package v3

import (
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/db/model"
)

const notRetypable = "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a " +
	"consistency group, requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change."

// retype gives a volume another type. All types are of this one backend, so nothing moves.
func (a *API) retype(c *call, in *schema.Object) error {
	ref, err := in.Text("new_type", 1, 255)
	if err != nil {
		return err
	}
	if _, err := in.Enum("migration_policy", "on-demand", "never"); err != nil {
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
	if err := a.Store.Retype(c.ctx(), v.ID, kind.ID, shared, []model.VolumeStatus{v.Status}); err != nil {
		if isState(err) {
			return fault.BadRequest(notRetypable)
		}
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}
