package v3

import (
	"errors"
	"net/http"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/db/model"
)

// detach takes an attachment away, if Nova does not use it.
func (a *API) detach(c *call, at model.Attachment) ([]model.Attachment, error) {
	if err := a.mayDetach(c, at); err != nil {
		return nil, err
	}
	if connected(at) {
		if err := a.bus(c); err != nil {
			return nil, err
		}
	}
	left, err := a.Scheduler.Disconnect(c.ctx(), at.ID)
	if errors.Is(err, model.ErrInUse) {
		// Somebody still has the device open. Nova tries again after a 500, and only then.
		return nil, &fault.Fault{Status: http.StatusInternalServerError, Message: "Unable to delete attachment (" + plain(err) + ").", Cause: err}
	}
	return left, notFound(err, noAttachment, at.ID)
}

// connected tells whether a node has something to take down for the attachment.
func connected(at model.Attachment) bool {
	s := strings.TrimSpace(string(at.ConnectionInfo))
	return s != "" && s != "{}" && s != "null"
}

func usedByNova(server string) *fault.Fault {
	return fault.Conflict("ConflictNovaUsingAttachment: Detach volume from instance %s using the Compute API", server)
}

// mayDetach is the rule against CVE-2023-2088: what a server of Nova uses is detached
// through Nova only. A service token is Nova's. Who else asks is allowed if there is no
// server or no connection, or if Nova says that it uses another attachment, or none.
func (a *API) mayDetach(c *call, at model.Attachment) error {
	if c.id.ServiceToken || at.InstanceUUID == nil || !connected(at) {
		return nil
	}
	refuse := usedByNova(at.InstanceUUID.String())
	if a.Nova == nil {
		return refuse
	}
	used, err := a.Nova.Attachment(c.ctx(), c.id, *at.InstanceUUID, at.VolumeID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case errors.Is(err, model.ErrUnavailable):
		return fault.Unavailable(err, "The Compute service can't be asked at the moment whether instance %s uses the volume; please try again.", at.InstanceUUID)
	case err != nil:
		refuse.Cause = err
		return refuse
	case used != at.ID.String():
		return nil
	}
	return refuse
}
