// Package fault holds errors as the Block Storage API shows them: a JSON object with
// one key named after the status, as Cinder writes them (cinder/api/openstack/wsgi.py, Fault).
package fault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Internal is the message of every 500; the cause goes to the log, not to the client.
const Internal = "The server has either erred or is incapable of performing the requested operation."

// Fault is an error with its HTTP status. Message is for users.
type Fault struct {
	Status     int
	Message    string
	RetryAfter int   // seconds; header Retry-After if Status is 413 or 503
	Cause      error // for the log
}

// Error implements error.
func (f *Fault) Error() string { return strconv.Itoa(f.Status) + ": " + f.Message }

// Unwrap returns the cause, if any.
func (f *Fault) Unwrap() error { return f.Cause }

// New makes a fault. Without args the format is taken as it is.
func New(status int, format string, args ...any) *Fault {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return &Fault{Status: status, Message: format}
}

// BadRequest is a 400.
func BadRequest(format string, args ...any) *Fault {
	return New(http.StatusBadRequest, format, args...)
}

// NotFound is a 404.
func NotFound(format string, args ...any) *Fault { return New(http.StatusNotFound, format, args...) }

// Conflict is a 409.
func Conflict(format string, args ...any) *Fault { return New(http.StatusConflict, format, args...) }

// InvalidInput is a 400 in the words of Cinder's InvalidInput.
func InvalidInput(format string, args ...any) *Fault {
	f := BadRequest(format, args...)
	f.Message = "Invalid input received: " + f.Message
	return f
}

// InvalidVolume is a 400 in the words of Cinder's InvalidVolume.
func InvalidVolume(format string, args ...any) *Fault {
	f := BadRequest(format, args...)
	f.Message = "Invalid volume: " + f.Message
	return f
}

// Unavailable is a 503 that asks to try again in five seconds.
func Unavailable(cause error, format string, args ...any) *Fault {
	f := New(http.StatusServiceUnavailable, format, args...)
	f.RetryAfter, f.Cause = 5, cause
	return f
}

// Server is a 500; the cause is for the log only.
func Server(cause error) *Fault {
	return &Fault{Status: http.StatusInternalServerError, Message: Internal, Cause: cause}
}

// Key is the name of the JSON object for a status.
func Key(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "badRequest"
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "itemNotFound"
	case http.StatusMethodNotAllowed:
		return "badMethod"
	case http.StatusConflict:
		return "conflictingRequest"
	case http.StatusRequestEntityTooLarge:
		return "overLimit"
	case http.StatusUnsupportedMediaType:
		return "badMediaType"
	case http.StatusNotImplemented:
		return "notImplemented"
	case http.StatusServiceUnavailable:
		return "serviceUnavailable"
	}
	return "computeFault"
}

// Write sends the fault.
func Write(w http.ResponseWriter, f *Fault) {
	body := map[string]any{"code": f.Status, "message": f.Message}
	if f.Status == http.StatusRequestEntityTooLarge || f.Status == http.StatusServiceUnavailable {
		after := strconv.Itoa(f.RetryAfter)
		w.Header().Set("Retry-After", after)
		if f.Status == http.StatusRequestEntityTooLarge {
			body["retryAfter"] = after
		}
	}
	b, err := json.Marshal(map[string]any{Key(f.Status): body})
	if err != nil { // a map of strings and ints
		b = []byte(`{"computeFault":{"code":500,"message":"` + Internal + `"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(f.Status)
	_, _ = w.Write(b) // the client is gone if this fails
}
