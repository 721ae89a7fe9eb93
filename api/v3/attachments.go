package v3

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noAttachment = "Volume attachment could not be found with filter: attachment_id = %s."

// undoTime is how long a cleanup may take that goes on after its request.
const undoTime = 30 * time.Second

func (a *API) attachmentRoutes() []route {
	return []route{
		{method: "GET", path: "/attachments", min: 27, h: a.listAttachments},
		{method: "GET", path: "/attachments/detail", min: 27, h: a.listAttachmentsDetail},
		{method: "POST", path: "/attachments", min: 27, h: a.createAttachment},
		{method: "GET", path: "/attachments/{id}", min: 27, h: a.showAttachment},
		{method: "PUT", path: "/attachments/{id}", min: 27, h: a.updateAttachment},
		{method: "DELETE", path: "/attachments/{id}", min: 27, h: a.deleteAttachment},
		{method: "POST", path: "/attachments/{id}/action", min: 44, h: a.attachmentAction},
	}
}

// attachment finds the one in the path.
func (a *API) attachment(c *call) (model.Attachment, error) {
	id, err := uuid.Parse(c.vars["id"])
	if err != nil {
		return model.Attachment{}, fault.NotFound(noAttachment, c.vars["id"])
	}
	at, err := a.Store.Attachment(c.ctx(), id, c.scope())
	return at, notFound(err, noAttachment, c.vars["id"])
}

func (a *API) listAttachments(c *call) error       { return a.attachmentList(c, false) }
func (a *API) listAttachmentsDetail(c *call) error { return a.attachmentList(c, true) }

func (a *API) attachmentList(c *call, detail bool) error {
	params := c.r.URL.Query()
	w, err := a.askedOwn(c, params, noAttachment,
		[]string{"id", "created_at", "updated_at", "attach_status", "volume_id", "instance_uuid", "attached_host"})
	if err != nil {
		return err
	}
	rules := filterRules{allowed: a.filtersOf("attachment"), admin: c.id.Admin, mv: c.mv, columns: map[string]string{
		"id": "id", "volume_id": "volume_id", "status": "attach_status", "attach_status": "attach_status",
		"instance_id": "instance_uuid", "instance_uuid": "instance_uuid", "attached_host": "attached_host",
		"project_id": "project_id",
	}}
	if err := w.filter(rules, params, "id", "volume_id", "instance_uuid"); err != nil {
		return err
	}
	w.query.Detail = detail
	return listing[model.Attachment]{
		key: "attachments", links: "attachments_links", missing: noAttachment,
		id:   func(at *model.Attachment) uuid.UUID { return at.ID },
		find: a.Store.ListAttachments,
		show: each(oneOf(detail, c.view().Attachment, c.view().AttachmentSummary)),
	}.send(a, c, w)
}

func (a *API) showAttachment(c *call) error {
	at, err := a.attachment(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"attachment": c.view().Attachment(&at)})
}

// createAttachment reserves the volume and, with a connector, connects it at once.
func (a *API) createAttachment(c *call) error {
	in, err := c.inner("attachment")
	if err != nil {
		return err
	}
	keys := []string{"volume_uuid", "instance_uuid", "connector"}
	if c.mv >= 54 {
		keys = append(keys, "mode")
	}
	if err := in.Only(keys...); err != nil {
		return err
	}
	if err := in.Require("volume_uuid"); err != nil {
		return err
	}
	ref, err := in.UUID("volume_uuid")
	if err != nil {
		return err
	}
	if ref == nil {
		return in.Invalid("volume_uuid", "None is not of type 'string'")
	}
	for _, key := range []string{"instance_uuid", "mode"} {
		if in.Given(key) && !in.Has(key) {
			return in.Invalid(key, "None is not of type 'string'")
		}
	}
	instance, err := in.UUID("instance_uuid")
	if err != nil {
		return err
	}
	mode, err := in.Enum("mode", "rw", "ro")
	if err != nil {
		return err
	}
	connector, err := in.Optional("connector")
	if err != nil {
		return err
	}
	v, err := a.volumeByID(c, ref.String(), "volume:attachment_create")
	if err != nil {
		return err
	}
	if v.ReadOnly { // whatever was asked for
		mode = new("ro")
	}
	connect := connector != nil && len(connector.Keys()) > 0
	if connect {
		if _, err := readConnector(connector); err != nil {
			return err
		}
		if err := a.bus(c); err != nil { // before anything is written
			return err
		}
	}
	at, err := a.reserve(c, v, model.Attachment{
		ID: uuid.New(), VolumeID: v.ID, ProjectID: v.ProjectID, UserID: c.id.UserID, InstanceUUID: instance,
		AttachMode: mode, Status: model.AttachReserved,
	})
	if err != nil {
		return err
	}
	if connect {
		made, err := a.connect(c, at, v, connector)
		if err != nil {
			a.undo(c, at.ID)
			return connectFault(err, "Unable to create attachment for volume")
		}
		at = asBefore(made, at)
	}
	return c.json(http.StatusOK, view.Object{"attachment": c.view().Attachment(&at)})
}

func (a *API) reserve(c *call, v model.Volume, at model.Attachment) (model.Attachment, error) {
	if strings.Contains(string(v.Status), "error") {
		return at, fault.InvalidVolume("Volume attachments can not be created if the volume is in an error state. "+
			"The Volume %s currently has a status of: %s", v.ID, v.Status)
	}
	if v.Multiattach && v.Bootable && len(v.Attachments) > 0 {
		if err := c.allowOwner("volume:multiattach_bootable_volume", v.ProjectID, v.UserID); err != nil {
			return at, err
		}
	}
	made, err := a.Store.Reserve(c.ctx(), at)
	switch {
	case isState(err):
		return at, fault.InvalidVolume("Volume %s status must be available or downloading to reserve, but the current status is %s.", v.ID, v.Status)
	case err != nil:
		return at, notFound(err, noVolume, v.ID)
	}
	return made, nil
}

