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

// messageQuery: there are pages and filters from 3.5 on, before that parameters mean
// nothing. Up to 3.30 all columns are for everybody, and an unknown one matches nothing.
func (a *API) messageQuery(c *call) (q model.ListQuery, p page, nothing bool, err error) {
	// Cinder lists the messages of all projects to everybody; what others failed at is nobody's business.
	q, p = model.ListQuery{ProjectID: c.scope(), Limit: a.MaxLimit}, page{limit: -1}
	if c.mv < 5 {
		return q, p, false, nil
	}
	columns := map[string]string{}
	var sorts []string
	for _, k := range []string{
		"id", "project_id", "request_id", "resource_type", "resource_uuid", "event_id", "message_level", "created_at", "expires_at",
	} {
		columns[k], sorts = k, append(sorts, k)
	}
	params := c.r.URL.Query()
	if p, err = a.paging(params, sorts); err != nil {
		return q, p, false, err
	}
	if q, err = p.query(a.MaxLimit, noMessage); err != nil {
		return q, p, false, err
	}
	q.ProjectID = c.scope()
	rules := filterRules{resource: "message", admin: c.id.Admin || c.mv < 31, mv: c.mv, columns: columns}
	q.Filters, nothing, err = rules.parse(params)
	return q, p, nothing, err
}

func (a *API) listMessages(c *call) error {
	if err := c.allow("message:get_all"); err != nil {
		return err
	}
	q, p, nothing, err := a.messageQuery(c)
	if err != nil {
		return err
	}
	messages := []model.Message{}
	if !nothing && p.limit != 0 {
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
