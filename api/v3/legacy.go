package v3

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// The attach API before 3.27, which Nova uses for block device mappings without an
// attachment id: os-reserve, os-initialize_connection, os-attach, and back again. It is
// laid over attachments: os-initialize_connection makes one without an instance,
// os-attach fills it in.

func (a *API) legacyReserve(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_actions:reserve")
	if err != nil {
		return err
	}
	from := []model.VolumeStatus{model.VolumeAvailable}
	if v.Multiattach {
		from = append(from, model.VolumeInUse)
	}
	if err := a.move(c, v, model.VolumeAttaching, fmt.Sprintf("Volume status must be available to reserve, but the status is %s.", v.Status), from...); err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}

// legacyUnreserve of a volume that is not attaching does nothing.
func (a *API) legacyUnreserve(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_actions:unreserve")
	if err != nil {
		return err
	}
	if v.Status == model.VolumeAttaching {
		to := model.VolumeAvailable
		if len(v.Attachments) > 0 {
			to = model.VolumeInUse
		}
		_, err := a.Store.MoveVolume(c.ctx(), v.ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeAttaching}, To: to})
		if err != nil && !isState(err) {
			return notFound(err, noVolume, v.ID)
		}
	}
	return c.empty(http.StatusAccepted)
}

func (a *API) initializeConnection(c *call, in *schema.Object) error {
	connector, err := in.Object("connector")
	if err != nil {
		return err
	}
	cn, err := readConnector(connector)
	if err != nil {
		return err
	}
	v, err := a.volume(c, "volume_extension:volume_actions:initialize_connection")
	if err != nil {
		return err
	}
	for i := range v.Attachments {
		// Asked again, for instance for a reboot: the same answer.
		if at := &v.Attachments[i]; at.AttachedHost != nil && *at.AttachedHost == cn.Host && connected(*at) {
			return c.json(http.StatusOK, view.Object{"connection_info": view.LegacyConnection(at)})
		}
	}
	if err := a.bus(c); err != nil {
		return err
	}
	if v.Status == model.VolumeAttaching && len(v.Attachments) == 0 {
		// os-reserve took it; the attachment's own reservation takes its place.
		if err := a.move(c, v, model.VolumeAvailable, current(v, "attaching", "connect"), model.VolumeAttaching); err != nil {
			return err
		}
		v.Status = model.VolumeAvailable
	}
	at, err := a.reserve(c, v, model.Attachment{
		ID: uuid.New(), VolumeID: v.ID, ProjectID: v.ProjectID, UserID: c.id.UserID, Status: model.AttachReserved,
	})
	if err != nil {
		return err
	}
	made, err := a.connect(c, at, v, connector)
	if err != nil {
		a.undo(c, at.ID)
		return connectFault(err, "Unable to fetch connection information from backend:")
	}
	return c.json(http.StatusOK, view.Object{"connection_info": view.LegacyConnection(&made)})
}

// attachMode: a read-only volume is attached read-only.
func attachMode(v model.Volume, mode *string) (*string, error) {
	if !v.ReadOnly {
		return mode, nil
	}
	if mode != nil && *mode == "rw" {
		return nil, fault.BadRequest("Invalid attaching mode 'rw' for volume %s.", v.ID)
	}
	return new("ro"), nil
}

