package v3

import (
	"net/http"

	"github.com/google/uuid"

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
func (a *API) messageQuery(c *call) (w asked, err error) {
	if w.limit = -1; c.mv >= 5 {
		columns := map[string]string{}
		var sorts []string
		for _, k := range []string{
			"id", "project_id", "request_id", "resource_type", "resource_uuid", "event_id", "message_level", "created_at", "expires_at",
		} {
			columns[k], sorts = k, append(sorts, k)
		}
		params := c.r.URL.Query()
		if w, err = a.asked(params, noMessage, sorts); err != nil {
			return w, err
		}
		rules := filterRules{allowed: a.filtersOf("message"), admin: c.id.Admin || c.mv < 31, mv: c.mv, columns: columns}
		if w.query.Filters, w.nothing, err = rules.parse(params); err != nil {
			return w, err
		}
	} else {
		w.query.Limit = a.MaxLimit
	}
	// Cinder lists the messages of all projects to everybody; what others failed at is nobody's business.
	w.query.ProjectID = c.scope()
	return w, nil
}

func (a *API) listMessages(c *call) error {
	if err := c.allow("message:get_all"); err != nil {
		return err
	}
	w, err := a.messageQuery(c)
	if err != nil {
		return err
	}
	return listing[model.Message]{
		key: "messages", links: "messages_links", missing: noMessage,
		id:   func(m *model.Message) uuid.UUID { return m.ID },
		find: a.Store.Messages,
		show: each(c.view().Message),
	}.send(a, c, w)
}

func (a *API) message(c *call, rule string) (model.Message, error) {
	m, err := byID(c, c.vars["id"], noMessage, a.Store.Message)
	if err != nil {
		return m, err
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