// readConnector checks what Nova tells about its host.
func readConnector(in *schema.Object) (model.Connector, error) {
	var cn model.Connector
	if err := json.Unmarshal(in.Self(), &cn); err != nil {
		return cn, in.InvalidSelf("A field of the connector has the wrong type")
	}
	if cn.Host == "" {
		return cn, fault.InvalidInput("Connector doesn't have required information: host")
	}
	return cn, nil
}

func (a *API) connect(c *call, at model.Attachment, v model.Volume, in *schema.Object) (model.Attachment, error) {
	cn, err := readConnector(in)
	if err != nil {
		return at, err
	}
	mode := "rw"
	if v.ReadOnly || at.AttachMode != nil && *at.AttachMode == "ro" {
		mode = "ro"
	}
	return a.Scheduler.Connect(c.ctx(), at.ID, cn, in.Self(), mode)
}

// connectFault: what a client can do something about keeps its meaning; the rest is the
// 500 that Nova knows.
func connectFault(err error, what string) error {
	var f *fault.Fault
	switch {
	case errors.As(err, &f), errors.Is(err, model.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, model.ErrNotFound):
		return fault.NotFound("The volume or its attachment could not be found.")
	case errors.Is(err, model.ErrInvalid), isState(err):
		return fault.InvalidVolume("%s", plain(err))
	}
	return &fault.Fault{Status: http.StatusInternalServerError, Message: what + " (" + plain(err) + ").", Cause: err}
}

// undo takes back a reservation whose connection failed; it goes on without the client.
func (a *API) undo(c *call, attachment uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), undoTime)
	defer cancel()
	if _, err := a.Scheduler.Disconnect(ctx, attachment); err != nil && !errors.Is(err, model.ErrNotFound) {
		a.Log.WithFields(map[string]any{"request_id": c.info.ID, "attachment": attachment}).WithError(err).
			Warn("reservation of a failed attachment is left; delete the attachment")
	}
}

// bus is a 503 if nodes can't be talked to now.
func (a *API) bus(c *call) error {
	if err := a.Scheduler.Healthy(c.ctx()); err != nil {
		return fault.Unavailable(err, "The message bus is unavailable at the moment, nothing has been changed; please try again.")
	}
	return nil
}

func (a *API) updateAttachment(c *call) error {
	in, err := c.inner("attachment")
	if err != nil {
		return err
	}
	if err := in.Only("connector"); err != nil {
		return err
	}
	connector, err := in.Object("connector")
	if err != nil {
		return err
	}
	if len(connector.Keys()) == 0 {
		return connector.InvalidSelf("{} does not have enough properties")
	}
	at, err := a.attachment(c)
	if err != nil {
		return err
	}
	if err := c.allowOn("volume:attachment_update", at.ProjectID); err != nil {
		return err
	}
	if _, err := readConnector(connector); err != nil {
		return err
	}
	v, err := a.Store.Volume(c.ctx(), at.VolumeID, c.scope())
	if err != nil {
		return notFound(err, noVolume, at.VolumeID)
	}
	if strings.Contains(string(v.Status), "error") {
		return fault.InvalidVolume("Volume attachments can not be updated if the volume is in an error state. "+
			"The Volume %s currently has a status of: %s", v.ID, v.Status)
	}
	if err := a.bus(c); err != nil {
		return err
	}
	made, err := a.connect(c, at, v, connector)
	if err != nil {
		return connectFault(err, "Unable to update attachment.")
	}
	made = asBefore(made, at)
	return c.json(http.StatusOK, view.Object{"attachment": c.view().Attachment(&made)})
}

// asBefore: the answer to a connection has the connection, and the rest as it was before, as
// Cinder's has; who asks again sees how it is.
func asBefore(made, was model.Attachment) model.Attachment {
	made.Status, made.AttachedAt = was.Status, was.AttachedAt
	return made
}

func (a *API) attachmentAction(c *call) error {
	name, _, err := c.action()
	if err != nil {
		return err
	}
	if name != "os-complete" {
		return noAction(name)
	}
	at, err := a.attachment(c)
	if err != nil {
		return err
	}
	if err := c.allowOn("volume:attachment_complete", at.ProjectID); err != nil {
		return err
	}
	if at.Status != model.AttachAttached { // Nova may say it twice
		err := a.Store.CompleteAttachment(c.ctx(), at.ID)
		if isState(err) {
			return fault.InvalidVolume("attachment %s is %s and can not be completed.", at.ID, at.Status)
		}
		if err != nil {
			return notFound(err, noAttachment, at.ID)
		}
	}
	return c.empty(http.StatusNoContent)
}

func (a *API) deleteAttachment(c *call) error {
	at, err := a.attachment(c)
	if err != nil {
		return err
	}
	if err := c.allowOn("volume:attachment_delete", at.ProjectID); err != nil {
		return err
	}
	left, err := a.detach(c, at)
	if err != nil {
		return err
	}
	rows := make([]view.Object, 0, len(left))
	for i := range left {
		rows = append(rows, c.view().AttachmentSummary(&left[i]))
	}
	return c.json(http.StatusOK, view.Object{"attachments": rows})
}