func (a *API) legacyAttach(c *call, in *schema.Object) error {
	instance, err := in.UUID("instance_uuid")
	if err != nil {
		return err
	}
	host, err := in.String("host_name", 0, 255)
	if err != nil {
		return err
	}
	mountpoint, err := in.Text("mountpoint", 1, 255)
	if err != nil {
		return err
	}
	mode, err := in.Enum("mode", "rw", "ro")
	if err != nil {
		return err
	}
	if !in.Given("instance_uuid") && !in.Given("host_name") {
		return fault.BadRequest("Invalid input for field/attribute os-attach. Value: %[1]s. %[1]s is not valid under any of the given schemas", schema.Repr(in.Self()))
	}
	v, err := a.volume(c, "volume_extension:volume_actions:attach")
	if err != nil {
		return err
	}
	if mode, err = attachMode(v, mode); err != nil {
		return err
	}
	if mode == nil {
		rw := "rw"
		mode = &rw
	}
	again := func(at model.Attachment) bool {
		return instance != nil && at.InstanceUUID != nil && *at.InstanceUUID == *instance && at.Status == model.AttachAttached
	}
	if slices.ContainsFunc(v.Attachments, again) { // said twice
		return c.empty(http.StatusAccepted)
	}
	store, ok := a.Store.(LegacyAttacher)
	if !ok {
		return unsupported("os-attach")
	}
	now := a.Now().UTC()
	_, err = store.RecordAttach(c.ctx(), model.Attachment{
		ID: uuid.New(), VolumeID: v.ID, ProjectID: v.ProjectID, UserID: c.id.UserID, InstanceUUID: instance,
		AttachedHost: host, Mountpoint: &mountpoint, AttachMode: mode, Status: model.AttachAttached, AttachedAt: &now,
	})
	if isState(err) {
		return fault.InvalidVolume("%s", current(v, "available or attaching", "attach"))
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

// terminateConnection takes down what was made for the connector's host. Without a
// connector: for all hosts.
func (a *API) terminateConnection(c *call, in *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_actions:terminate_connection")
	if err != nil {
		return err
	}
	if !in.Given("connector") {
		return fault.BadRequest("Invalid input for field/attribute os-terminate_connection. Value: %s. 'connector' is a required property",
			schema.Repr(in.Self()))
	}
	connector, err := in.Optional("connector")
	if err != nil {
		return err
	}
	if err := a.mayDetachAny(c, v); err != nil {
		return err
	}
	host := ""
	if connector != nil {
		if s, err := connector.String("host", 0, 255); err != nil {
			return err
		} else if s != nil {
			host = *s
		}
	}
	for _, at := range v.Attachments {
		if !connected(at) || host != "" && (at.AttachedHost == nil || *at.AttachedHost != host) {
			continue
		}
		if err := a.bus(c); err != nil {
			return err
		}
		if _, err := a.Scheduler.Disconnect(c.ctx(), at.ID); err != nil {
			if err = notFound(err, noAttachment, at.ID); toFault(err).Status != http.StatusNotFound {
				return err
			}
		}
	}
	return c.empty(http.StatusAccepted)
}

// mayDetachAny is [API.mayDetach] for calls that name no attachment.
func (a *API) mayDetachAny(c *call, v model.Volume) error {
	switch {
	case c.id.ServiceToken || len(v.Attachments) == 0:
		return nil
	case len(v.Attachments) > 1:
		return usedByNova("")
	}
	return a.mayDetach(c, v.Attachments[0])
}

func (a *API) legacyDetach(c *call, in *schema.Object) error {
	return a.detachVolume(c, in, "volume_extension:volume_actions:detach")
}

func (a *API) forceDetach(c *call, in *schema.Object) error {
	if _, err := in.Optional("connector"); err != nil {
		return err
	}
	return a.detachVolume(c, in, "volume_extension:volume_admin_actions:force_detach")
}

func (a *API) detachVolume(c *call, in *schema.Object, rule string) error {
	id, err := in.UUID("attachment_id")
	if err != nil {
		return err
	}
	v, err := a.volume(c, rule)
	if err != nil {
		return err
	}
	if id == nil && len(v.Attachments) == 0 {
		// os-terminate_connection took the last one; what is left is the status.
		return a.settle(c, v)
	}
	if id == nil && len(v.Attachments) > 1 {
		if err := a.mayDetachAny(c, v); err != nil {
			return err
		}
		return fault.InvalidVolume("Detach volume failed: More than one attachment, but no attachment_id provided.")
	}
	for _, at := range v.Attachments {
		if id == nil || at.ID == *id {
			if _, err := a.detach(c, at); err != nil {
				return err
			}
			return c.empty(http.StatusAccepted)
		}
	}
	return a.foreignAttachment(c, *id)
}

// foreignAttachment is the answer to an attachment that is not the volume's, or is none:
// without a service token nobody can tell that no server uses it.
func (a *API) foreignAttachment(c *call, id uuid.UUID) error {
	switch _, err := a.Store.Attachment(c.ctx(), id, c.scope()); {
	case err == nil:
		return fault.InvalidInput("Mismatched volume and attachment")
	case !errors.Is(err, model.ErrNotFound):
		return err
	case !c.id.ServiceToken:
		return usedByNova("")
	}
	return fault.NotFound(noAttachment, id)
}

// settle makes a volume without attachments available again.
func (a *API) settle(c *call, v model.Volume) error {
	from := []model.VolumeStatus{model.VolumeDetaching, model.VolumeAttaching, model.VolumeInUse}
	_, err := a.Store.MoveVolume(c.ctx(), v.ID, model.VolumeMove{From: from, To: model.VolumeAvailable})
	if err != nil && !isState(err) {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}
