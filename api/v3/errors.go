package v3

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/db/model"
)

// toFault makes the answer to an error. What nobody has thought of is a 500.
func toFault(err error) *fault.Fault {
	var f *fault.Fault
	var denied *policy.Denied
	var quota *model.QuotaError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &denied):
		return fault.New(http.StatusForbidden, "%s", denied.Error())
	case errors.As(err, &quota):
		return quotaFault(quota)
	case errors.Is(err, model.ErrUnavailable):
		return fault.Unavailable(err, "The service is unavailable at the moment; please try again.")
	case errors.Is(err, model.ErrNotFound):
		return fault.NotFound("The resource could not be found.")
	case errors.Is(err, model.ErrInvalid):
		return fault.InvalidInput("%s", plain(err))
	case errors.Is(err, model.ErrExists), errors.Is(err, model.ErrConflict):
		return fault.Conflict("%s", plain(err))
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("%s", plain(err))
	case errors.Is(err, context.Canceled): // the client is gone, nobody reads this
		return fault.Unavailable(err, "The request was given up.")
	case errors.Is(err, context.DeadlineExceeded):
		f := fault.New(http.StatusGatewayTimeout, "The operation did not end in time.")
		f.Cause = err
		return f
	}
	return fault.Server(err)
}

// plain is an error's text without the sentinels at its ends.
func plain(err error) string {
	s := strings.ReplaceAll(err.Error(), model.ErrConflict.Error()+": ", "")
	for _, sentinel := range []error{model.ErrInvalid, model.ErrConflict, model.ErrExists, model.ErrInUse, model.ErrNotFound} {
		s = strings.TrimSuffix(strings.TrimPrefix(s, sentinel.Error()+": "), ": "+sentinel.Error())
	}
	return s
}

// notFound makes a 404 in the words of the noun out of model.ErrNotFound.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, model.ErrNotFound) {
		return fault.NotFound(format, args...)
	}
	return err
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.New(http.StatusRequestEntityTooLarge, "Request is too large. Larger than %d.", tooLarge.Limit)
	}
	f := fault.BadRequest("Malformed request body")
	f.Cause = err
	return f
}

// contentType tells whether bodies of a type are read, and whether one is given.
func contentType(header string) (ok, given bool) {
	if header == "" {
		return false, false
	}
	t, _, err := mime.ParseMediaType(header)
	if err != nil {
		return false, true
	}
	return t == "application/json" || t == "application/vnd.openstack.volume+json", true
}

// unsupported is the answer to what Cinder can do and this backend can't yet.
func unsupported(what string) error {
	return fault.BadRequest("Invalid input received: %s is not supported by this backend yet.", what)
}

// isState tells whether an error means that the row is in the wrong status.
func isState(err error) bool {
	return errors.Is(err, model.ErrConflict) || errors.Is(err, model.ErrInUse)
}

// isMissing: the answer would be 404.
func isMissing(err error) bool {
	f := new(fault.Fault)
	return errors.As(err, &f) && f.Status == http.StatusNotFound
}
