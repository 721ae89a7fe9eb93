// Package request carries what is known about a request from the outer middleware to
// the handlers, and back to the log line written at its end.
package request

import (
	"context"

	"github.com/vmthunder/vmthunder/api/keystone"
)

// Info of one request. The outermost middleware makes it; each layer fills in its part.
type Info struct {
	ID       string // req-<uuid>, ours
	GlobalID string // req-<uuid> of the caller, "" if none
	// BaseURL is scheme, host and prefix for links, without a slash at the end.
	BaseURL  string
	Identity keystone.Identity
	Err      error // cause of a fault, for the log
}

type key struct{}

// With returns a context that carries info.
func With(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, key{}, info)
}

// From returns the context's info; without one an empty one, never nil.
func From(ctx context.Context) *Info {
	if i, ok := ctx.Value(key{}).(*Info); ok {
		return i
	}
	return &Info{}
}
