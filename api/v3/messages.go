package v3

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const noMessage = "Message %s could not be found."

func (a *API) messageRoutes() []route {
	return []route{
		{method: "GET", path: "/messages", min: 3, h: a.listMessages},
		{method: "GET", path: "/messages/{id}", min: 3, h: a.showMessage},
		{method: "DELETE", path: "/messages/{id}", min: 3, h: a.deleteMessage},
	}
}

func (a *API) listMessages(c *call) error {
	if err := c.allow("message:get_all"); err != nil {
		return err
	}
	q := model.ListQuery{ProjectID: c.id.ProjectID, Limit: a.MaxLimit}
	p := page{limit: -1}
	nothing := false
	if c.mv >= 5 || c.r.URL.Query().Has("limit") {
		var err error
		if p, err = a.paging(c.r.URL.Query(), []string{"id", "event_id", "resource_uuid", "resource_type", "request_id",
			"message_level", "created_at"}); err != nil {
			return err
		}
		if q, err = p.query(a.MaxLimit, noMessage); err != nil {
			return err
		}
		q.ProjectID = c.id.ProjectID
		rules := filterRules{resource: "message", admin: c.id.Admin, mv: c.mv, columns: map[string]string{
			"resource_uuid": "resource_uuid", "resource_type": "resource_type", "event_id": "event_id",
			"request_id": "request_id", "message_level": "message_level",
		}}
		if q.Filters, nothing, err = rules.parse(c.r.URL.Query()); err != nil {
			return err
		}
		for _, f := range q.Filters {
			nothing = nothing || f.Column == "resource_uuid" && f.Op == "=" && !isUUID(f.Value)
		}
	}
	messages := []model.Message{}
	if !nothing && p.limit != 0 {
		var err error
		if messages, err = a.Store.Messages(c.ctx(), q); err != nil {
			return notFound(err, noMessage, p.marker)
		}
	}
	rows := make([]view.Object, 0, len(messages))
	for i := range messages {
		rows = append(rows, c.view().Message(&messages[i]))
	}
	body := view.Object{"messages": rows}
	if len(messages) > 0 {
		c.next(body, "messages_links", p, a.MaxLimit, len(messages), messages[len(messages)-1].ID.String())
	}
	return c.json(http.StatusOK, body)
}

func (a *API) message(c *call, rule string) (model.Message, error) {
	id, err := uuid.Parse(c.vars["id"])
	if err != nil {
		return model.Message{}, fault.NotFound(noMessage, c.vars["id"])
	}
	m, err := a.Store.Message(c.ctx(), id, c.scope())
	if err != nil {
		return m, notFound(err, noMessage, c.vars["id"])
	}
	return m, c.allowOn(rule, m.ProjectID)
}

func (a *API) showMessage(c *call) error {
	m, err := a.message(c, "message:get")
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"message": c.view().Message(&m)})
}

func (a *API) deleteMessage(c *call) error {
	m, err := a.message(c, "message:delete")
	if err != nil {
		return err
	}
	if err := a.Store.DeleteMessage(c.ctx(), m.ID, c.scope()); err != nil {
		return notFound(err, noMessage, m.ID)
	}
	return c.emptyHTML(http.StatusNoContent)
}
