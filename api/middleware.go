package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/request"
)

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

var requestID = regexp.MustCompile(`^req-[0-9a-fA-F-]{36}$`)

// observe gives each request its id, writes one line of log about it, and makes a 500 of
// a panic. Tokens and query strings, which may hold names, are not logged.
func (cfg Config) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		info := &request.Info{ID: "req-" + uuid.NewString(), BaseURL: cfg.baseURL(r)}
		if id := r.Header.Get("X-OpenStack-Request-ID"); requestID.MatchString(id) {
			info.GlobalID = id
		}
		rec := &recorder{ResponseWriter: w}
		w.Header().Set("x-openstack-request-id", info.ID)
		w.Header().Set("x-compute-request-id", info.ID)
		r = r.WithContext(request.With(r.Context(), info))
		path := r.URL.Path // before a suffix is cut off
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p) // net/http's own way to cut a connection
				}
				info.Err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				if rec.status == 0 {
					fault.Write(rec, fault.Server(nil))
				}
			}
			cfg.log(r, path, info, rec, time.Since(start))
		}()
		next.ServeHTTP(rec, r)
	})
}

func (cfg Config) log(r *http.Request, path string, info *request.Info, rec *recorder, took time.Duration) {
	entry := cfg.Log.WithFields(logrus.Fields{
		"request_id": info.ID, "method": r.Method, "path": path, "status": rec.status, "bytes": rec.bytes,
		"duration": took.Round(time.Microsecond).String(), "project": info.Identity.ProjectID, "user": info.Identity.UserID,
	})
	if info.GlobalID != "" {
		entry = entry.WithField("global_request_id", info.GlobalID)
	}
	if info.Err != nil {
		entry = entry.WithError(info.Err)
	}
	switch {
	case rec.status >= http.StatusInternalServerError && rec.status != http.StatusServiceUnavailable:
		entry.Error("request failed")
	case info.Err != nil:
		entry.Warn("request refused")
	default:
		entry.Info("request")
	}
}

// limit refuses large bodies, before or while they are read.
func (cfg Config) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > cfg.MaxBody {
			fault.Write(w, fault.New(http.StatusRequestEntityTooLarge,
				"Request is too large. Larger than max_request_body_size (%d).", cfg.MaxBody))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, cfg.MaxBody)
		next.ServeHTTP(w, r)
	})
}

// readable refuses a URL that is no text when decoded: nothing that there is has a NUL or
// what is no UTF-8 in its name. What can't be decoded is passed over further on.
func readable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.QueryUnescape(r.URL.RawQuery)
		if err != nil { // part by part, as it will be read
			query = r.URL.Query().Encode()
			query, _ = url.QueryUnescape(query) // it has just been encoded
		}
		if text := r.URL.Path + query; strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
			fault.Write(w, fault.BadRequest("Malformed request url"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// trimJSON cuts the optional suffix of every route.
func trimJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, ok := strings.CutSuffix(r.URL.Path, ".json"); ok && strings.HasPrefix(path, "/v3/") && !strings.HasSuffix(path, "/") {
			r.URL.Path, r.URL.RawPath = path, ""
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate stands before all of /v3/, unknown routes too, as in Cinder's pipeline.
func (cfg Config) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.From(r.Context())
		id, err := cfg.Auth.Authenticate(r.Context(), r.Header, cfg.urlProject(r.URL.Path))
		switch {
		case err == nil:
			id.Admin = cfg.V3.Policy.Admin(id)
			info.Identity = id
			next.ServeHTTP(w, r)
		case errors.Is(err, keystone.ErrUnauthorized):
			if c := cfg.Auth.Challenge(); c != "" {
				w.Header().Set("WWW-Authenticate", c)
			}
			writeJSON(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{
				"code": http.StatusUnauthorized, "title": "Unauthorized",
				"message": "The request you have made requires authentication.",
			}})
		default:
			info.Err = err
			fault.Write(w, fault.Unavailable(err, "The Keystone service is temporarily unavailable."))
		}
	})
}

// urlProject is the second part of /v3/{project_id}/…, if it has the form of a project.
func (cfg Config) urlProject(path string) string {
	project, _, more := strings.Cut(strings.TrimPrefix(path, "/v3/"), "/")
	if !more || !cfg.project.MatchString(project) {
		return ""
	}
	return project
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		fault.Write(w, fault.Server(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client is gone if this fails
}
