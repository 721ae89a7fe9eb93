package keystone

import (
	"context"
	"net/http"
	"strings"
)

// NoAuth trusts everybody: auth_strategy = noauth, for trials. As Cinder's noauth
// middleware it takes X-Auth-Token as user:project; everybody is an administrator.
type NoAuth struct{}

// Challenge implements [Authenticator].
func (NoAuth) Challenge() string { return "" }

// Authenticate implements [Authenticator]; it has no error. Without a project in the
// token it is the one in the URL.
func (NoAuth) Authenticate(_ context.Context, h http.Header, project string) (Identity, error) {
	token := h.Get("X-Auth-Token")
	user, inToken, _ := strings.Cut(token, ":")
	if user == "" {
		user = "admin"
	}
	switch {
	case inToken != "":
		project = inToken
	case project == "":
		project = user
	}
	return Identity{
		UserID: user, UserName: user, ProjectID: project, ProjectName: project,
		Roles: []string{AdminRole, "member", "reader"}, Admin: true,
		ServiceToken: h.Get("X-Service-Token") != "", Token: token,
	}, nil
}
