// Package keystone tells who sends a request: tokens are validated with Keystone
// (Identity API v3) by a service user, as keystonemiddleware does.
package keystone

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

// AdminRole is the role that makes an administrator, unless policy rule context_is_admin
// says otherwise.
const AdminRole = "admin"

// Errors of [Authenticator].
var (
	// ErrUnauthorized: no token, or not a valid one.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrUnreachable: Keystone can't be asked, so nobody knows.
	ErrUnreachable = errors.New("keystone unreachable")
)

// Identity of a caller.
type Identity struct {
	UserID      string
	UserName    string
	ProjectID   string // "" for tokens without a project
	ProjectName string
	DomainID    string // of the project
	// What else a policy may ask for, "" for none: the user's domain, the domain that the
	// token is for, and "all" for a token of the whole system.
	UserDomainID, ScopeDomainID, SystemScope string

	Roles []string
	Admin bool // sees all projects: policy rule context_is_admin, by default role admin
	// ServiceToken: another service vouches for the request (X-Service-Token with one of service_token_roles).
	ServiceToken bool
	// Token to act for the caller with at other services. Never logged.
	Token string
}

// String shows no secret.
func (i Identity) String() string { return "user " + i.UserID + " project " + i.ProjectID }

// HasRole tells whether the caller has the role.
func (i Identity) HasRole(role string) bool { return slices.Contains(i.Roles, role) }

// Authenticator finds out who sends a request. Errors are ErrUnauthorized or ErrUnreachable.
type Authenticator interface {
	// Authenticate; project is the one in the URL, "" if there is none. It is not to be
	// trusted: who compares it with the identity's is the caller.
	Authenticate(ctx context.Context, h http.Header, project string) (Identity, error)
	// Challenge is the value of WWW-Authenticate, "" for none.
	Challenge() string
}
