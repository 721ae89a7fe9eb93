package v3

import (
	"net/http"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

// operatorDrain has a node drain; operatorUndrain ends that; operatorDrained tells what is left on it. All
// three answer with what is left.
func (a *API) operatorDrain(c *call) error { return a.drain(c, true) }

func (a *API) operatorUndrain(c *call) error { return a.drain(c, false) }

func (a *API) drain(c *call, on bool) error {
	if err := c.allow("vmthunder:drain"); err != nil {
		return err
	}
	if err := a.Scheduler.Drain(c.ctx(), c.vars["host"], on); err != nil {
		return notFound(err, noNode, c.vars["host"])
	}
	return a.operatorDrained(c)
}

const noNode = "Node %s could not be found."

func (a *API) operatorDrained(c *call) error {
	if err := c.allow("vmthunder:drain"); err != nil {
		return err
	}
	d, err := a.Scheduler.Drained(c.ctx(), c.vars["host"])
	if err != nil {
		return notFound(err, noNode, c.vars["host"])
	}
	return c.json(http.StatusOK, view.OperatorDrain(&d))
}
