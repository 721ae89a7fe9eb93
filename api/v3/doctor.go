package v3

import (
	"errors"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// operatorDoctor tells what is wrong.
func (a *API) operatorDoctor(c *call) error { return a.doctor(c, false) }

// operatorRepair mends what is safe of it.
func (a *API) operatorRepair(c *call) error { return a.doctor(c, true) }

func (a *API) doctor(c *call, repair bool) error {
	if err := c.allow("vmthunder:doctor"); err != nil {
		return err
	}
	q := c.r.URL.Query()
	for k := range q {
		if k != "node" && k != "image" && k != "volume" {
			return fault.BadRequest("Invalid parameter %s: only node, image and volume are known.", k)
		}
	}
	d, err := a.Scheduler.Doctor(c.ctx(), model.Checkup{Node: q.Get("node"), Image: q.Get("image"), Volume: q.Get("volume"), Repair: repair})
	switch {
	case errors.Is(err, model.ErrInvalid):
		return fault.BadRequest("%s", err.Error())
	case errors.Is(err, model.ErrNotFound):
		return fault.NotFound("%s", err.Error())
	case err != nil:
		return err
	}
	return c.json(http.StatusOK, view.OperatorDiagnosis(&d))
}
