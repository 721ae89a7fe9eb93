// Package api is the control plane's HTTP side: the Block Storage API v3 with what stands
// before it: request ids, logging, limits, versions and authentication.
package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/gorilla/mux"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
)

// MaxBody is the default of osapi_max_request_body_size in bytes.
const MaxBody = 114688

// Config of the handler.
type Config struct {
	V3   v3.Config
	Auth keystone.Authenticator // keystone.New(…) or keystone.NoAuth{}
	Log  *logrus.Entry

	// PublicEndpoint is the base of links, for instance https://cloud.example/volume; "":
	// what the request was sent to.
	PublicEndpoint string
	// ProxyHeaders: believe Forwarded and X-Forwarded-* (enable_proxy_headers_parsing).
	ProxyHeaders   bool
	CORS           CORS   // web pages that may ask; none by default
	MaxBody        int64  // largest request body in bytes; 0 = MaxBody
	ProjectPattern string // of project ids in URLs (project_id_regex); "" = [0-9a-f\-]+
	// Healthy is asked by /healthcheck; nil: always well.
	Healthy func(r *http.Request) error

	project *regexp.Regexp // ProjectPattern as a whole
}

// New assembles the handler. It starts nothing and connects to nothing.
func New(cfg Config) (http.Handler, error) {
	if cfg.Auth == nil {
		return nil, errors.New("api: an authenticator is needed")
	}
	if cfg.Log == nil {
		cfg.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = MaxBody
	}
	if cfg.ProjectPattern == "" {
		cfg.ProjectPattern = `[0-9a-f\-]+`
	}
	project, err := regexp.Compile("^(?:" + cfg.ProjectPattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("api: project_id_regex: %w", err)
	}
	cfg.project = project
	cfg.PublicEndpoint = strings.TrimRight(cfg.PublicEndpoint, "/")
	if cfg.V3.Log == nil {
		cfg.V3.Log = cfg.Log
	}
	volumes, err := v3.New(cfg.V3)
	if err != nil {
		return nil, err
	}

	inner := newRouter() // behind authentication
	inner.Path("/v3/").Methods(http.MethodGet).HandlerFunc(versions(http.StatusOK))
	volumes.AddTo(inner, cfg.ProjectPattern)

	outer := newRouter()
	outer.Path("/").HandlerFunc(versions(http.StatusMultipleChoices))
	outer.Path("/healthcheck").Methods(http.MethodGet, http.MethodHead).HandlerFunc(cfg.healthcheck)
	outer.Path("/v3").HandlerFunc(redirectV3)
	outer.PathPrefix("/v3/").Handler(cfg.authenticate(inner))

	return cfg.observe(cfg.CORS.wrap(cfg.limit(readable(trimJSON(outer))))), nil
}

// newRouter answers an unknown path or method with 404, never 405, and redirects nothing.
func newRouter() *mux.Router {
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = http.HandlerFunc(unknownRoute)
	r.MethodNotAllowedHandler = http.HandlerFunc(unknownRoute)
	return r
}
