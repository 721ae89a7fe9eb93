package v3

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/request"
)

// route is one row of the API: from microversion 3.min on.
type route struct {
	method string
	path   string // below /v3/{project_id}
	min    microversion.Version
	h      handler
	global bool // exists without project id only
}

// AddTo adds all routes to a router, below /v3 and below /v3/{project_id}. The pattern
// is that of project ids, without anchors.
func (a *API) AddTo(router *mux.Router, projectPattern string) {
	for _, r := range a.routes() {
		h := a.serve(r)
		if !r.global {
			router.Handle("/v3/{project_id:"+projectPattern+"}"+r.path, h).Methods(r.method)
		}
		router.Handle("/v3"+r.path, h).Methods(r.method)
	}
}

func (a *API) routes() []route {
	var all []route
	for _, noun := range []func() []route{
		a.volumeRoutes, a.metadataRoutes, a.snapshotRoutes, a.backupRoutes, a.attachmentRoutes, a.typeRoutes, a.quotaRoutes,
		a.serviceRoutes, a.poolRoutes, a.messageRoutes, a.qosRoutes, a.transferRoutes, a.infoRoutes, a.manageRoutes, a.operatorRoutes,
		a.groupTypeRoutes, a.groupRoutes, a.groupSnapshotRoutes, a.consistencyGroupRoutes, a.clusterRoutes,
	} {
		all = append(all, noun()...)
	}
	return all
}

// serve wraps a handler with what holds for every resource, in Cinder's order:
// microversion, route's microversion, body's type, project of the URL.
func (a *API) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.From(r.Context())
		c := &call{w: w, r: r, vars: pathVars(r), info: info, id: info.Identity, rules: a.Policy, backend: a.Backend}
		if err := a.run(c, rt); err != nil {
			f := toFault(err)
			if f.Status >= http.StatusInternalServerError || f.Cause != nil {
				info.Err = err
			}
			fault.Write(w, f)
		}
	})
}

func (a *API) run(c *call, rt route) error {
	c.w.Header().Add("Vary", microversion.Header)
	mv, err := microversion.Negotiate(c.r.Header)
	if err != nil {
		return err
	}
	c.mv = mv
	c.w.Header().Set(microversion.Header, microversion.Service+" "+mv.String())
	if mv < rt.min {
		return fault.NotFound("The resource could not be found.")
	}
	if c.body, err = readBody(c.r); err != nil {
		return err
	}
	if c.id.ProjectID == "" && !c.id.Admin {
		// Nowhere below may "no project" come to mean "all projects".
		return fault.New(http.StatusForbidden, "A token with a project is needed.")
	}
	if p, ok := c.vars["project_id"]; ok && !sameProject(p, c.id.ProjectID) {
		return fault.BadRequest("Malformed request url")
	}
	return rt.h(c)
}

// sameProject: Cinder compares as text; ids come with and without dashes from some clients.
func sameProject(url, token string) bool {
	return url == token || token != "" && strings.ReplaceAll(url, "-", "") == strings.ReplaceAll(token, "-", "")
}
